"""`make models` on a handful of examples: every recipe runs to its end and writes weights and a card that fit."""

import hashlib

import pytest
import yaml

from xai_lib.models import DATA
from xai_lib.models.train import cards, digits, fundus, notes, radio, reviews, scenes, spectra, words

SMALL = {
    scenes: {"TRAIN_COUNTS": (64, 64), "TEST_COUNTS": (20, 10)},
    digits: {"TRAIN_COUNT": 128, "TEST_COUNT": 20},
    radio: {"CITIES": 20, "TEST_CITIES": 4, "EPOCHS": 1, "LAST_EPOCHS": 1},
    notes: {"TRAIN_COUNTS": {0: 20, 1: 60, 2: 20}, "TEST_COUNTS": {0: 20, 1: 60, 2: 20}},
    spectra: {"TRAIN_COUNT": 60, "TEST_COUNT": 20},
    fundus: {"TRAIN_COUNT": 64, "TEST_COUNT": 16},
    words: {"TRAIN_COUNT": 64, "TEST_COUNT": 10},
    reviews: {"TRAIN_COUNT": 64, "TEST_COUNT": 20},
}


@pytest.mark.parametrize("recipe", SMALL, ids=lambda recipe: recipe.__name__.rpartition(".")[2])
def test_recipes_write_weights_and_cards_of_the_shape_of_those_in_the_repository(recipe, tmp_path, monkeypatch):
    for constant, value in SMALL[recipe].items():
        monkeypatch.setattr(recipe, constant, value)
    for name, settings in recipe.RECIPES.items():
        if isinstance(settings, dict):
            monkeypatch.setitem(recipe.RECIPES, name, settings | {"epochs": 1})
    monkeypatch.setattr(cards, "card_folder", lambda name: tmp_path)
    names = ["scenes_vit"] if recipe is scenes else list(recipe.RECIPES)  # one of them: each is evaluated at length
    recipe.make(names)
    for name in names:
        ours, shipped = (yaml.safe_load((folder / f"{name}.yaml").read_text()) for folder in (tmp_path, DATA))
        weights = (tmp_path / f"{name}.safetensors").read_bytes()
        assert hashlib.sha256(weights).hexdigest() == ours["weights"]["sha256"] != shipped["weights"]["sha256"]
        assert len(weights) == ours["weights"]["bytes"] == shipped["weights"]["bytes"]
        assert ours.keys() == shipped.keys()
        assert all(ours[part].keys() == shipped[part].keys() for part in ("data", "training", "held_out"))
        assert ours["parameters"] == shipped["parameters"] and ours["command"] == shipped["command"]
