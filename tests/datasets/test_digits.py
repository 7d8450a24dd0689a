"""Digits on photographs: what the seed fixes, what masks promise, and that a linear model stays weak."""

import numpy as np
import pytest
import torch
import yaml

from xai_lib.datasets.digits import CLASSES, make_digits
from xai_lib.models import DATA, load_model


@pytest.fixture(scope="module")
def digits():
    return make_digits(120, seed=7)


def test_shapes_types_and_range(digits):
    assert digits.images.shape == (120, 3, 32, 32) and digits.images.dtype == torch.float32
    assert digits.masks.shape == (120, 32, 32) and digits.masks.dtype == torch.bool
    assert digits.labels.dtype == torch.int64 and set(digits.labels.tolist()) == set(range(len(CLASSES)))
    assert digits.images.min() >= 0 and digits.images.max() <= 1


def test_the_seed_and_the_index_fix_a_digit(digits):
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    again = make_digits(5, seed=7)
    assert torch.equal(state[0], torch.random.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])
    for first, second in zip(digits, again, strict=True):
        assert torch.equal(first[:5], second)
    for other in (make_digits(1, seed=8), make_digits(1, seed=7, held_out=False)):
        assert not torch.equal(other.images, again.images[:1])


def test_digits_stand_out_from_their_background(digits):
    for image, mask in zip(digits.images, digits.masks, strict=True):
        assert 0.04 < mask.float().mean() < 0.4
        assert not (mask[0].any() and mask[-1].any())
        assert image[:, mask].std(1).max() < 0.25 and image[:, mask].mean(1).dist(image[:, ~mask].mean(1)) > 0.1


def test_the_card_tells_the_truth(digits):
    model, card = load_model("digits_cnn"), yaml.safe_load((DATA / "digits_cnn.yaml").read_text())
    with torch.no_grad():
        share = (model(digits.images).argmax(1) == digits.labels).float().mean().item()
    measured = card["held_out"]
    error = (measured["accuracy"] * (1 - measured["accuracy"]) * (1 / 120 + 1 / 1000)) ** 0.5
    assert abs(share - measured["accuracy"]) < 4 * error + 1 / 120
    assert measured["accuracy"] > 0.9 and measured["ridge_on_raw_pixels"] < 0.6
