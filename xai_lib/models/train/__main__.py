"""Trains networks and writes their weights and cards: `python -m xai_lib.models.train [NAME ...]`."""

import sys

import torch

from xai_lib.models import model_names
from xai_lib.models.train import scenes

RECIPES = (scenes,)


def main(names: list[str]) -> None:
    """Train the networks named, or all.

    Raises:
        SystemExit: a name is unknown.
    """
    unknown = set(names) - {name for recipe in RECIPES for name in recipe.RECIPES}
    if unknown:
        sys.exit(f"name is {min(unknown)!r}, expected one of {', '.join(model_names())}.")
    torch.set_num_threads(1)  # the order of sums, and so the bytes, depend on it; run several names side by side
    for recipe in RECIPES:
        chosen = [name for name in recipe.RECIPES if name in names or not names]
        if chosen:
            recipe.make(chosen)


if __name__ == "__main__":
    main(sys.argv[1:])
