"""Trains networks and writes their weights and cards: `python -m xai_lib.models.train [NAME ...]`."""

import argparse

import torch

from xai_lib.models.train import digits, fundus, notes, paper, radio, reviews, sample, scenes, spectra, words

RECIPES = {
    "embedded": (scenes, digits, radio, notes, spectra, fundus, words, reviews),
    "sample": (sample,),
    "paper": (paper,),
}


def main() -> None:
    """Train the networks named, or all of a profile."""
    known = {name: recipe for recipes in RECIPES.values() for recipe in recipes for name in recipe.RECIPES}
    parser = argparse.ArgumentParser(description="Train networks and write their weights and cards.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(known)}")
    parser.add_argument("--profile", default="embedded", help=f"train all those of {' or '.join(RECIPES)}")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(known)):
        parser.error(f"name is {unknown[0]!r}, expected one of {', '.join(known)}.")
    if asked.profile not in RECIPES:
        parser.error(f"profile is {asked.profile!r}, expected one of {', '.join(RECIPES)}.")
    names = asked.names or [name for recipe in RECIPES[asked.profile] for name in recipe.RECIPES]
    torch.set_num_threads(1)  # the order of sums, and so the bytes, depend on it; run several names side by side
    for recipe in dict.fromkeys(known[name] for name in names):
        recipe.make([name for name in recipe.RECIPES if name in names])


if __name__ == "__main__":
    main()
