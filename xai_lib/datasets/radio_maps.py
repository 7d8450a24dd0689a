"""Radio maps: how strongly a transmitter is received in a city, with buildings that the input map misses.

A city is 64 x 64 pixels with rectangular buildings. On the street the signal falls with the logarithm of the distance
(line of sight), and every building on the straight way costs in proportion to the way inside it: behind a building
lies its shadow. Inside buildings the map is 0. The input of an estimator is the transmitter, the city without a few of
its buildings, and sparse measurements on the street; which measurements lie in the shadow of a missing building is
known, and which lie before it.

`load_radiomapseer` reads the data set of the paper in its own layout.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from skimage.measure import label
from torch import Tensor

from xai_lib.datasets.folders import find, spread
from xai_lib.outputs import check_count

SIZE = 64  # pixels per side
FLOOR = 0.2  # of the grey values of RadioMapSeer: the weakest signal shown

_SLOPE = 0.45  # gain lost per decade of distance
_LOSS, _MOST = 0.05, 0.35  # gain lost per pixel inside buildings, and at most
_BRIGHTEST = 2.0  # pixels: nearer than this the gain is 1
_MISSING, _MEASURED = 5, 1000  # buildings and measurements at most, for which a city is soon found


class RadioMaps(NamedTuple):
    """n cities of S x S pixels; at most `m` buildings each, numbered from 1.

    Attributes:
        inputs: transmitter (1 at its pixel), the input's city (1 inside buildings), measurements (0 where there is
            none): (n, 3, S, S) float32 in [0, 1].
        gain: signal strength, (n, 1, S, S) float32 in [0, 1], 0 inside buildings.
        buildings: number of each pixel's building in the true city, (n, S, S) int64, 0 on the street.
        missing: whether a building is missing in the input, (n, m) bool.
        measured: pixels with a measurement, (n, S, S) bool.
    """

    inputs: Tensor
    gain: Tensor
    buildings: Tensor
    missing: Tensor
    measured: Tensor


def make_radio_maps(
    n: int, seed: int, n_missing: tuple[int, int] = (0, 3), n_measured: tuple[int, int] = (20, 80), sight: bool = False
) -> RadioMaps:
    """Draw n cities with one transmitter each; city i depends on (seed, i) and the other arguments alone.

    Args:
        n, seed: number of cities, and seed.
        n_missing: fewest and most buildings that the input misses, 5 at most.
        n_measured: fewest and most measurements, 1000 at most.
        sight: choose the missing buildings among those that stand in the transmitter's line of sight.

    Raises:
        ValueError: `n` is not positive, or a range is not increasing or goes beyond what every city holds.
    """
    check_count("n", n)
    for name, (low, high), limit in (("n_missing", n_missing, _MISSING), ("n_measured", n_measured, _MEASURED)):
        if not 0 <= low <= high <= limit:
            raise ValueError(f"{name} is {(low, high)}, expected 0 <= fewest <= most <= {limit}.")
    return _stacked([_city(np.random.default_rng([seed, i]), n_missing, n_measured, sight) for i in range(n)])


def clusters(maps: RadioMaps) -> tuple[Tensor, Tensor]:
    """What a mask of the inputs switches on and off: numbers (n, 3, S, S) int64 for `Clusters`, and their kinds.

    The buildings of the input come first, then its measurements, row by row. The second tensor, (n, k) int64, is 1 for
    a building, 2 for a measurement and 0 for a number that does not occur.
    """
    numbers, kinds = [], []
    for buildings, missing, measured in zip(maps.buildings, maps.missing, maps.measured, strict=True):
        shown = buildings * ~torch.cat([missing.new_zeros(1), missing])[buildings]
        present, compact = shown.unique(return_inverse=True)  # the street is 0
        n_buildings, n_measured = len(present) - 1, int(measured.sum())
        points = torch.zeros_like(buildings)
        points[measured] = torch.arange(n_measured) + n_buildings + 1
        numbers.append(torch.stack([torch.zeros_like(points), compact, points]))
        kinds.append(torch.cat([torch.full((n_buildings,), 1), torch.full((n_measured,), 2)]))
    return torch.stack(numbers), torch.nn.utils.rnn.pad_sequence(kinds, batch_first=True)


def shadow(maps: RadioMaps) -> tuple[Tensor, Tensor]:
    """Street pixels whose straight way from the transmitter is blocked by the missing buildings alone, and those
    before them: on the ways that they block, between transmitter and building. Both (n, S, S) bool."""
    behind, before = [], []
    for inputs, buildings, missing in zip(maps.inputs, maps.buildings, maps.missing, strict=True):
        city = buildings.numpy()
        gone = np.concatenate([[False], missing.numpy()])[city]
        at = np.argwhere(inputs[0].numpy() == 1)[0]
        ways = _Ways(at, len(city))
        by_all, by_gone = ways.length_inside(city > 0), ways.length_inside(gone)
        behind.append((by_gone > 0.5) & (by_all - by_gone < 0.5) & (city == 0))
        before.append(ways.to(gone) & (by_all < 0.5) & (city == 0))
    return torch.from_numpy(np.stack(behind)), torch.from_numpy(np.stack(before))


def load_radiomapseer(
    n: int | None = None,
    *,
    cities: Sequence[int] = range(601, 701),
    transmitters: Sequence[int] = range(80),
    n_measured: int = 60,
    seed: int = 0,
) -> RadioMaps:
    """RadioMapSeer's maps of 256 x 256 pixels: all pairs of a city and a transmitter, or `n` of them spread evenly.

    The layout is `png/buildings_complete/<city>.png`, `png/buildings_missing4/<city>_1.png` (the input's city, with
    four buildings missing), `png/antennas/<city>_<transmitter>.png` and `gain/DPM/<city>_<transmitter>.png`.
    Grey values below a fifth are cut off; connected pixels are a building; `n_measured` pixels on the street, or as
    many as there are, are measured.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: `n` is not positive or more than there are.
    """
    root, pairs = find("radiomapseer"), list(product(cities, transmitters))
    return _stacked([_read_city(root, *pair, n_measured, seed) for pair in spread(pairs, n)])


def _read_city(root: Path, city: int, transmitter: int, n_measured: int, seed: int) -> RadioMaps:
    """One map of RadioMapSeer, as arrays."""
    buildings = label(_grey(root / f"png/buildings_complete/{city}.png") > 0).astype(np.int64)
    shown = _grey(root / f"png/buildings_missing4/{city}_1.png") > 0
    antenna = _grey(root / f"png/antennas/{city}_{transmitter}.png")
    gain = np.maximum(_grey(root / f"gain/DPM/{city}_{transmitter}.png") - FLOOR, 0) / (1 - FLOOR)
    gain[buildings > 0] = 0
    missing = ~np.isin(np.arange(1, buildings.max() + 1), buildings[shown])
    street = np.flatnonzero(buildings == 0)
    measured = np.zeros(buildings.shape, bool)
    rng = np.random.default_rng([seed, city, transmitter])
    measured.flat[rng.choice(street, min(n_measured, len(street)), replace=False)] = True
    transmitter_at = np.zeros_like(gain)
    transmitter_at.flat[antenna.argmax()] = 1
    inputs = np.stack([transmitter_at, shown.astype(np.float32), gain * measured])
    return RadioMaps(inputs, gain[None], buildings, missing, measured)


def _stacked(cities: Sequence[RadioMaps]) -> RadioMaps:
    """Single cities, as arrays, side by side as tensors."""
    most = max(len(city.missing) for city in cities)
    padded = [city._replace(missing=np.pad(city.missing, (0, most - len(city.missing)))) for city in cities]
    return RadioMaps(*(torch.from_numpy(np.stack(part)) for part in zip(*padded, strict=True)))


def _grey(path: Path) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: RadioMapSeer's folders png and gain belong there.")
    with Image.open(path) as file:
        return np.asarray(file.convert("L"), dtype=np.float32) / 255


def _city(rng, n_missing, n_measured, sight) -> RadioMaps:
    """A generated city, as arrays."""
    while True:
        buildings = _buildings(rng)
        street = np.argwhere(buildings == 0)
        at = street[rng.integers(len(street))]
        count = buildings.max()
        ways = _Ways(at, SIZE)
        inside = ways.length_inside(buildings > 0)
        eligible = np.arange(1, count + 1)
        if sight:
            eligible = np.array([b for b in eligible if _seen(buildings, b, ways, inside)])
        wanted = rng.integers(n_missing[0], n_missing[1] + 1)
        if wanted <= len(eligible) and count > wanted:
            break
    missing = np.zeros(count, bool)
    missing[rng.choice(eligible, wanted, replace=False) - 1] = True
    gain = 1 - _SLOPE * np.log10(np.maximum(ways.length, _BRIGHTEST) / _BRIGHTEST) - np.minimum(_LOSS * inside, _MOST)
    gain = np.where(buildings > 0, 0, np.clip(gain, 0.02, 1)).astype(np.float32)
    measured = np.zeros(buildings.shape, bool)
    chosen = street[rng.choice(len(street), rng.integers(n_measured[0], n_measured[1] + 1), replace=False)]
    measured[tuple(chosen.T)] = True
    city = (buildings > 0) & ~np.concatenate([[False], missing])[buildings]
    transmitter = np.zeros_like(gain)
    transmitter[tuple(at)] = 1
    inputs = np.stack([transmitter, city.astype(np.float32), gain * measured])
    return RadioMaps(inputs, gain[None], buildings, missing, measured)


def _buildings(rng: np.random.Generator) -> np.ndarray:
    """8 to 14 rectangles with streets of at least 2 pixels between them, numbered from 1."""
    city = np.zeros((SIZE, SIZE), np.int64)
    wanted, count = rng.integers(8, 15), 0
    for _ in range(200):
        height, width = rng.integers(5, 15, 2)
        top, left = rng.integers(1, SIZE - height), rng.integers(1, SIZE - width)
        if city[max(top - 2, 0) : top + height + 2, max(left - 2, 0) : left + width + 2].any():
            continue
        count += 1
        city[top : top + height, left : left + width] = count
        if count == wanted:
            break
    return city


class _Ways:
    """The straight ways from the pixel `at` to every pixel of a square; `length` in pixels, (size, size)."""

    def __init__(self, at: np.ndarray, size: int) -> None:
        share = ((np.arange(size) + 0.5) / size).astype(np.float32)[:, None, None]
        rows, columns = np.indices((size, size), np.float32)
        self.points = np.rint(at[0] + share * (rows - at[0])).astype(np.int32) * size + np.rint(
            at[1] + share * (columns - at[1])
        ).astype(np.int32)
        self.length = np.hypot(rows - at[0], columns - at[1])

    def length_inside(self, solid: np.ndarray) -> np.ndarray:
        """Length in pixels of the way to each pixel that lies inside `solid`."""
        return solid.ravel()[self.points].sum(0) * self.length / len(self.points)

    def to(self, solid: np.ndarray) -> np.ndarray:
        """The pixels on the ways to the pixels of `solid`."""
        found = np.zeros(solid.size, bool)
        found[self.points[:, solid]] = True
        return found.reshape(solid.shape)


def _seen(buildings: np.ndarray, number: int, ways: _Ways, inside: np.ndarray) -> bool:
    """Whether a building alone blocks the way to at least 20 street pixels."""
    own = ways.length_inside(buildings == number)
    return ((own > 0.5) & (inside - own < 0.5) & (buildings == 0)).sum() >= 20
