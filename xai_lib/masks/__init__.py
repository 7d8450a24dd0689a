"""The engine of rate-distortion explanations: minimise `distortion + lambda * mean(mask)` over masks.

Four independent choices: a representation (what a mask switches off), an obfuscation (what takes its place), a
distortion (how far the output moves) and a solver.
"""

from xai_lib.masks.distortions import OutputChange, ProbabilityChange, ScoreChange
from xai_lib.masks.obfuscations import Blurred, Constant, Gaussian, Inpainted, Obfuscation, Perturbation
from xai_lib.masks.objective import Distortion, Objective
from xai_lib.masks.representations import (
    Clusters,
    Coefficients,
    Fourier,
    Representation,
    Wavelets,
    channels,
    pixels,
)
from xai_lib.masks.solvers import L1, Bernoulli, MatchingPursuit, Solution, Solver

__all__ = [
    "L1",
    "Bernoulli",
    "Blurred",
    "Clusters",
    "Coefficients",
    "Constant",
    "Distortion",
    "Fourier",
    "Gaussian",
    "Inpainted",
    "MatchingPursuit",
    "Obfuscation",
    "Objective",
    "OutputChange",
    "Perturbation",
    "ProbabilityChange",
    "Representation",
    "ScoreChange",
    "Solution",
    "Solver",
    "Wavelets",
    "channels",
    "pixels",
]
