"""The networks on spectra of single notes: a classifier of instruments, and the inpainter of paper 5.

The paper trains its inpainter until the outputs "are found to be satisfactory" and names no loss. Here it is trained by
reconstruction with the energy score, which is least where inpaintings with different noise are distributed as the
spectra themselves, so the noise is used without an adversary. The numbers in a card are those of the float16 weights
as shipped, on notes of another seed.

Reference: Gneiting, Raftery: Strictly Proper Scoring Rules, Prediction, and Estimation, JASA 2007.
"""

from typing import Any

import torch
from sklearn.linear_model import RidgeClassifier
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d

from xai_lib.datasets.notes import INSTRUMENTS, make_notes, spectrum
from xai_lib.models import load_model
from xai_lib.models.spectra import BINS, NOISE, Perceived
from xai_lib.models.train.cards import half, save
from xai_lib.models.train.fit import accuracy, fit

TRAIN_SEED, TEST_SEED = 1, 2
TRAIN_COUNT, TEST_COUNT = 2_000, 300
SHIFT = 8  # bins, at most
PATCH = 16  # bins
RECIPES = {
    "spectra_resnet": {"epochs": 12, "learning_rate": 4e-3, "batch": 50},
    "spectra_inpainter": {"epochs": 20, "learning_rate": 3e-3, "batch": 5},
}
perceived = Perceived()


def data(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Spectra (n, 2, 1024) and instruments (n,) of single notes."""
    clips = make_notes(count, seed)
    return spectrum(clips.waves), clips.instruments[:, 0]


def transposed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Spectra, all at a pitch that is higher or lower by up to 8 bins, 80 cents."""
    return x.roll(int(torch.randint(-SHIFT, SHIFT + 1, (), generator=generator)), -1)


def masks(n: int, generator: torch.Generator) -> Tensor:
    """Masks (n, 2, 1024) of 0 and 1: half of them drop frequencies, half the whole magnitude, the whole phase or both.

    Frequencies are dropped in runs, of one bin to about a hundred; the share of what is dropped varies, too.
    """
    length = 100 ** torch.rand(n, 1, generator=generator)
    run = (torch.rand(n, BINS, generator=generator) < 1 / length).long().cumsum(1)
    kept = torch.rand(n, BINS + 1, generator=generator) < torch.rand(n, 1, generator=generator)
    frequencies = kept.gather(1, run)[:, None].expand(n, 2, BINS)
    part = torch.randint(3, (n, 1, 1), generator=generator) == torch.arange(2)[:, None]
    whole = torch.rand(n, 1, 1, generator=generator) < 0.5
    return torch.where(whole, part, frequencies).float()


def hidden(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Transposed spectra, masks, and two draws of noise (2, n, 4864)."""
    return transposed(x, generator), masks(len(x), generator), torch.randn(2, len(x), NOISE, generator=generator)


class Twice(nn.Module):
    """What an inpainter makes of masked spectra with two draws of noise, and the spectra: (3, n, 2, 1024)."""

    def __init__(self, inpainter: nn.Module) -> None:
        super().__init__()
        self.inpainter = inpainter

    def forward(self, drawn: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        x, s, z = drawn
        filled = self.inpainter(x.repeat(2, 1, 1), s.repeat(2, 1, 1), z.flatten(0, 1)).unflatten(0, (2, -1))
        return torch.cat([torch.lerp(filled, x, s), x[None]])


def energy_score(outputs: Tensor, labels: Tensor | None = None) -> Tensor:
    """`(|y1 - x| + |y2 - x| - |y1 - y2|) / 2` of what `Twice` returns, as perceived in patches of 16 bins."""
    y1, y2, x = perceived(outputs.flatten(0, 1)).unflatten(0, (3, -1))

    def distance(a: Tensor, b: Tensor) -> Tensor:
        squared = (a - b).square().sum(1, keepdim=True)
        return (avg_pool1d(squared, PATCH, PATCH // 2) + 1e-6).sqrt().mean()

    return (distance(y1, x) + distance(y2, x) - distance(y1, y2)) / 2


def linear_accuracy(train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> float:
    """Of ridge classification of the instruments by their spectra as perceived."""
    (x, y), (u, v) = ((perceived(x).flatten(1), y) for x, y in (train, held_out))
    return round(RidgeClassifier(alpha=300).fit(x, y).score(u, v), 4)


def inpainting_scores(model: nn.Module, spectra: Tensor) -> dict[str, float]:
    """Energy score, and that of taking for what is hidden two other spectra of the same data."""
    drawn = hidden(spectra, torch.Generator().manual_seed(TEST_SEED))
    with torch.no_grad():
        outputs = Twice(model)(drawn)
    x, s, _ = drawn
    others = torch.stack([torch.lerp(x.roll(shift, 0), x, s) for shift in (1, 2)] + [x])
    return {
        "energy_score": round(energy_score(outputs).item(), 4),
        "energy_score_of_other_notes": round(energy_score(others).item(), 4),
    }


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    notes = {
        "module": "xai_lib.datasets.notes",
        "train": {"seed": TRAIN_SEED, "single_notes": TRAIN_COUNT},
        "held_out": {"seed": TEST_SEED, "single_notes": TEST_COUNT},
    }
    train(names, data(TRAIN_COUNT, TRAIN_SEED), data(TEST_COUNT, TEST_SEED), notes)


def train(
    names: list[str], notes: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], source: dict[str, Any]
) -> None:
    """Train classifiers (<data>_resnet) and inpainters (<data>_inpainter) on spectra and their instruments."""
    for name in names:
        model, kind = load_model(name, pretrained=False), name.rpartition("_")[2]
        recipe = RECIPES[f"spectra_{kind}"]
        if kind == "resnet":
            fit(model, *notes, transposed, name=name, **recipe)
        else:
            fit(Twice(model), *notes, hidden, name=name, loss=energy_score, **recipe)
            recipe = {"loss": "energy score of reconstructions, no adversary"} | recipe
        model.load_state_dict(half(model))
        if kind == "resnet":
            classes = INSTRUMENTS
            scores = {
                "accuracy": accuracy(model, *held_out),
                "accuracy_of_a_linear_model": linear_accuracy(notes, held_out),
            }
        else:
            classes, scores = (), inpainting_scores(model, held_out[0][:100])
        save(name, model, classes=classes, data=source, training=recipe, held_out=scores)
