import itertools
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import scipy.stats
import torch
from sklearn.metrics import f1_score, roc_auc_score

from xai_lib.metrics import (
    box_masks,
    compression_complexity,
    difference_interval,
    effective_share,
    high_frequency_power,
    localisation,
    mass_inside,
    mean_interval,
    mean_intervals,
    outline_concentration,
    paired_tests,
    rank_correlation,
)


def test_interval_matches_the_normal_one_for_many_values():
    values = np.random.default_rng(0).normal(3, 2, 4000)
    mean, (low, high) = mean_interval(values)
    half = 1.96 * values.std() / 4000**0.5
    assert mean == values.mean()
    # the quantiles of 4000 resamples are themselves uncertain by some 3 % of the interval
    assert low == pytest.approx(mean - half, abs=0.1 * half) and high == pytest.approx(mean + half, abs=0.1 * half)


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    intervals = [mean_interval(rng.exponential(size=60), n_resamples=500)[1] for _ in range(400)]
    covered = np.mean([low <= 1 <= high for low, high in intervals])
    assert 0.88 < covered < 0.98  # 0.95 less the bootstrap's known shortfall at n = 60, +- 3 binomial errors


def test_intervals_of_a_table_are_those_of_its_columns():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 2)), columns=["a", "b"])
    row = mean_intervals(frame, seed=3)
    assert list(row) == ["a", "a low", "a high", "b", "b low", "b high"]
    mean, (low, high) = mean_interval(frame.b, seed=3)
    assert (row["b"], row["b low"], row["b high"]) == (mean, low, high)


def test_difference_of_two_samples():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 2, 3000), rng.normal(0, 1, 1500)
    difference, (low, high) = difference_interval(a, b)
    half = 1.96 * np.sqrt(a.var() / 3000 + b.var() / 1500)
    assert difference == pytest.approx(a.mean() - b.mean())
    assert low == pytest.approx(difference - half, abs=0.1 * half)
    assert high == pytest.approx(difference + half, abs=0.1 * half)


@pytest.mark.parametrize("values", [[1.0], [1.0, np.nan], [[1.0, 2.0]], []])
def test_too_few_values(values):
    with pytest.raises(ValueError, match="values has shape"):
        mean_interval(values)


def test_rank_correlation_is_scipys_with_ties():
    rng = np.random.default_rng(0)
    maps, references = rng.integers(0, 5, (3, 4, 6)), rng.normal(size=(3, 4, 6))
    expected = [scipy.stats.spearmanr(m.ravel(), r.ravel()).statistic for m, r in zip(maps, references, strict=True)]
    np.testing.assert_allclose(rank_correlation(maps, references), expected, rtol=1e-12)


def test_outline_concentration():
    """A square of 10 pixels, grown in diamonds: its corners gain 1 pixel within 2 of the outline, 15 within 6."""
    mask = np.zeros((2, 30, 30), bool)
    mask[0, 10:20, 10:20] = True
    mask[1, 0:10, 10:20] = True  # at the border of the image there is no outline
    inside = np.zeros_like(mask)
    inside[0, 12:18, 12:18] = True
    inside[1, 0:8, 12:18] = True
    np.testing.assert_allclose(outline_concentration(np.full(mask.shape, 3.0), mask), 1)
    np.testing.assert_allclose(outline_concentration(inside, mask), 0)
    edge = mask & ~inside
    around, outline = 100 + 4 * (10 * 6 + 15), 100 - 36 + 4 * (10 * 2 + 1)
    assert outline_concentration(edge, mask)[0] == pytest.approx(around / outline)


def test_paired_tests_are_the_textbook_ones():
    rng = np.random.default_rng(0)
    scores = pd.DataFrame({"a": rng.normal(size=12), "b": rng.normal(1, 1, size=12)})
    table = paired_tests(scores, "a", margins=(0.0, 0.5))
    d = scores.b - scores.a
    error = d.std(ddof=1) / 12**0.5
    half = scipy.stats.t.ppf(0.975, 11) * error
    expected = [scores.b.mean(), d.mean(), d.mean() - half, d.mean() + half, d.mean() / error, (d.mean() - 0.5) / error]
    np.testing.assert_allclose(table.loc["b"], expected, rtol=1e-12)
    assert table.loc["a", "mean"] == scores.a.mean() and table.loc["a"].isna().sum() == 5
    assert list(table.columns) == ["mean", "above a", "low", "high", "t, 0", "t, 0.5"]


def test_localisation_against_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    maps = np.concatenate([rng.normal(size=(3, 5, 6)), rng.integers(0, 3, (3, 5, 6))])
    masks = rng.random((6, 5, 6)) < 0.3
    table = localisation(maps, masks)
    for row, score, inside in zip(table.itertuples(), maps.reshape(6, -1), masks.reshape(6, -1), strict=True):
        marked = [score >= t for t in np.unique(score)]
        assert row.auc == pytest.approx(roc_auc_score(inside, score))
        assert row.f1 == pytest.approx(max(f1_score(inside, m) for m in marked))
        assert row.mae == pytest.approx(min(np.mean(m != inside) for m in [*marked, np.zeros_like(inside)]))
        assert row.hit == pytest.approx(inside[score == score.max()].mean())


def test_localisation_of_many_methods_is_that_of_each(monkeypatch):
    rng = np.random.default_rng(0)
    maps, masks = rng.normal(size=(2, 3, 4, 5, 6)), rng.random((4, 5, 6)) < 0.5
    each = pd.concat([localisation(maps[i, j], masks) for i in range(2) for j in range(3)], ignore_index=True)
    for run in (1, 70, 10**6):  # a map at a time, two, all of them
        monkeypatch.setattr(sys.modules["xai_lib.metrics.localisation"], "RUN", run)
        pd.testing.assert_frame_equal(localisation(maps, masks), each)


