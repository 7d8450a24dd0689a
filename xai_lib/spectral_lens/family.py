"""The family: mean gradients and mean squared gradients over points of three kinds, after the paper's names."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from captum.log import log_usage
from torch import Tensor

from xai_lib.gradients import Moments, Noise, Points, accumulate, like_inputs
from xai_lib.outputs import Problem, check_count
from xai_lib.spectral_lens.sampling import ByLogProbability, along, check_noise, noisy, square, unperturbed


class _Family(ByLogProbability):
    """`E[g(z)]`, or `E[g(z)^2]` where `squared`, over points `z` of one kind; times the input where `times_input`."""

    squared, times_input = False, False

    def _mean(self, inputs, problem: Problem, points: Points, n: int, limit: int | None, show_progress: bool) -> Any:
        def fold() -> Moments:
            return Moments(square) if self.squared else Moments()

        values = accumulate(problem, points, n, fold, internal_batch_size=limit, show_progress=show_progress).values
        if self.times_input:
            values = tuple(v * x for v, x in zip(values, problem.inputs, strict=True))
        return like_inputs(inputs, values)


class VG(_Family):
    """VanillaGrad, the gradient at the input: `z = x`."""

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: int | Sequence[int] | Tensor | None = None,
        *,
        additional_forward_args: Any = None,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Attribute the target's output to the inputs (B, ...), in one gradient per input."""
        problem = self._pose(inputs, target, additional_forward_args, internal_batch_size)
        return self._mean(inputs, problem, unperturbed(problem), 1, internal_batch_size, show_progress)


class SG(_Family):
    """SmoothGrad, the mean gradient under noise: `z = x + sigma eps`, or `(1 - a) x + sigma eps` for scale `a`."""

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: int | Sequence[int] | Tensor | None = None,
        *,
        sigma_max: float,
        scale: float | Tensor = 1.0,
        n_samples: int = 64,
        noise: str = "additive",
        seed: int | Sequence[int] = 0,
        additional_forward_args: Any = None,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Attribute the target's output to the inputs (B, ...), in `n_samples` gradients per input.

        The noise has the standard deviation `scale * sigma_max`; `scale` is one number or one per input (B,), such as
        those of `optimal_scale`. Other arguments as in `SpectralLens`.

        Raises:
            TypeError, ValueError: an argument, or the model's output, is invalid.
        """
        check_noise(sigma_max, noise)
        problem = self._pose(inputs, target, additional_forward_args, internal_batch_size)
        scale = torch.as_tensor(scale, dtype=torch.float64).flatten()
        if len(scale) not in (1, len(problem)) or not ((scale >= 0) & (scale <= 1)).all():
            raise ValueError(f"scale is {scale.tolist()}, expected one number from 0 to 1, or one per input.")
        points = noisy(problem, scale.expand(len(problem)), sigma_max, noise, Noise(seed, len(problem)))
        return self._mean(inputs, problem, points, n_samples, internal_batch_size, show_progress)


class IG(_Family):
    """Integrated gradients without the factor `x - baseline`: `z` uniform on the segment from the baseline to `x`."""

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: int | Sequence[int] | Tensor | None = None,
        *,
        depth: float = 1.0,
        n_steps: int = 64,
        additional_forward_args: Any = None,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Attribute the target's output to the inputs (B, ...), in `n_steps` gradients per input by the midpoint rule.

        The path leads from `(1 - depth) x` to `x`: 1 is the usual one from black, less the perturbation level of
        Figures 13 and 14. Other arguments as in `SpectralLens`.

        Raises:
            TypeError, ValueError: an argument, or the model's output, is invalid.
        """
        if not (isinstance(depth, Real) and 0 < depth <= 1):
            raise ValueError(f"depth is {depth!r}, expected a number above 0 and at most 1.")
        check_count("n_steps", n_steps)
        problem = self._pose(inputs, target, additional_forward_args, internal_batch_size)

        def points(rows: Tensor, samples: range) -> tuple[Tensor, ...]:
            share = 1 - depth * (torch.arange(samples.start, samples.stop) + 0.5) / n_steps
            return tuple(along(share, x[None]) * x[rows] for x in problem.inputs)

        return self._mean(inputs, problem, points, n_steps, internal_batch_size, show_progress)


class VG2(VG):
    """VanillaGrad squared."""

    squared = True


class SG2(SG):
    """SmoothGrad squared, the mean squared gradient under noise."""

    squared = True


class IG2(IG):
    """The mean squared gradient on the segment from the baseline."""

    squared = True


class XIG(IG):
    """Integrated gradients as usual from black: the mean gradient on the segment, times the input."""

    times_input = True


class XIG2(IG2):
    """The mean squared gradient on the segment, times the input."""

    times_input = True
