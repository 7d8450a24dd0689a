"""Paper 1's networks on its own data; those of the paper reach 68 % (CIFAR-10), 73 % (words) and 78 % (reviews).

`make models PROFILE=paper` writes weights and cards to `XAI_DATA/models`, on a GPU in minutes.
"""

from functools import partial

from torch import nn

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
from xai_lib.models import load_model
from xai_lib.models.train import sample
from xai_lib.models.train.reviews import forget_words
from xai_lib.models.train.sample import load_tokens, mirror, mirror_and_shift, train
from xai_lib.models.train.words import shift_and_scale

RECIPES = {
    "cifar10_batches_cnn": sample.RECIPES["cifar10_cnn"],
    "commands_m5": {"epochs": 10, "learning_rate": 1e-2, "batch": 256},
    "imdb_bilstm": sample.RECIPES["sentences_bilstm"],
    "animals_resnet50": {"epochs": 4, "learning_rate": 1e-3},
}
PHOTOGRAPHS = {"train": 8000, "test": 1600}  # 0.6 MB each in memory


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


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    for name in names:
        model = load_model(name, pretrained=False)
        train(name, fine_tuned(model) if name == "animals_resnet50" else model, RECIPES[name], *DATA[name])
