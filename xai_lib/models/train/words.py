"""The network for words: M5, trained on recordings of one word, shifted and scaled at random."""

from functools import partial

import torch
from torch import Tensor, nn

from xai_lib.datasets.words import CLASSES, make_words
from xai_lib.models import load_model
from xai_lib.models.train.cards import half, save
from xai_lib.models.train.fit import fit

TRAIN_SEED, TEST_SEED = 1, 2
TRAIN_COUNT, TEST_COUNT = 4_000, 500
RECIPES = {"words_m5": {"epochs": 16, "learning_rate": 1e-2}}
SHIFT = 400  # samples, at most


def shift_and_scale(x: Tensor, generator: torch.Generator, shift: int) -> Tensor:
    """Waveforms (n, 1, samples), all moved by at most `shift` samples and each made softer or louder."""
    by = int(torch.randint(-shift, shift + 1, (), generator=generator))
    return 10 ** (torch.rand(len(x), 1, 1, generator=generator).to(x) - 0.7) * x.roll(by, -1)


def evaluate(model: nn.Module) -> dict[str, float]:
    """The card's numbers, on held-out recordings of one word and of two."""
    one, two = (make_words(TEST_COUNT, TEST_SEED, words) for words in (1, 2))
    with torch.no_grad():
        right = model(one.waveforms).argmax(1) == one.labels[:, 0]
        top_two = model(two.waveforms).topk(2).indices.sort().values
    both = (top_two == two.labels.sort().values).all(1)
    return {
        "one_word": round(right.float().mean().item(), 4),
        "two_words_both_in_top_two": round(both.float().mean().item(), 4),
    }


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    words = make_words(TRAIN_COUNT, TRAIN_SEED)
    for name in names:
        model = load_model(name, pretrained=False)
        augment = partial(shift_and_scale, shift=SHIFT)
        fit(model, words.waveforms, words.labels[:, 0], augment, name=name, **RECIPES[name])
        model.load_state_dict(half(model))
        save(
            name,
            model,
            classes=CLASSES,
            data={
                "module": "xai_lib.datasets.words",
                "train": {"seed": TRAIN_SEED, "one_word": TRAIN_COUNT},
                "held_out": {"seed": TEST_SEED, "one_word": TEST_COUNT, "two_words": TEST_COUNT},
            },
            training=RECIPES[name] | {"shift": SHIFT},
            held_out=evaluate(model),
        )
