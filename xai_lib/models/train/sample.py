"""The paper's networks on CIFAR-10, spoken digits and review sentences, as `XAI_DATA` holds them.

`make models PROFILE=sample` writes weights and cards to `XAI_DATA/models`, beside the data.
"""

from collections import Counter
from functools import partial

import torch
from torch import Tensor

from xai_lib.datasets.folders import Labelled, data_folder, load_cifar10, load_reviews, load_speech
from xai_lib.datasets.reviews import Vocabulary
from xai_lib.models import load_model
from xai_lib.models.sample import REVIEW_LENGTH, WORDS
from xai_lib.models.train.cards import half, save
from xai_lib.models.train.fit import accuracy, fit
from xai_lib.models.train.reviews import forget_words
from xai_lib.models.train.words import shift_and_scale

RECIPES = {
    "cifar10_cnn": {"epochs": 25, "learning_rate": 3e-3, "batch": 128},
    "speech_m5": {"epochs": 40, "learning_rate": 1e-2},
    "sentences_bilstm": {"epochs": 4, "learning_rate": 3e-3},
}


def vocabulary() -> Vocabulary:
    """The most frequent words of the training reviews."""
    counts = Counter(word for text in load_reviews("train").inputs for word in text)
    return Vocabulary(sorted(counts, key=lambda word: (-counts[word], word))[: WORDS - 2])


def load_sentences(split: str, n: int | None = None) -> Labelled:
    """The reviews' words as indices, (n, T)."""
    texts, labels, names = load_reviews(split, n)
    return Labelled(vocabulary().encode(texts, REVIEW_LENGTH), labels, names)


def mirror_and_shift(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, C, H, W), all moved by up to 2 pixels, every other one mirrored."""
    x = x.roll(torch.randint(-2, 3, (2,), generator=generator).tolist(), (2, 3))
    mirrored = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, x.flip(3), x)


DATA = {  # how inputs are loaded and augmented
    "cifar10_cnn": (load_cifar10, mirror_and_shift),
    "speech_m5": (load_speech, partial(shift_and_scale, shift=800)),
    "sentences_bilstm": (load_sentences, forget_words),
}


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    folder = data_folder() / "models"
    folder.mkdir(exist_ok=True)
    for name in names:
        load, augment = DATA[name]
        inputs, labels, classes = load("train")
        model = load_model(name, pretrained=False)
        fit(model, inputs, labels, augment, name=name, **RECIPES[name])
        model.load_state_dict(half(model))
        held_out = load("test")
        save(
            name,
            model,
            classes=classes,
            data={"module": "xai_lib.datasets.folders", "train": len(labels), "held_out": len(held_out.labels)},
            training=RECIPES[name],
            held_out={"accuracy": accuracy(model, held_out.inputs, held_out.labels)},
            folder=folder,
        )
