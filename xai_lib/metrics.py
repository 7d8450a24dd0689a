"""Numbers about attribution maps, and their uncertainty."""

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike


def mean_interval(
    values: ArrayLike, confidence: float = 0.95, seed: int = 0, n_resamples: int = 4000
) -> tuple[float, tuple[float, float]]:
    """The mean of independent `values`, (n,), and its bootstrap percentile interval.

    Raises:
        ValueError: there are fewer than two values, or one is not finite.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values has shape {values.shape}, expected at least two finite numbers in a row.")
    drawn = np.random.default_rng(seed).integers(len(values), size=(n_resamples, len(values)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values[drawn].mean(1), [tail, 1 - tail])
    return float(values.mean()), (float(low), float(high))


def rank_correlation(maps: ArrayLike, references: ArrayLike) -> np.ndarray:
    """Spearman's correlation of each map with its reference, both (B, ...): (B,). Ties share their mean rank."""
    ranks = [scipy.stats.rankdata(np.asarray(m).reshape(len(m), -1), axis=1) for m in (maps, references)]
    a, b = (r - r.mean(1, keepdims=True) for r in ranks)
    return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
