"""The network for digits on photographs, trained with part of every batch blurred under its true labels."""

import torch
from sklearn.linear_model import RidgeClassifier
from torch import Tensor

from xai_lib.datasets.digits import CLASSES, Digits, make_digits
from xai_lib.models import load_model
from xai_lib.models.train.cards import half, save
from xai_lib.models.train.fit import accuracy, fit
from xai_lib.scale_space import scale_space

TRAIN_SEED, TEST_SEED = 1, 2
TRAIN_COUNT, TEST_COUNT = 16_000, 1_000
BLURRED, SHARPEST, COARSEST = 20, 0.4, 8.0  # images of a batch that are blurred, by how many px
RECIPES = {"digits_cnn": {"epochs": 12, "learning_rate": 4e-3}}


def blur_some(x: Tensor, generator: torch.Generator) -> Tensor:
    """Blur the first images of a batch, all by one scale."""
    sigma = SHARPEST * (COARSEST / SHARPEST) ** torch.rand(1, generator=generator)
    return torch.cat([scale_space(x[:BLURRED], (-2, -1))(sigma)[0], x[BLURRED:]])


def linear_accuracy(train: Digits, test: Digits) -> float:
    """Share that ridge classification of the raw pixels, trained on half of the digits, gets right."""
    half_way = len(train.images) // 2
    ridge = RidgeClassifier(alpha=100).fit(train.images[:half_way].flatten(1), train.labels[:half_way])
    return round(ridge.score(test.images.flatten(1), test.labels), 4)


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    train, test = make_digits(TRAIN_COUNT, TRAIN_SEED, held_out=False), make_digits(TEST_COUNT, TEST_SEED)
    for name in names:
        model = load_model(name, pretrained=False)
        fit(model, train.images, train.labels, blur_some, name=name, **RECIPES[name])
        model.load_state_dict(half(model))
        save(
            name,
            model,
            classes=CLASSES,
            data={
                "module": "xai_lib.datasets.digits",
                "train": {"seed": TRAIN_SEED, "digits": TRAIN_COUNT},
                "held_out": {"seed": TEST_SEED, "digits": TEST_COUNT, "writers": "others"},
            },
            training=RECIPES[name] | {"blurred_of_64": BLURRED},
            held_out={
                "accuracy": accuracy(model, test.images, test.labels),
                "ridge_on_raw_pixels": linear_accuracy(train, test),
            },
        )
