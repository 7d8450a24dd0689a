"""BlurIG on real photographs and a real network, where XAI_DATA has them."""

import pytest
import torch

from xai_lib.blur_ig import BlurIG
from xai_lib.datasets.folders import load_imagenet
from xai_lib.models import load_model

pytestmark = pytest.mark.needs_data("imagenet/val")


def test_twenty_gradients_suffice():
    """Half of 32 photographs are explained to within 0.05 of the change in probability."""
    images = load_imagenet(32).images
    _, gap = BlurIG(load_model("squeezenet1_1")).attribute(
        images, n_steps=20, max_sigma=50.0, return_convergence_delta=True
    )
    assert gap.abs().median() <= 0.05


def test_the_sum_is_the_change_of_the_probability_in_the_limit():
    images = load_imagenet(2).images
    explain = BlurIG(load_model("squeezenet1_1")).attribute
    gaps = [explain(images, n_steps=n, return_convergence_delta=True)[1].abs() for n in (10, 160)]
    assert (gaps[1] < 0.02).all() and torch.max(gaps[1]) < torch.max(gaps[0])
