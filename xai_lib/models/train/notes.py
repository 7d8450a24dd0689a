"""The network for log-mel patches of notes.

A binary cross-entropy per label, on single notes, pairs of notes, and noise,
sines and silence. Nothing is blurred in training, as in the paper. Everything is drawn from one seed; the numbers in
the card are those of the float16 weights as shipped, on clips of another seed.
"""

import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits

from xai_lib.datasets.notes import INSTRUMENTS, LABELS, log_mel, make_notes
from xai_lib.models import load_model
from xai_lib.models.train.cards import half, save
from xai_lib.models.train.fit import fit

TRAIN_SEED, TEST_SEED = 1, 2
TRAIN_COUNTS, TEST_COUNTS = {0: 240, 1: 1_000, 2: 500}, {0: 150, 1: 200, 2: 100}  # clips of so many voices
BATCH = 50
INSTRUMENT = slice(LABELS.index(INSTRUMENTS[0]), LABELS.index(INSTRUMENTS[-1]) + 1)
RECIPES = {"notes_resnet": {"epochs": 14, "learning_rate": 4e-3}}


def patches(counts: dict[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Log-mel patches (n, 1, 96, 64) and labels (n, 17) of clips of 0, 1 and 2 voices."""
    clips = [make_notes(n, seed, voices) for voices, n in counts.items()]
    return torch.cat([log_mel(part.waves) for part in clips]), torch.cat([part.labels for part in clips])


def train(model: nn.Module, inputs: Tensor, labels: Tensor, name: str, **settings: float) -> nn.Module:
    """The network after training on patches (n, 1, 96, 64) and their labels (n, L) of 0 and 1."""
    loss = binary_cross_entropy_with_logits
    return fit(model, inputs, labels, lambda x, generator: x, name=name, batch=BATCH, loss=loss, **settings)


def evaluate(model: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, float]:
    """The card's numbers, on held-out patches."""
    with torch.no_grad():
        scores = torch.cat([model(part) for part in inputs.split(100)])
    notes = single(labels)
    right = scores[notes][:, INSTRUMENT].argmax(1) == labels[notes][:, INSTRUMENT].argmax(1)
    return {
        "mean_average_precision": round(float(average_precision_score(labels, scores)), 4),
        "instruments_of_single_notes": round(right.float().mean().item(), 4),
    }


def single(labels: Tensor) -> Tensor:
    """Which labels (n, 17) are those of a single note, (n,)."""
    return labels[:, INSTRUMENT].sum(1) == 1


def linear_accuracy(train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> float:
    """Of ridge classification of the instruments of single notes by their patches, averaged over 4 frames."""
    (x, y), (u, v) = (
        (avg_pool2d(inputs[single(labels)], (4, 1)).flatten(1), labels[single(labels)][:, INSTRUMENT].argmax(1))
        for inputs, labels in (train, held_out)
    )
    return round(RidgeClassifier(alpha=100).fit(x, y).score(u, v), 4)


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    inputs, labels = patches(TRAIN_COUNTS, TRAIN_SEED)
    held_out = patches(TEST_COUNTS, TEST_SEED)
    linear = {"instruments_by_a_linear_model": linear_accuracy((inputs, labels), held_out)}
    for name in names:
        model = train(load_model(name, pretrained=False), inputs, labels, name, **RECIPES[name])
        model.load_state_dict(half(model))
        voices = ("noise_sine_silence", "single_notes", "two_notes")
        save(
            name,
            model,
            classes=LABELS,
            data={
                "module": "xai_lib.datasets.notes",
                "train": {"seed": TRAIN_SEED, **{voices[v]: n for v, n in TRAIN_COUNTS.items()}},
                "held_out": {"seed": TEST_SEED, **{voices[v]: n for v, n in TEST_COUNTS.items()}},
            },
            training=RECIPES[name] | {"batch": BATCH},
            held_out=evaluate(model, *held_out) | linear,
        )
