"""The paper's networks on CIFAR-10, spoken digits and review sentences, as `XAI_DATA` holds them.

`make models PROFILE=sample` writes weights and cards to `XAI_DATA/models`, beside the data.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib.datasets.folders import Labelled, load_cifar10, load_reviews, load_speech
from xai_lib.datasets.reviews import Vocabulary
from xai_lib.models import load_model, pick_device
from xai_lib.models.sample import REVIEW_LENGTH, WORDS
from xai_lib.models.train.cards import half, save
from xai_lib.models.train.fit import Augment, accuracy, fit
from xai_lib.models.train.reviews import forget_words
from xai_lib.models.train.words import shift_and_scale

RECIPES = {
    "cifar10_cnn": {"epochs": 25, "learning_rate": 3e-3, "batch": 128},
    "speech_m5": {"epochs": 40, "learning_rate": 1e-2},
    "sentences_bilstm": {"epochs": 4, "learning_rate": 3e-3},
}


Load = Callable[..., Labelled]  # called with "train" or "test" and, if not all are wanted, how many


def load_tokens(load: Load, split: str, n: int | None = None) -> Labelled:
    """The last words of the texts as indices, (n, T), in a vocabulary of the training texts' most frequent words."""
    counts = Counter(word for text in load("train").inputs for word in text)
    vocabulary = Vocabulary(sorted(counts, key=lambda word: (-counts[word], word))[: WORDS - 2])
    texts, labels, names = load(split, n)
    return Labelled(vocabulary.encode([text[-REVIEW_LENGTH:] for text in texts], REVIEW_LENGTH), labels, names)


def mirror(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, C, H, W), every other one mirrored."""
    mirrored = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored.to(x.device), x.flip(3), x)


def mirror_and_shift(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, C, H, W), all moved by up to 2 pixels, every other one mirrored."""
    return mirror(x.roll(torch.randint(-2, 3, (2,), generator=generator).tolist(), (2, 3)), generator)


DATA: dict[str, tuple[str, Load, Augment]] = {  # the layout, and how it is loaded and augmented
    "cifar10_cnn": ("cifar10", load_cifar10, mirror_and_shift),
    "speech_m5": ("speech", load_speech, partial(shift_and_scale, shift=800)),
    "sentences_bilstm": ("reviews", partial(load_tokens, load_reviews), forget_words),
}


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    for name in names:
        train(name, load_model(name, pretrained=False), RECIPES[name], *DATA[name])


def train(name: str, model: nn.Module, recipe: Mapping[str, Any], layout: str, load: Load, augment: Augment) -> None:
    """Train a network, on a GPU where there is one, and write its weights and card to `XAI_DATA/models`."""
    device = pick_device()
    inputs, labels, classes = load("train")
    fit(model.to(device), inputs.to(device), labels.to(device), augment, name=name, **recipe)
    model.load_state_dict(half(model))
    held_out = load("test")
    save(
        name,
        model,
        classes=classes,
        data={"layout": layout, "train": len(labels), "held_out": len(held_out.labels)},
        training=recipe,
        held_out={"accuracy": accuracy(model, held_out.inputs.to(device), held_out.labels.to(device))},
    )