def test_localisation_of_perfect_inverted_and_flat_maps():
    mask = np.zeros((1, 4, 4), bool)
    mask[0, :2, :2] = True
    np.testing.assert_allclose(localisation(mask * 2.0, mask), [[1, 1, 0, 1]])
    np.testing.assert_allclose(localisation(-1.0 * mask, mask), [[0, 0.4, 0.25, 0]])
    np.testing.assert_allclose(localisation(0.0 * mask, mask), [[0.5, 0.4, 0.25, 0.25]])


@pytest.mark.parametrize(
    "maps, masks, message",
    [
        (np.zeros((2, 3, 3)), np.eye(3)[None], "maps has shape"),
        (np.zeros((2, 3, 3)), np.eye(3), "maps has shape"),
        (np.full((1, 3, 3), np.nan), np.eye(3)[None], "maps contains NaN"),
        (np.zeros((1, 3, 3)), np.zeros((1, 3, 3)), "masks has an empty"),
        (np.zeros((1, 3, 3)), np.ones((1, 3, 3)), "masks has an empty or a full"),
    ],
)
def test_localisation_errors(maps, masks, message):
    with pytest.raises(ValueError, match=message):
        localisation(maps, masks)


def test_boxes_are_half_open_and_joined():
    boxes = torch.tensor([[[1, 0, 3, 2], [2, 1, 4, 2]], [[0, 0, 0, 0], [0, 2, 4, 3]]])
    got = box_masks(boxes, 3, 4).int().tolist()
    assert got[0] == [[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]
    assert got[1] == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]


def test_power_of_cosines_is_the_squared_eigenvalue():
    for (height, width), (k, j) in itertools.product([(8, 8), (9, 14)], [(0, 3), (5, 0), (2, 7)]):
        rows, columns = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
        wave = 3 + np.cos(np.pi * k * rows / height) * np.cos(np.pi * j * columns / width)
        eigenvalue = 4 - 2 * np.cos(np.pi * k / height) - 2 * np.cos(np.pi * j / width)
        assert high_frequency_power(wave) == pytest.approx(eigenvalue**2, rel=1e-9)


def test_power_is_that_of_the_reflecting_laplacian():
    maps = np.random.default_rng(0).normal(size=(5, 7, 10))
    laplacian = np.stack([scipy.ndimage.laplace(m, mode="reflect") for m in maps])
    centred = maps - maps.mean((1, 2), keepdims=True)
    expected = (laplacian**2).sum((1, 2)) / (centred**2).sum((1, 2))
    np.testing.assert_allclose(high_frequency_power(maps), expected, rtol=1e-12)


def test_power_of_white_noise_is_twenty():
    power = high_frequency_power(np.random.default_rng(0).normal(size=(200, 64, 64)))
    interior = 20 - 4 * (20 - 12) / 64  # a border pixel has three neighbours: 9 + 3
    assert power.mean() == pytest.approx(interior, abs=4 * power.std() / 200**0.5 + 0.02)  # corners: 4 / 64^2


@pytest.mark.parametrize("measure", [high_frequency_power, compression_complexity])
def test_measures_ignore_scale_sign_and_mean(measure):
    maps = np.random.default_rng(0).standard_t(3, size=(3, 2, 20, 17))
    expected = measure(maps)
    assert expected.shape == (3, 2)
    for changed in (-maps, 1e-6 * maps, -37.5 * maps + 2, maps - 1e3):
        np.testing.assert_allclose(measure(changed), expected, rtol=1e-6)


@pytest.mark.parametrize("measure", [high_frequency_power, compression_complexity])
def test_measures_rise_from_constant_to_smooth_to_noise(measure):
    noise = np.random.default_rng(0).normal(size=(4, 32, 32))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 2, 2))
    constant = np.ones((4, 32, 32))
    assert (measure(constant) <= 0.1).all()  # an even grey is a byte or two longer than black
    assert (measure(constant) < measure(smooth)).all() and (measure(smooth) < 0.7 * measure(noise)).all()


def test_complexity_counts_levels():
    """White noise of a few equally frequent levels holds log2(levels) bits per pixel; PNG cannot do with less."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], size=(64, 64))
    assert 1 <= compression_complexity(signs, levels=2) < 2
    uniform = compression_complexity(rng.uniform(-1, 1, (64, 64)), levels=256, reach=3**0.5)
    assert 8 <= uniform < 8.3
    with pytest.raises(ValueError, match="levels is 1"):
        compression_complexity(signs, levels=1)


@pytest.mark.parametrize("measure", [high_frequency_power, compression_complexity])
@pytest.mark.parametrize("maps, message", [(np.ones(4), "maps has shape"), (np.full((2, 2), np.nan), "maps contains")])
def test_bad_maps(measure, maps, message):
    with pytest.raises(ValueError, match=message):
        measure(maps)


def test_mass_inside_counts_positive_values_only():
    maps = np.array([[[1.0, 3.0], [-5.0, 0.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    masks = np.array([[[True, False], [True, False]], [[True, True], [False, False]]])
    share = mass_inside(maps, masks)
    assert share[0] == 0.25 and np.isnan(share[1])
    np.testing.assert_allclose(mass_inside(7 * maps[:1], ~masks[:1]), 0.75)


@pytest.mark.parametrize("n", [1, 4, 9])
def test_effective_share_of_equal_and_of_single_values(n):
    mask = np.arange(12)[None] < n
    equal, single = np.where(mask, -2.0, 99.0), np.eye(12)[[0]]
    np.testing.assert_allclose(effective_share(equal, mask), 1.0)
    np.testing.assert_allclose(effective_share(single, mask), 1 / n)
