import numpy as np
import pandas as pd
import pytest
import scipy.stats

from xai_lib.metrics import difference_interval, mean_interval, outline_concentration, paired_tests, rank_correlation


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
