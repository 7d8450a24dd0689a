"""Points under noise of one scale, shared by the lenses and the family."""

from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor

from xai_lib.gradients import GradientMethod, Noise, Points
from xai_lib.outputs import Problem

NOISES = ("convex", "additive")


class ByLogProbability(GradientMethod):
    def __init__(self, forward_func: Callable[..., Tensor], output: str = "log_probability") -> None:
        super().__init__(forward_func, output)


def noisy(problem: Problem, scale: Tensor, sigma_max: float, noise: str, drawn: Noise, first: int = 0) -> Points:
    """Inputs under noise of their own scales (B,), from sample number `first`."""
    keep = 1 - scale if noise == "convex" else torch.ones_like(scale)
    centres = [along(keep, x) * x for x in problem.inputs]
    spreads = [along(sigma_max * scale, x) for x in problem.inputs]

    def points(rows: Tensor, samples: range) -> tuple[Tensor, ...]:
        samples = range(samples.start + first, samples.stop + first)
        return tuple(
            torch.addcmul(centre.index_select(0, rows), spread[rows], drawn.draw(rows, samples, centre, i))
            for i, (centre, spread) in enumerate(zip(centres, spreads, strict=True))
        )

    return points


def unperturbed(problem: Problem) -> Points:
    """The inputs themselves, for a single sample."""
    return lambda rows, samples: tuple(x[rows][None] for x in problem.inputs)


def check_noise(sigma_max: float, noise: str) -> None:
    if not (isinstance(sigma_max, Real) and 0 < sigma_max < float("inf")):
        raise ValueError(f"sigma_max is {sigma_max!r}, expected a positive number in units of the input.")
    if noise not in NOISES:
        raise ValueError(f"noise is {noise!r}, expected one of {NOISES}.")


def square(gradients: Tensor, values: Tensor) -> Tensor:
    return gradients**2


def along(numbers: Tensor, x: Tensor) -> Tensor:
    """One number per leading index of `x`, shaped to broadcast with it."""
    return numbers.to(x).view(-1, *[1] * (x.ndim - 1))
