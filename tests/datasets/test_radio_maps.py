"""Radio maps: what the seed fixes, what the geometry promises, and the paper's data in its own layout."""

import numpy as np
import pytest
import torch
from PIL import Image

from xai_lib.datasets.radio_maps import clusters, load_radiomapseer, make_radio_maps, shadow


@pytest.fixture(scope="module")
def maps():
    return make_radio_maps(6, 3, (1, 2), (40, 60), sight=True)


def test_shapes_and_range(maps):
    assert maps.inputs.shape == (6, 3, 64, 64) and maps.gain.shape == (6, 1, 64, 64)
    assert maps.inputs.min() >= 0 and maps.inputs.max() <= 1 and maps.gain.max() <= 1
    assert (maps.gain[:, 0][maps.buildings > 0] == 0).all() and (maps.gain[:, 0][maps.buildings == 0] > 0).all()
    assert (maps.inputs[:, 0].sum((1, 2)) == 1).all() and (maps.buildings[maps.inputs[:, 0] == 1] == 0).all()


def test_the_seed_and_the_index_fix_a_city(maps):
    again = make_radio_maps(2, 3, (1, 2), (40, 60), sight=True)
    assert torch.equal(maps.inputs[:2], again.inputs) and torch.equal(maps.gain[:2], again.gain)
    assert not torch.equal(make_radio_maps(1, 4).gain, maps.gain[:1])


def test_measurements_are_the_gain_and_missing_buildings_are_not_shown(maps):
    measured = maps.inputs[:, 2]
    assert torch.equal(measured, maps.gain[:, 0] * maps.measured)
    assert ((maps.measured.sum((1, 2)) >= 40) & (maps.measured.sum((1, 2)) <= 60)).all()
    shown = maps.inputs[:, 1] == 1
    for shows, buildings, missing in zip(shown, maps.buildings, maps.missing, strict=True):
        gone = torch.isin(buildings, missing.nonzero()[:, 0] + 1)
        assert torch.equal(shows, (buildings > 0) & ~gone) and gone.any()


def test_the_gain_falls_with_distance_in_sight_and_is_lower_in_the_shadow(maps):
    behind, before = shadow(maps)
    for inputs, gain, back, front in zip(maps.inputs, maps.gain[:, 0], behind, before, strict=True):
        at = (inputs[0] == 1).nonzero()[0]
        rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
        distance = torch.hypot((rows - at[0]).float(), (columns - at[1]).float())
        free = (1 - 0.45 * torch.log10(distance.clamp(min=2) / 2)).clamp(0.02, 1)  # line of sight
        assert back.sum() >= 20 and not (back & front).any()
        torch.testing.assert_close(gain[front], free[front], rtol=0, atol=0.03)  # less than a pixel in a building
        assert (gain[back] < free[back]).all()


def test_clusters_number_every_building_and_measurement_once(maps):
    labels, kinds = clusters(maps)
    assert labels.shape == maps.inputs.shape and (labels[:, 0] == 0).all()
    for label, kind, inputs in zip(labels, kinds, maps.inputs, strict=True):
        assert torch.equal(label[1] > 0, inputs[1] > 0) and torch.equal(label[2] > 0, inputs[2] > 0)
        used = label.unique()
        assert torch.equal(used, torch.arange(len(used))) and (kind > 0).sum() == len(used) - 1
        assert torch.isin(label[1][label[1] > 0], (kind == 1).nonzero()[:, 0] + 1).all()


@pytest.mark.parametrize("change", [{"n_missing": (2, 1)}, {"n_measured": (-1, 5)}, {"n_missing": (9, 9)}])
def test_bad_ranges(change):
    with pytest.raises(ValueError, match="expected 0 <= fewest <= most"):
        make_radio_maps(1, 0, **change)


def test_the_papers_layout(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    root = tmp_path / "radiomapseer"
    rng = np.random.default_rng(0)
    for folder in ("png/buildings_complete", "png/buildings_missing4", "png/antennas", "gain/DPM"):
        (root / folder).mkdir(parents=True)
    full = np.zeros((256, 256), np.uint8)
    full[20:60, 30:80] = full[100:150, 100:140] = 255
    part = full.copy()
    part[100:150, 100:140] = 0
    gain = rng.integers(0, 256, (256, 256), dtype=np.uint8) * (full == 0)
    antenna = np.zeros_like(full)
    antenna[200, 120] = 255
    for city in (601, 602):
        Image.fromarray(full).save(root / f"png/buildings_complete/{city}.png")
        Image.fromarray(part).save(root / f"png/buildings_missing4/{city}_1.png")
        for transmitter in (0, 1):
            Image.fromarray(antenna).save(root / f"png/antennas/{city}_{transmitter}.png")
            Image.fromarray(gain).save(root / f"gain/DPM/{city}_{transmitter}.png")
    maps = load_radiomapseer(cities=range(601, 603), transmitters=range(2), n_measured=50)
    assert maps.inputs.shape == (4, 3, 256, 256) and maps.gain.shape == (4, 1, 256, 256)
    inputs, strength = maps.inputs[0], np.maximum(gain / 255 - 0.2, 0) / 0.8
    assert inputs[0].nonzero().tolist() == [[200, 120]] and torch.equal(inputs[1], torch.from_numpy(part > 0).float())
    np.testing.assert_allclose(maps.gain[0, 0], strength, atol=1e-6)
    assert maps.measured[0].sum() == 50 and torch.equal(inputs[2], maps.gain[0, 0] * maps.measured[0])
    assert maps.missing.tolist() == 4 * [[False, True]] and (maps.buildings[0, 100:150, 100:140] == 2).all()
    labels, kinds = clusters(maps)
    assert (kinds == 1).sum() == 4 and (kinds == 2).sum() == 200 and labels.max() == 51
    behind, before = shadow(maps)
    assert behind[0, 80, 120] and before[0, 170, 120] and not (behind & before).any()
    assert len(load_radiomapseer(1, cities=range(601, 603), transmitters=range(2)).gain) == 1
    with pytest.raises(FileNotFoundError, match="RadioMapSeer"):
        load_radiomapseer(cities=range(603, 604))
