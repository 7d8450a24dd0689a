"""Numbers about attribution maps, and their uncertainty."""

from xai_lib.metrics.localisation import box_masks, localisation, outline_concentration
from xai_lib.metrics.perturbation import Perturbation, deletion, insertion, mean_blur, replace_by_rank
from xai_lib.metrics.statistics import (
    difference_interval,
    mean_interval,
    mean_intervals,
    paired_tests,
    rank_correlation,
)

__all__ = [
    "Perturbation",
    "box_masks",
    "deletion",
    "difference_interval",
    "insertion",
    "localisation",
    "mean_blur",
    "mean_interval",
    "mean_intervals",
    "outline_concentration",
    "paired_tests",
    "rank_correlation",
    "replace_by_rank",
]
