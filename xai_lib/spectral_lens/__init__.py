"""SpectralLens and ArgLens: squared gradients under noise of many scales, and the family they belong to.

A scale `a` in [0, 1] stands for noise of standard deviation `a * sigma_max`, in units of the input.

Mehrpanah, Englesson, Azizpour: On Spectral Properties of Gradient-based Explanation Methods, ECCV 2024.
"""

from xai_lib.spectral_lens.family import IG, IG2, SG, SG2, VG, VG2, XIG, XIG2
from xai_lib.spectral_lens.lenses import ArgLens, SpectralLens, Stack
from xai_lib.spectral_lens.scales import Cutoff, entropy_cutoff, inconsistency, optimal_scale, similarity

__all__ = [
    "IG",
    "IG2",
    "SG",
    "SG2",
    "VG",
    "VG2",
    "XIG",
    "XIG2",
    "ArgLens",
    "Cutoff",
    "SpectralLens",
    "Stack",
    "entropy_cutoff",
    "inconsistency",
    "optimal_scale",
    "similarity",
]
