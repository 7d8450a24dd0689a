"""Numbers about attribution maps, and their uncertainty."""

from xai_lib.metrics.complexity import compression_complexity, high_frequency_power
from xai_lib.metrics.localisation import box_masks, effective_share, localisation, mass_inside, outline_concentration
from xai_lib.metrics.perturbation import (
    Perturbation,
    deletion,
    faithfulness,
    insertion,
    mean_blur,
    negative_perturbation,
    replace_by_rank,
)
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
    "compression_complexity",
    "deletion",
    "difference_interval",
    "effective_share",
    "faithfulness",
    "high_frequency_power",
    "insertion",
    "localisation",
    "mass_inside",
    "mean_blur",
    "mean_interval",
    "mean_intervals",
    "negative_perturbation",
    "outline_concentration",
    "paired_tests",
    "rank_correlation",
    "replace_by_rank",
]
