"""The networks for radio maps: what they accept, what their cards promise, and that they need their inputs."""

import pytest
import torch
import yaml

from xai_lib.datasets.radio_maps import make_radio_maps
from xai_lib.models import DATA, load_model
from xai_lib.models.radio import FULL, RadioUNet
from xai_lib.models.train import radio

NAMES = ("radio_phi", "radio_phi_int", "radio_phi0")


@pytest.fixture(scope="module")
def maps():
    return make_radio_maps(30, 77, (1, 1), sight=True)


def inputs_of(name, maps):
    if name == "radio_phi0":
        return torch.stack([maps.inputs[:, 0], (maps.buildings > 0).float()], 1)
    return maps.inputs


@pytest.mark.parametrize("name", NAMES)
def test_error_is_that_of_the_card(name, maps):
    card = yaml.safe_load((DATA / f"{name}.yaml").read_text())
    with torch.no_grad():
        error = (load_model(name)(inputs_of(name, maps)) - maps.gain).square().flatten(1).mean(1)
    # 30 other cities: four standard errors of their mean
    assert abs(error.mean() - card["held_out"]["mean_squared_error"]) < 4 * error.std() / 30**0.5
    assert error.mean() < 0.3 * maps.gain.var()  # far better than a constant
    assert card["parameters"] == sum(p.numel() for p in load_model(name).parameters())


def test_phi_uses_the_measurements(maps):
    phi, x = load_model("radio_phi"), maps.inputs
    with torch.no_grad():
        error, blind = (
            (phi(x * torch.tensor(keep)[:, None, None]) - maps.gain).square().mean()
            for keep in ([1.0, 1.0, 1.0], [1.0, 1.0, 0.0])
        )
    assert error < blind


@pytest.mark.parametrize("shape", [(1, 2, 64, 64), (1, 3, 60, 64), (3, 64, 64)])
def test_inputs_are_checked(shape):
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\) with sides that are multiples of 16"):
        RadioUNet(3)(torch.zeros(shape))


def test_the_full_width_takes_the_papers_maps():
    with torch.device("meta"):
        full = RadioUNet(3, FULL)
        assert full(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 256, 256)
    assert 5e6 < sum(p.numel() for p in full.parameters()) < 15e6


def test_drawn_inputs_keep_their_promises():
    maps = make_radio_maps(8, 5, (0, 0))
    x, gain, gone = radio.draw(maps, torch.arange(8), torch.Generator().manual_seed(0))
    assert torch.equal(x[:, 2:], gain * (x[:, 2:] > 0)) and (gain[gone == 1] == 0).all()
    assert ((x[:, 1:2] == 1) | (gone == 1) == (gain == 0)).all() and not (x[:, 1:2] * gone).any()
    whole, gain, none = radio.draw(maps, torch.arange(8), torch.Generator().manual_seed(0), missing=0)
    assert none.sum() == 0 and torch.equal(whole[:, 1:2] == 1, gain == 0)
