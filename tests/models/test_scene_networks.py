"""The four networks on held-out scenes of a seed of their own: what their cards say, and blur as a fair loss."""

from math import sqrt

import pytest
import torch
import yaml

from xai_lib.datasets.scenes import FINE, make_scenes
from xai_lib.models import DATA, load_model, model_names
from xai_lib.models.train.scenes import augment, blur_matrix

ONE, TWO = 300, 150


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(ONE, seed=77), make_scenes(TWO, seed=77, objects=2)


@pytest.fixture(scope="module", params=model_names("scenes"))
def network(request):
    return load_model(request.param), yaml.safe_load((DATA / f"{request.param}.yaml").read_text())


def probabilities(model, images, sigma):
    blur = blur_matrix(sigma)
    with torch.no_grad():
        return model(blur @ images @ blur.T).softmax(1)


def agree(share, count, card_share, card_count):
    """Two shares of the same probability differ by less than 4 binomial standard errors and one scene."""
    p = (share * count + card_share * card_count) / (count + card_count)
    return abs(share - card_share) < 4 * sqrt(p * (1 - p) * (1 / count + 1 / card_count)) + 1 / count


def test_the_card_tells_the_truth(network, scenes):
    model, card = network
    one, two = scenes
    measured = card["held_out"]
    accuracy = (probabilities(model, one.images, 0.1).argmax(1) == one.labels[:, 0]).float().mean().item()
    assert agree(accuracy, ONE, measured["one_object"], card["data"]["held_out"]["one_object"])
    top_two = probabilities(model, two.images, 0.1).topk(2).indices.sort().values
    both = (top_two == two.labels.sort().values).all(1).float().mean().item()
    assert agree(both, TWO, measured["two_objects_both_in_top_two"], card["data"]["held_out"]["two_objects"])
    assert card["parameters"] == sum(p.numel() for p in model.parameters())


def test_the_networks_are_good_enough(network):
    _, card = network
    convolutional = card["name"] in ("scenes_resnet", "scenes_vgg")
    assert card["held_out"]["one_object"] >= (0.97 if convolutional else 0.92)
    assert card["held_out"]["two_objects_both_in_top_two"] >= (0.9 if convolutional else 0)


def test_no_class_collects_blurred_scenes(network, scenes):
    """At sigma 16 every class's mean probability is within a factor 2 of chance, and none wins most scenes."""
    model, card = network
    p = probabilities(model, scenes[0].images, 16)
    assert p.mean(0).min() > 0.05 and p.mean(0).max() < 0.2
    share = p.argmax(1).bincount().max().item() / ONE
    assert share < 0.5 and card["held_out"]["blurred_sigma_16"]["largest_share_of_predictions"] < 0.5


def test_fine_classes_fall_before_coarse_ones(network, scenes):
    model, card = network
    labels = scenes[0].labels
    fine = torch.isin(labels[:, 0], torch.tensor(FINE))
    own = probabilities(model, scenes[0].images, 2.5).gather(1, labels)[:, 0]
    assert own[fine].mean() < own[~fine].mean() - 0.1
    sigma = card["held_out"]["sigma_at_half_probability"]
    assert sigma["fine"] < sigma["coarse"]


def test_augmentation_keeps_the_pixels_and_blurs_the_first_ones():
    x = torch.rand(64, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    y = augment(x, 0, blur_matrix(18)[None], torch.Generator().manual_seed(0))
    assert torch.equal(x, before)
    assert torch.allclose(y.mean((2, 3)), x.mean((2, 3)), atol=1e-5)
    assert torch.equal(y[20:].flatten(1).sort().values, x[20:].flatten(1).sort().values)
    assert (y[:20].flatten(1).std(1) < 0.1).all()
    assert augment(x, 4, blur_matrix(18)[None], torch.Generator().manual_seed(0)).shape == x.shape
