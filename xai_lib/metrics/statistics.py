"""Means, differences and correlations, with their uncertainty."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import ArrayLike


def mean_interval(
    values: ArrayLike, confidence: float = 0.95, seed: int = 0, n_resamples: int = 4000
) -> tuple[float, tuple[float, float]]:
    """The mean of independent `values`, (n,), and its bootstrap percentile interval.

    Raises:
        ValueError: there are fewer than two values, or one is not finite.
    """
    values = _checked(values)
    return float(values.mean()), _percentiles(_resampled_means(values, seed, n_resamples), confidence)


def mean_intervals(frame: pd.DataFrame, confidence: float = 0.95, seed: int = 0) -> dict[str, float]:
    """The mean of every column of `frame` and its bootstrap interval, as the entries "x", "x low" and "x high"."""
    row = {}
    for name in frame:
        row[name], (row[f"{name} low"], row[f"{name} high"]) = mean_interval(frame[name], confidence, seed)
    return row


def difference_interval(
    a: ArrayLike, b: ArrayLike, confidence: float = 0.95, seed: int = 0, n_resamples: int = 4000
) -> tuple[float, tuple[float, float]]:
    """The difference of the means of two independent samples, mean(a) - mean(b), and its bootstrap interval.

    Raises:
        ValueError: as `mean_interval`.
    """
    a, b = _checked(a), _checked(b)
    drawn = _resampled_means(a, seed, n_resamples) - _resampled_means(b, seed + 1, n_resamples)
    return float(a.mean() - b.mean()), _percentiles(drawn, confidence)


def _checked(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values has shape {values.shape}, expected at least two finite numbers in a row.")
    return values


def _resampled_means(values: np.ndarray, seed: int, n_resamples: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(len(values), size=(n_resamples, len(values)))
    return values[drawn].mean(1)


def _percentiles(drawn: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def rank_correlation(maps: ArrayLike, references: ArrayLike) -> np.ndarray:
    """Spearman's correlation of each map with its reference, both (B, ...): (B,). Ties share their mean rank."""
    ranks = [scipy.stats.rankdata(np.asarray(m).reshape(len(m), -1), axis=1) for m in (maps, references)]
    a, b = (r - r.mean(1, keepdims=True) for r in ranks)
    return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def paired_tests(scores: pd.DataFrame, reference: str, margins: Sequence[float] = (0.0,)) -> pd.DataFrame:
    """Compare columns of paired `scores` (a row per unit) with the column `reference`, by t-tests of the differences.

    Returns a row per column of `scores`: its mean; for all but the reference the mean difference "above `reference`"
    with its 95 % interval ("low", "high"), and per margin m the statistic "t, m" of H0: the difference is at most m.
    """
    rows = {reference: {"mean": scores[reference].mean()}}
    for name in scores.columns.drop(reference):
        difference = scores[name] - scores[reference]
        low, high = scipy.stats.ttest_1samp(difference, 0).confidence_interval()
        rows[name] = {"mean": scores[name].mean(), f"above {reference}": difference.mean(), "low": low, "high": high}
        rows[name] |= {f"t, {m:g}": scipy.stats.ttest_1samp(difference, m).statistic for m in margins}
    return pd.DataFrame.from_dict(rows, orient="index").loc[list(scores.columns)]
