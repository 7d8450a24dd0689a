"""SpectralLens and ArgLens, and the squared gradients under noise of every scale that both are made of."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from captum.log import log_usage
from torch import Tensor
from tqdm.auto import tqdm

from xai_lib.gradients import Moments, Noise, Points, accumulate, like_inputs
from xai_lib.outputs import Problem, batch_size, check_count
from xai_lib.spectral_lens.sampling import ByLogProbability, along, check_noise, noisy, square, unperturbed

PILOT = 4  # a quarter of the samples tells how far the squares scatter at each scale
SIDE_BY_SIDE = 4  # inputs whose stacks are in memory at once, at least: those of one seed share what is drawn


class Stack(NamedTuple):
    """Mean squared gradients scale by scale.

    Attributes:
        scales: in units of `sigma_max`, evenly from 0 to 1, (A,).
        squares: `E[g(z_a)^2]`, (B, A, ...).
        standard_error: of `squares`; 0 at scale 0, where nothing is drawn, and NaN after a single draw.
        n_samples: gradients taken, (B, A).
    """

    scales: Tensor
    squares: Tensor
    standard_error: Tensor
    n_samples: Tensor


class SpectralLens(ByLogProbability):
    """Mean squared gradient over a mixture of Gaussians: `SL2 = sum_a q(a) E[g(z_a)^2]` (eq. 9).

    `z_a` is `(1 - a) x + a sigma_max eps` ("convex", appendix E.2) or `x + a sigma_max eps` ("additive"), `q` the
    prior over the scales `a` and `g` the gradient, by default of the log-probability.
    """

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: int | Sequence[int] | Tensor | None = None,
        *,
        sigma_max: float,
        n_samples: int = 128,
        n_scales: int = 11,
        noise: str = "convex",
        prior: str | Callable[[Tensor], Tensor] = "uniform",
        seed: int | Sequence[int] = 0,
        additional_forward_args: Any = None,
        internal_batch_size: int | None = None,
        return_stack: bool = False,
        show_progress: bool = False,
    ) -> Any:
        """Attribute the target's output to the inputs, in `n_samples` gradients per input over all scales.

        The noise is independent from scale to scale. A quarter of the samples is spread evenly; the others go where
        `q(a)` times the standard deviation of the squares is largest (Neyman's allotment). Scale 0 takes one.

        Args:
            inputs: float tensor (B, ...) or a tuple of them.
            target: class explained, one or one per input; None explains the class predicted on `inputs`.
            sigma_max: standard deviation of the noise at scale 1 in units of the input, see `entropy_cutoff`.
            n_samples: gradients per input, at least 3 for every scale.
            n_scales: scales, evenly from 0 to 1.
            noise: "convex" or "additive".
            prior: "uniform" or a function that maps the scales (A,) to their densities, normalised here.
            seed: one integer gives every input the same noise, a sequence gives each input its own stream.
            additional_forward_args: passed to `forward_func` behind the inputs.
            internal_batch_size: rows of one forward pass; changes the result by rounding only.
            return_stack: also return the `Stack` of all scales; memory then grows with `n_scales`.
            show_progress: show a progress bar that counts gradients.

        Raises:
            TypeError, ValueError: an argument, or the model's output, is invalid; the prior is negative, infinite or
                zero everywhere.
        """
        scales = _scales(n_scales, sigma_max, noise)
        check_count("n_samples", n_samples)
        if n_samples < 3 * n_scales:
            raise ValueError(f"n_samples is {n_samples}, expected at least 3 for each of {n_scales} scales.")
        q = _normalised(prior, scales)
        problem = self._pose(inputs, target, additional_forward_args, internal_batch_size)
        limit = batch_size(problem.inputs, internal_batch_size)
        stacks = _stacks(problem, scales, n_samples, sigma_max, noise, seed, q, limit, show_progress)

        def mixture(stack: Stack) -> Tensor:
            return torch.einsum("a,ba...->b...", q.to(stack.squares), stack.squares)

        return _gathered(inputs, stacks, mixture, return_stack)


class ArgLens(ByLogProbability):
    """The scale, in units of `sigma_max`, at which noise makes a pixel's squared gradient largest (eq. 10).

    `argmax_a E[g(z_a)^2]`, with `z_a` as in `SpectralLens` and the squares summed over channels; ties go to the
    smallest scale.
    """

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: int | Sequence[int] | Tensor | None = None,
        *,
        sigma_max: float,
        n_samples: int = 161,
        n_scales: int = 11,
        noise: str = "convex",
        seed: int | Sequence[int] = 0,
        additional_forward_args: Any = None,
        internal_batch_size: int | None = None,
        return_stack: bool = False,
        show_progress: bool = False,
    ) -> Any:
        """Find each pixel's scale in `n_samples` gradients per input, equally many and the same noise at every scale.

        Args:
            as in `SpectralLens`; `n_samples` is at least `n_scales`. Scale 0 takes one of them; of the others, those
            that do not divide equally among the other scales are not taken.

        Returns:
            Scales shaped as the inputs, with one channel instead of C for inputs (B, C, ...); where asked for,
            followed by the `Stack`, whose mean over the scales is the paper's estimate of SL2.

        Raises:
            TypeError, ValueError: an argument, or the model's output, is invalid.
        """
        scales = _scales(n_scales, sigma_max, noise)
        check_count("n_samples", n_samples)
        if n_samples < n_scales:
            raise ValueError(f"n_samples is {n_samples}, expected at least one for each of {n_scales} scales.")
        problem = self._pose(inputs, target, additional_forward_args, internal_batch_size)
        limit = batch_size(problem.inputs, internal_batch_size)
        stacks = _stacks(problem, scales, n_samples, sigma_max, noise, seed, None, limit, show_progress)

        def largest(stack: Stack) -> Tensor:
            return scales.to(stack.squares)[over_channels(stack.squares).argmax(1)]

        return _gathered(inputs, stacks, largest, return_stack)


def _gathered(
    inputs: Any, blocks: Iterator[tuple[Stack, ...]], reduce: Callable[[Stack], Tensor], return_stack: bool
) -> Any:
    """Reduce the stacks block by block, so that they are kept only where they are asked for."""
    values, kept = [], []
    for stacks in blocks:
        values.append([reduce(stack) for stack in stacks])
        kept += [stacks] if return_stack else []
    attributions = like_inputs(inputs, tuple(torch.cat(parts) for parts in zip(*values, strict=True)))
    if not return_stack:
        return attributions
    return attributions, like_inputs(inputs, tuple(_joined(parts) for parts in zip(*kept, strict=True)))


def _joined(parts: Sequence[Stack]) -> Stack:
    return Stack(parts[0].scales, *(torch.cat(tensors) for tensors in list(zip(*parts, strict=True))[1:]))


class _Squares(NamedTuple):
    """Mean squared gradients of V inputs, with the sum of squared deviations and the number of draws."""

    mean: Tensor  # (V, ...)
    scatter: Tensor  # (V, ...)
    count: Tensor  # (V, 1, ...)

    def merge_(self, other: "_Squares") -> "_Squares":
        """Of both sets of draws together (Chan's formula), in the memory of both."""
        count = self.count + other.count
        share = other.count / count
        gap = other.mean.sub_(self.mean)
        mean = self.mean.addcmul_(gap, share)
        scatter = self.scatter.add_(other.scatter).addcmul_(gap.square_(), self.count * share)
        return _Squares(mean, scatter, count)


def _squares(problem: Problem, points: Points, n_samples: int | Tensor, limit: int) -> list[_Squares]:
    """Mean squared gradients of a problem's inputs, one entry per tensor."""
    found = accumulate(problem, points, n_samples, partial(Moments, square), internal_batch_size=limit)
    squares = []
    for mean, error in zip(found.values, found.standard_error, strict=True):
        count = along(found.n_samples, mean)
        scatter = error.square_().mul_(count * (count - 1)).nan_to_num_()  # a single draw has no error, and no scatter
        squares.append(_Squares(mean, scatter, count))
    return squares


def _stacks(
    problem: Problem,
    scales: Tensor,
    n_samples: int,
    sigma_max: float,
    noise: str,
    seed: int | Sequence[int],
    prior: Tensor | None,
    limit: int,
    show_progress: bool,
) -> Iterator[tuple[Stack, ...]]:
    """Stacks of a few inputs at a time, one per tensor; without a prior all scales get equal numbers and one noise.

    Each input stands once per scale above 0 in a problem of its own, so that the engine sees single Gaussians.
    """
    n = len(scales) - 1
    own = Noise(seed, len(problem)).seeds
    with tqdm(total=len(problem) * n_samples, disable=not show_progress, unit="gradient") as progress:
        for rows in problem.rows(max(SIDE_BY_SIDE, limit // n)):
            block = problem.take(rows.repeat(n))
            seeds = [(own[row if len(own) > 1 else 0], j) for j in range(n) for row in rows.tolist()]
            if prior is None:
                seeds = [seed for seed, _ in seeds]
            else:  # noise of its own at each scale
                seeds = [int(np.random.SeedSequence(pair).generate_state(1)[0]) for pair in seeds]
            at = scales[1:].repeat_interleave(len(rows))
            draw = partial(noisy, block, at, sigma_max, noise, Noise(seeds, len(block)))
            if prior is None:
                found = _squares(block, draw(), (n_samples - 1) // n, limit)
            else:
                pilot = max(2, n_samples // (PILOT * n))
                first = _squares(block, draw(), pilot, limit)
                more = _allotted(first, prior[1:], n_samples - 1 - n * pilot)
                found = [
                    a.merge_(b) for a, b in zip(first, _squares(block, draw(first=pilot), more, limit), strict=True)
                ]
            clean = problem.take(rows)
            at_zero = _squares(clean, unperturbed(clean), 1, limit)
            progress.update(len(rows) * n_samples)
            yield tuple(_stack(scales, zero, squares) for zero, squares in zip(at_zero, found, strict=True))


def _stack(scales: Tensor, zero: _Squares, found: _Squares) -> Stack:
    """One stack of scale 0, (b, ...), and the others, (n b, ...)."""
    squares, scatter, count = (t.unflatten(0, (-1, len(zero.mean))).transpose(0, 1) for t in found)
    error = scatter.div_((count - 1) * count).sqrt_()
    return Stack(
        scales,
        torch.cat([zero.mean[:, None], squares], 1),
        torch.cat([torch.zeros_like(zero.mean)[:, None], error], 1),
        torch.cat([zero.count[:, None], count], 1).flatten(2)[..., 0].long(),
    )


def _allotted(pilot: list[_Squares], prior: Tensor, n_samples: int) -> Tensor:
    """How many of `n_samples` more draws each input takes at each scale, (n b,): at least one.

    In all, pilot included, numbers are as near as can be to the prior times the standard deviation of the squares.
    """
    deviation = sum((p.scatter / (p.count - 1)).flatten(1).sum(1) for p in pilot).sqrt().cpu().double()
    wish = prior.double() * deviation.view(len(prior), -1).T
    wish = torch.where(wish.sum(1, keepdim=True) > 0, wish, torch.ones_like(wish))
    wish = wish / wish.sum(1, keepdim=True)
    drawn = float(pilot[0].count.flatten()[0])
    wish = (wish * (n_samples + drawn * len(prior)) - drawn).clamp(min=0)
    wish = wish / wish.sum(1, keepdim=True) * (n_samples - len(prior))
    counts = wish.floor()
    left = (n_samples - len(prior) - counts.sum(1, keepdim=True)).round()
    rank = (wish - counts).argsort(dim=1, descending=True, stable=True).argsort(1)
    return (1 + counts + (rank < left)).T.flatten().long()


def _scales(n_scales: int, sigma_max: float, noise: str) -> Tensor:
    """Scales from 0 to 1, (A,), float64."""
    check_count("n_scales", n_scales)
    if n_scales < 2:
        raise ValueError(f"n_scales is {n_scales}, expected at least 2 scales to compare.")
    check_noise(sigma_max, noise)
    return torch.linspace(0, 1, n_scales, dtype=torch.float64)


def _normalised(prior: str | Callable[[Tensor], Tensor], scales: Tensor) -> Tensor:
    """Weights of the scales, (A,), that add up to 1."""
    if prior == "uniform":
        return torch.full_like(scales, 1 / len(scales))
    if not callable(prior):
        raise ValueError(f"prior is {prior!r}, expected 'uniform' or a function of the scales.")
    density = torch.as_tensor(prior(scales), dtype=scales.dtype)
    if density.shape != scales.shape or not density.isfinite().all() or (density < 0).any() or not density.sum() > 0:
        raise ValueError(
            f"prior gives {density.tolist()}, expected a finite density of at least 0 for each of {len(scales)} "
            "scales that integrates to a positive number."
        )
    return density / density.sum()


def over_channels(squares: Tensor) -> Tensor:
    """Squares (B, A, C, ...) summed over channels, (B, A, 1, ...); those of inputs (B, N) as they are."""
    return squares.sum(2, keepdim=True) if squares.ndim > 3 else squares
