"""The networks of papers 1 and 5 on their own data; those of paper 1 reach 68 % (CIFAR-10), 73 % (words) and 78 %.

`make models PROFILE=paper` writes weights and cards to `XAI_DATA/models`, those of paper 1 on a GPU in minutes. The
networks of paper 5 take the recipes of their embedded namesakes.
"""

from functools import partial

from torch import Tensor, nn

from xai_lib.datasets.archives import (
    ANIMALS,
    CIFAR10,
    COMMANDS,
    IMDB,
    load_animals,
    load_cifar10_batches,
    load_commands,
    load_imdb,
)
from xai_lib.datasets.folders import Labelled
from xai_lib.datasets.notes import spectrum
from xai_lib.datasets.radio_maps import load_radiomapseer
from xai_lib.datasets.recordings import load_nsynth
from xai_lib.models import load_model
from xai_lib.models.train import radio, sample, spectra
from xai_lib.models.train.reviews import forget_words
from xai_lib.models.train.sample import load_tokens, mirror, mirror_and_shift, train
from xai_lib.models.train.words import shift_and_scale

RECIPES = {
    "cifar10_batches_cnn": sample.RECIPES["cifar10_cnn"],
    "commands_m5": {"epochs": 10, "learning_rate": 1e-2, "batch": 256},
    "imdb_bilstm": sample.RECIPES["sentences_bilstm"],
    "animals_resnet50": {"epochs": 4, "learning_rate": 1e-3},
}
RECIPES |= {f"radiomapseer_{name.partition('_')[2]}": recipe for name, recipe in radio.RECIPES.items()}
RECIPES |= {f"nsynth_{name.partition('_')[2]}": recipe for name, recipe in spectra.RECIPES.items()}
PHOTOGRAPHS = {"train": 8000, "test": 1600}  # 0.6 MB each in memory
CITIES, MAPS = {"train": range(500), "test": range(601, 701)}, {"train": 2000, "test": 200}  # 2 MB each in memory
NOTES = {"train": 8000, "test": 1000}  # 0.3 MB each in memory


def load_some_animals(split: str, n: int | None = None) -> Labelled:
    """As many photographs as fit into memory."""
    return load_animals(split, n or PHOTOGRAPHS[split])


def fine_tuned(model: nn.Module) -> nn.Module:
    """ResNet-50 with ImageNet's weights, of which the last block and the new classes are still learned."""
    learned = load_model("resnet50").classifier.state_dict()
    model.classifier.load_state_dict({k: v for k, v in learned.items() if not k.startswith("fc.")}, strict=False)
    for name, part in model.classifier.named_children():
        part.requires_grad_(name in ("layer4", "fc"))
    return model


DATA = {
    "cifar10_batches_cnn": (CIFAR10, load_cifar10_batches, mirror_and_shift),
    "commands_m5": (COMMANDS, load_commands, partial(shift_and_scale, shift=800)),
    "imdb_bilstm": (IMDB, partial(load_tokens, load_imdb), forget_words),
    "animals_resnet50": (ANIMALS, load_some_animals, mirror),
}


def heard(part: str) -> tuple[Tensor, Tensor]:
    """Spectra (n, 2, 1024) and instruments (n,) of NSynth's notes."""
    notes = load_nsynth(NOTES[part], part=part)
    return spectrum(notes.inputs[:, 0]), notes.labels


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    for name in (name for name in names if name in DATA):
        model = load_model(name, pretrained=False)
        train(name, fine_tuned(model) if name == "animals_resnet50" else model, RECIPES[name], *DATA[name])
    for layout, load, counts, recipe in (
        ("radiomapseer", lambda part: load_radiomapseer(MAPS[part], cities=CITIES[part]), MAPS, radio),
        ("nsynth", heard, NOTES, spectra),
    ):
        if chosen := [name for name in names if name.startswith(layout)]:
            source = {"layout": layout, "train": {"count": counts["train"]}, "held_out": {"count": counts["test"]}}
            recipe.train(chosen, load("train"), load("test"), source)
