"""The quickstart on what people bring: pictures of every kind, and a network of their own."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch import nn

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "00_quickstart.ipynb"
SIZE = 32


def network() -> nn.Module:
    """A network that nobody has registered, and that returns log-probabilities of seven classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 8, 5), nn.Flatten(), nn.Linear(800, 7), nn.LogSoftmax(1)
        )


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (40, 50, 4), dtype=np.uint8)
    Image.fromarray(colours[..., :3]).resize((4000, 3000)).save(tmp_path / "large.jpg")
    Image.fromarray(colours).save(tmp_path / "alpha.png")
    Image.fromarray(colours[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(rng.integers(0, 65536, (40, 50), dtype=np.uint16)).save(tmp_path / "sixteen.png")
    return sorted(tmp_path.iterdir())


def test_any_picture_and_a_network_of_ones_own(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_RUN", str(tmp_path / "results"))
    (tmp_path / "results").mkdir()
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    parameters, *others = ("".join(cell["source"]) for cell in cells)
    given: dict = {}
    exec(parameters, given)
    assert {"model", "image", "n_images", "n_shown", "size", "n_gradients"} <= given.keys()
    given |= {"model": f"{__name__}:network", "image": str(tmp_path / "*.*"), "n_images": 4, "n_shown": 1}
    given |= {"size": SIZE, "n_gradients": 4}
    for source in others:
        exec(source, given)
    plt.close("all")
    maps = given["maps"]
    assert len(given["images"]) == len(pictures) and len(maps) == 17
    for name, attributions in maps.items():
        assert attributions.shape[0] == 4 and attributions.shape[2:] == (SIZE, SIZE), name
        assert attributions.isfinite().all(), name
    assert maps["BlurIG"].flatten(1).any(1).all()
    table = pd.read_csv(tmp_path / "results" / "table-cost.csv").set_index("method")
    gaps = table["completeness gap"].dropna()
    assert {"BlurIG", "IG, black", "IG, black + white"} == set(gaps.index) and gaps.map(math.isfinite).all()
    assert (tmp_path / "results" / "fig-1.png").exists()
