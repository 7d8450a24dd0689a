"""The one loop behind papers 1 to 4: a statistic of gradients, summed over points around each input.

A method chooses where the model is probed (`points`), what is made of the gradients and how that is summed (`fold`);
`accumulate` does the rest: chunks, memory, progress, stopping.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import torch
from captum.attr import Attribution
from torch import Tensor
from tqdm.auto import tqdm

from xai_lib.outputs import OUTPUTS, Problem, batch_size, check_count, generator_of, in_parts, pose, select

CHECK_EVERY = 16  # samples between two looks at the standard error, whatever the chunk
Points = Callable[[Tensor, range], tuple[Tensor, ...]]


class Result(NamedTuple):
    """What `accumulate` returns, per input in their order.

    Attributes:
        values: the folded statistic, one tensor per tensor of the problem's inputs.
        standard_error: of `values`, or None where the fold has none.
        n_samples: gradients taken for each input, (B,).
    """

    values: tuple[Tensor, ...]
    standard_error: tuple[Tensor, ...] | None
    n_samples: Tensor


class SamplingInfo(NamedTuple):
    """How precise an attribution is: standard error, shaped like it (None: not known), and samples used, (B,)."""

    standard_error: Tensor | tuple[Tensor, ...] | None
    n_samples: Tensor


def accumulate(
    problem: Problem,
    points: Points,
    n_samples: int | Tensor,
    fold: Callable[[], "Sum | Terms | Moments"],
    *,
    weights: Points | None = None,
    rows: Tensor | None = None,
    internal_batch_size: int | None = None,
    tolerance: float | None = None,
    show_progress: bool = False,
) -> Result:
    """Fold the gradients of the explained scalar at `n_samples` points per input.

    Args:
        problem: inputs and scalar, from `xai_lib.outputs.pose`.
        points: maps input indices (b,) and a range of K sample indices to the points (K, b, ...), one tensor per
            tensor of the inputs.
        n_samples: points per input, one number or, with `Moments`, one per input (B,); with `tolerance`, the most
            that are taken.
        fold: makes an empty `Sum`, `Terms` or `Moments`; one is used per input tensor.
        weights: maps the same to the weights of the gradients, broadcastable to the points, for `Sum` and `Terms`.
        rows: increasing indices of the inputs concerned, (b,); None takes all.
        internal_batch_size: rows of one forward pass; halved when memory runs out. It changes the result by
            rounding only. By default chosen from the inputs' shapes.
        tolerance: stop an input once the norm of its standard error is at most `tolerance` times the norm of its
            values, looked at every `CHECK_EVERY` samples.
        show_progress: show a progress bar that counts gradients.

    Raises:
        ValueError: `n_samples` or `internal_batch_size` is not a positive integer, `tolerance` is not positive, or
            the model is not differentiable.
    """
    limit = batch_size(problem.inputs, internal_batch_size)
    check_count("n_samples", int(n_samples.min()) if isinstance(n_samples, Tensor) else n_samples)
    counts = torch.as_tensor(n_samples, device=problem.inputs[0].device).expand(len(problem))
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance!r}, expected a positive number.")
    if tolerance is not None and not fold().has_error:
        raise ValueError("tolerance is given, expected None: this statistic has no standard error.")
    gradients = _Gradients(problem, limit)
    finished: list[tuple[Tensor, list[Tensor], list[Tensor] | None, int]] = []

    def update(folds: list, rows: Tensor, samples: range) -> None:  # on return its gradients are gone from memory
        values, grads = gradients(points, rows, samples)
        given = weights(rows, samples) if weights else [None] * len(folds)
        for f, g, w in zip(folds, grads, given, strict=True):
            f.update(g, values, w)

    def finish(rows: Tensor, folds: list, used: int) -> None:
        errors = [f.standard_error() for f in folds] if folds[0].has_error else None
        finished.append((rows, [f.result() for f in folds], errors, used))

    def settle(folds: list, rows: Tensor, used: int) -> tuple[list, Tensor]:
        """Finish the inputs that have their samples, or are precise, and return the others."""
        done = counts[rows] == used
        if tolerance and used % CHECK_EVERY == 0:
            done = done | _precise(folds, tolerance)
        if done.all():
            finish(rows, folds, used)
            return [], rows[:0]
        if done.any():
            finish(rows[done], [f.take(done) for f in folds], used)
            return [f.take(~done) for f in folds], rows[~done]
        return folds, rows

    blocks = problem.rows(limit) if rows is None else rows.split(limit)
    with tqdm(total=sum(int(counts[b].sum()) for b in blocks), disable=not show_progress, unit="gradient") as progress:
        for rows in blocks:
            folds = [fold() for _ in problem.inputs]
            start = 0
            while len(rows):
                fewest = int(counts[rows].min())
                most = max(1, max(limit, folds[0].at_once) // len(rows))
                stop = _next_stop(start, fewest, most, folds[0].unit, tolerance)
                update(folds, rows, range(start, stop))
                progress.update((stop - start) * len(rows))
                start = stop
                folds, rows = settle(folds, rows, start)

    order = torch.cat([rows for rows, *_ in finished]).argsort()
    as_finished = bool((order.diff() == 1).all())

    def in_order(parts: list[list[Tensor]]) -> tuple[Tensor, ...]:
        whole = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return tuple(whole) if as_finished else tuple(tensor[order] for tensor in whole)

    return Result(
        in_order([values for _, values, _, _ in finished]),
        None if finished[0][2] is None else in_order([errors for _, _, errors, _ in finished]),
        torch.cat([torch.full_like(rows, used) for rows, _, _, used in finished])[order],
    )


def _next_stop(start: int, n_samples: int, most: int, unit: int, tolerance: float | None) -> int:
    """Cut samples so that no chunk splits a unit or crosses a check."""
    stop = min(start + max(unit, most // unit * unit), n_samples)
    return min(stop, (start // CHECK_EVERY + 1) * CHECK_EVERY) if tolerance else stop


def _precise(folds: "list[Moments]", tolerance: float) -> Tensor:
    """Whether the norm of an input's standard error is at most `tolerance` times that of its values, (b,)."""
    error = sum(f.standard_error().flatten(1).square().sum(1) for f in folds)
    size = sum(f.result().flatten(1).square().sum(1) for f in folds)
    return error <= tolerance**2 * size


