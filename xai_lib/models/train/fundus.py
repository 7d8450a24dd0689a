"""The network that grades fundus photographs.

Flips and transposition. Part of every batch is out of focus (blurred under its true
label), so that a blurred photograph is not by itself a sign of either class. Everything is drawn from one seed; the
numbers in the card are those of the float16 weights as shipped, on photographs of another seed.
"""

import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import avg_pool2d

from xai_lib.datasets.fundus import CLASSES, SIZE, Fundus, make_fundus
from xai_lib.models import load_model
from xai_lib.models.train.cards import half, save
from xai_lib.models.train.fit import fit
from xai_lib.models.train.scenes import BLUR_SIGMAS, BLURRED, augment, blur_matrix

TRAIN_SEED, TEST_SEED = 1, 2
TRAIN_COUNT, TEST_COUNT = 1_200, 300
RECIPES = {"fundus_resnet": {"epochs": 20, "learning_rate": 4e-3}}


def evaluate(model: nn.Module, photographs: Fundus) -> dict[str, float]:
    """The card's numbers, on held-out photographs."""
    with torch.no_grad():
        logits = torch.cat([model(part) for part in photographs.images.split(50)])
    right = logits.argmax(1) == photographs.labels
    return {
        "auc": round(float(roc_auc_score(photographs.labels, logits.softmax(1)[:, 1])), 4),
        "accuracy": round(right.float().mean().item(), 4),
    }


def linear_accuracy(train: Fundus, held_out: Fundus) -> float:
    """Of ridge classification of the pixels, averaged over 4 x 4 of them."""
    pixels = [avg_pool2d(part.images, 4).flatten(1) for part in (train, held_out)]
    return round(RidgeClassifier(alpha=100).fit(pixels[0], train.labels).score(pixels[1], held_out.labels), 4)


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    photographs, held_out = make_fundus(TRAIN_COUNT, TRAIN_SEED), make_fundus(TEST_COUNT, TEST_SEED)
    blurs = torch.stack([blur_matrix(sigma, SIZE) for sigma in BLUR_SIGMAS])
    linear = {"accuracy_of_a_linear_model": linear_accuracy(photographs, held_out)}
    for name in names:
        model = load_model(name, pretrained=False)
        fit(
            model,
            photographs.images,
            photographs.labels,
            lambda x, generator: augment(x, 0, blurs, generator),
            name=name,
            **RECIPES[name],
        )
        model.load_state_dict(half(model))
        save(
            name,
            model,
            classes=CLASSES,
            data={
                "module": "xai_lib.datasets.fundus",
                "train": {"seed": TRAIN_SEED, "photographs": TRAIN_COUNT},
                "held_out": {"seed": TEST_SEED, "photographs": TEST_COUNT},
            },
            training=RECIPES[name] | {"blurred": BLURRED},
            held_out=evaluate(model, held_out) | linear,
        )