class _Gradients:
    """Values and input gradients at points (K, b, ...), at most `limit` rows at a time."""

    def __init__(self, problem: Problem, limit: int) -> None:
        self.problem, self.limit = problem, limit

    def __call__(self, points: Points, rows: Tensor, samples: range) -> tuple[Tensor, list[Tensor]]:
        shape = len(samples), len(rows)
        # As the model gets them, and not as they were drawn besides: during a pass they are held once.
        flat = self.problem.laid_out(tuple(p.flatten(0, 1) for p in points(rows, samples)))
        rows = rows.repeat(len(samples))
        parts, self.limit = in_parts(
            lambda here: self._evaluate(tuple(p[here] for p in flat), rows[here]), len(rows), self.limit
        )
        whole = parts[0] if len(parts) == 1 else [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
        values, *grads = (tensor.unflatten(0, shape) for tensor in whole)
        return values, grads

    def _evaluate(self, points: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            points = tuple(p.detach().requires_grad_() for p in points)
            values = self.problem.values(points, rows)
            grads = torch.autograd.grad(values.sum(), points, allow_unused=True) if values.requires_grad else ()
        if all(g is None for g in grads):
            raise ValueError("forward_func is not differentiable in its inputs, expected a gradient.")
        grads = (torch.zeros_like(p) if g is None else g for p, g in zip(points, grads, strict=True))
        return values.detach(), *grads


class Sum:
    """Weighted sum over samples: `sum_k w_k g_k`."""

    unit, at_once, has_error = 1, 1, False

    def __init__(self) -> None:
        self.total: Tensor | None = None

    def update(self, gradients: Tensor, values: Tensor, weights: Tensor) -> None:
        if self.total is None:
            self.total = torch.zeros_like(gradients[0])
        for weight, gradient in zip(weights.expand_as(gradients), gradients, strict=True):
            self.total.addcmul_(weight, gradient)

    def result(self) -> Tensor:
        return self.total


class Terms:
    """Every weighted gradient by itself, (b, K, ...): for looking at single scales, memory grows with K."""

    unit, at_once, has_error = 1, 1, False

    def __init__(self) -> None:
        self.terms: list[Tensor] = []

    def update(self, gradients: Tensor, values: Tensor, weights: Tensor) -> None:
        self.terms.append(weights * gradients)

    def result(self) -> Tensor:
        return torch.cat(self.terms).movedim(0, 1)


class Moments:
    """Running mean and variance over samples of a statistic of the gradient.

    Args:
        statistic: maps gradients (K, b, ...) and values (K, b) to what is averaged.
        unit: samples that count as one independent draw: 2 for antithetic pairs.
        variance: return the variance (biased) of the statistic instead of its mean.
        at_once: rows of gradients that the statistic gets at once, if one forward pass takes fewer.

    By Welford's formula, which keeps the variance free of cancellation: three passes over memory per sample.
    """

    def __init__(
        self,
        statistic: Callable[[Tensor, Tensor], Tensor] = lambda gradients, values: gradients,
        unit: int = 1,
        variance: bool = False,
        at_once: int = 1,
    ) -> None:
        self.statistic, self.unit, self.variance, self.has_error = statistic, unit, variance, not variance
        self.at_once = at_once
        self.count = 0

    def update(self, gradients: Tensor, values: Tensor, weights: None) -> None:
        x = self.statistic(gradients, values)
        if self.unit > 1:
            x = x.unflatten(0, (-1, self.unit)).mean(1)
        if not self.count:
            self.mean, self.squares = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        for one in x:
            delta = one - self.mean
            self.squares.addcmul_(delta, delta, value=self.count / (self.count + 1))
            self.count += 1
            self.mean.add_(delta, alpha=1 / self.count)

    def result(self) -> Tensor:
        return self.squares / self.count if self.variance else self.mean

    def standard_error(self) -> Tensor:
        """Of the mean, from the spread of the independent draws; NaN for a single one."""
        if self.count < 2:
            return torch.full_like(self.mean, torch.nan)
        return (self.squares / (self.count - 1) / self.count).sqrt()

    def take(self, rows: Tensor) -> "Moments":
        """The moments of some of the inputs."""
        part = copy(self)
        part.mean, part.squares = self.mean[rows], self.squares[rows]
        return part


class Noise:
    """Standard normal noise that belongs to (seed, sample index), however samples are cut into chunks.

    One integer gives every input the same noise; a sequence of integers gives each input a stream of its own. With
    `antithetic`, samples 2j and 2j + 1 carry opposite noise.
    """

    def __init__(self, seed: int | Sequence[int], n_inputs: int, antithetic: bool = False) -> None:
        self.shared = isinstance(seed, Integral)
        seeds = [seed] if self.shared else list(seed)
        if not all(isinstance(s, Integral) and s >= 0 for s in seeds) or len(seeds) != (1 if self.shared else n_inputs):
            raise ValueError(f"seed is {seed!r}, expected a non-negative integer or one per input ({n_inputs}).")
        self.seeds, self.antithetic = [int(s) for s in seeds], antithetic

    def draw(self, rows: Tensor, samples: range, like: Tensor, element: int = 0) -> Tensor:
        """Noise for inputs `rows` shaped and typed as `like`, (K, b, ...), or (K, 1, ...) where all share it."""
        seeds = self.seeds if self.shared else [self.seeds[r] for r in rows.tolist()]
        distinct = list(dict.fromkeys(seeds))
        noise = like.new_empty(len(samples), len(distinct), *like.shape[1:])
        for sample, drawn in zip(samples, noise, strict=True):
            for seed, one in zip(distinct, drawn, strict=True):
                self._fill(one, seed, sample, element)
        if len(distinct) == len(seeds):
            return noise
        return noise.index_select(1, torch.tensor([distinct.index(seed) for seed in seeds], device=noise.device))

    def _fill(self, one: Tensor, seed: int, sample: int, element: int) -> None:
        draw, negative = (sample // 2, sample % 2) if self.antithetic else (sample, 0)
        one.normal_(generator=generator_of(one.device, seed, draw, element))
        if negative:
            one.neg_()


@dataclass
class Passes:
    """Rows that went through a model: with a gradient, and without one."""

    gradients: int = 0
    forward: int = 0


@contextmanager
def count_passes(model: torch.nn.Module) -> Iterator[Passes]:
    """Count what an explanation costs: `with count_passes(model) as passes: method.attribute(images)`."""
    passes = Passes()

    def count(_: torch.nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        if output.requires_grad:
            passes.gradients += len(output)
        else:
            passes.forward += len(output)

    hook = model.register_forward_hook(count)
    try:
        yield passes
    finally:
        hook.remove()


class GradientMethod(Attribution):
    """Base of the methods on this engine: Captum's constructor plus the choice of the explained scalar.

    Args:
        forward_func: differentiable model, maps inputs (B, ...) to logits (B, classes), or to scores (B,) or
            (B, classes) with `output="score"`.
        output: explained scalar: softmax `"probability"`, `"log_probability"`, or the model's own `"score"`.
    """

    def __init__(self, forward_func: Callable[..., Tensor], output: str = "probability") -> None:
        super().__init__(forward_func)
        if output not in OUTPUTS:
            raise ValueError(f"output is {output!r}, expected one of {OUTPUTS}.")
        self.output = output

    def _pose(self, inputs, target, additional_forward_args, internal_batch_size) -> Problem:
        tensors = inputs if isinstance(inputs, tuple) else (inputs,)
        limit = 1
        if tensors and all(isinstance(x, Tensor) and x.numel() for x in tensors):
            limit = batch_size(tensors, internal_batch_size)
        return pose(self.forward_func, inputs, target, additional_forward_args, self.output, limit)

    def _pose_images(self, inputs, target, internal_batch_size) -> Problem:
        """For the methods that Captum computes, on one batch of images (or other arrays) at a time."""
        if not isinstance(inputs, Tensor):
            raise TypeError(f"inputs is a {type(inputs).__name__}, expected a tensor.")
        return self._pose(inputs, target, None, internal_batch_size)

    def _explained(self, inputs: Tensor, target: Tensor | None = None) -> Tensor:
        """The explained scalar, as a function that Captum can call."""
        return select(self.forward_func(inputs), target, self.output)


def like_inputs(inputs: Tensor | tuple[Tensor, ...], values: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    """Tuples in, tuples out."""
    return values if isinstance(inputs, tuple) else values[0]
