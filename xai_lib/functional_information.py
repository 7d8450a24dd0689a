"""Functional information: attribution by functional Fisher information under the covariance of the data.

Gat, Calderon, Reichart, Hazan: A Functional Information Perspective on Model Interpretation, ICML 2022.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial, reduce
from numbers import Real
from operator import mul
from typing import Any

import torch
from captum.log import log_usage
from torch import Tensor

from xai_lib.covariance import Covariance, Dense
from xai_lib.gradients import GradientMethod, Moments, Noise, Points, SamplingInfo, accumulate
from xai_lib.outputs import Problem

RUN = 32  # samples whose noise is coloured at once
ROWS = 256  # gradients that Sigma multiplies at once, if they are small: one large product beats several small ones
WEIGHTINGS = ("full", "gradient", "weighted-gradient")


def functional_entropy(values: Tensor) -> Tensor:
    """Functional entropy `E[f log f] - E[f] log E[f]` (eq. 2) of non-negative values f, (n, ...), of n samples: (...).

    Raises:
        ValueError: a value is negative or not finite.
    """
    if not (values >= 0).all() or not values.isfinite().all():
        raise ValueError("values are negative, NaN or infinite somewhere, expected non-negative numbers.")
    mean = values.mean(0)
    ratio = values / mean.clamp(min=torch.finfo(values.dtype).tiny)
    return mean * torch.xlogy(ratio, ratio).mean(0)  # the same without cancellation


def fisher_information(values: Tensor, gradients: Tensor, covariance: Covariance | Tensor) -> Tensor:
    """Functional Fisher information `E[<Sigma grad f, grad f> / f]` (eq. 10).

    Args:
        values: f at n samples, (n, B), positive.
        gradients: of f, (n, B, ...).
        covariance: a square matrix over the trailing features, or a `Covariance`.

    Returns:
        The information per input, (B,). Twice the functional entropy is at most that (theorem 4.1).
    """
    weighted = fitting(covariance, gradients.shape[2:]).to(gradients).multiply(gradients)
    return ((weighted * gradients).flatten(2).sum(2) / values).mean(0)


class FunctionalInformation(GradientMethod):
    """Share of each feature in the functional Fisher information of the explained output.

    `E[(Sigma grad f)_i (grad f)_i / f]` under N(x, Sigma) (eq. 13 with the 1/f of eq. 10); the sum over features is
    at least twice the functional entropy of f, whatever the covariance Sigma.

    Args:
        forward_func: maps inputs (B, ...) to logits (B, classes), or with `output="score"` to non-negative scores.
        covariance: of the data. A square tensor (d, d), where d is the size of the inputs' trailing sides, shared
            by what precedes them; a `Covariance`; or a sequence of these, one per class.
        output: f is the softmax `"probability"` of the target, or the model's own `"score"`, (B,) or (B, classes).

    Raises:
        ValueError: the covariance is no covariance, or `output` is neither.
    """

    def __init__(
        self,
        forward_func: Any,
        covariance: Covariance | Tensor | Sequence[Covariance | Tensor],
        output: str = "probability",
    ) -> None:
        super().__init__(forward_func, output)
        if output == "log_probability":
            raise ValueError("output is 'log_probability', expected a non-negative one: 'probability' or 'score'.")
        self.per_class = isinstance(covariance, Sequence)
        given = covariance if self.per_class else [covariance]
        self.covariances = [c if isinstance(c, Covariance) else Dense(c) for c in given]

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        target: int | Sequence[int] | Tensor | None = None,
        *,
        n_samples: int = 100,
        seed: int | Sequence[int] = 0,
        noise_scale: float = 1.0,
        weighting: str | Sequence[str] = "full",
        given: Tensor | None = None,
        summed: int | None = None,
        antithetic: bool = False,
        tolerance: float | None = None,
        additional_forward_args: Any = None,
        internal_batch_size: int | None = None,
        return_info: bool = False,
        show_progress: bool = False,
    ) -> Any:
        """Attribute the target's output to inputs (B, ...), in `n_samples` gradients per input.

        Args:
            inputs: float tensor (B, ...).
            target: class explained, one or one per input; None explains the class predicted on `inputs`.
            n_samples: samples per input; with `tolerance`, the most that are taken.
            seed: one integer gives every input the same noise, a sequence gives each input its own stream.
            noise_scale: factor on Sigma in sampling only; the published code has 0.15, the paper 1.
            weighting: "full"; or one part of it (columns 4 and 5 of figure 1): "gradient" takes `(grad f)_i^2 / f`,
                without the product with Sigma, "weighted-gradient" takes `(Sigma grad f)_i`. A sequence of these
                gives a tuple of maps, all from the same gradients (`tolerance` looks at them together).
            given: features that are held fixed, a bool mask shaped as one input. The rest is sampled, and weighted,
                by its conditional Gaussian (corollary 4.2); what is held gets 0.
            summed: the published code sums both factors over one axis, the channels (-3) or an embedding's
                coordinates (-1), before it multiplies them; the result is spread evenly over that axis.
            antithetic: draw noise in pairs of opposite sign.
            tolerance: stop an input once its standard error is below this share of its map, both as norms.
            additional_forward_args: passed to `forward_func` behind the inputs.
            internal_batch_size: rows of one forward pass; changes the result by rounding only.
            return_info: also return `SamplingInfo`: the standard error and the samples used.
            show_progress: show a progress bar.

        Returns:
            Attributions shaped as the inputs; for a sequence of weightings, and their standard errors too, a tuple.

        Raises:
            TypeError: the inputs are no single tensor, or the target has the wrong type.
            ValueError: an argument or the model's output is invalid, or the covariance does not fit the inputs.
        """
        if not isinstance(inputs, Tensor):
            raise TypeError(f"inputs is a {type(inputs).__name__}, expected a tensor: one Gaussian spans all features.")
        single = isinstance(weighting, str)
        weightings = (weighting,) if single else tuple(weighting)
        if not weightings or not set(weightings) <= set(WEIGHTINGS):
            raise ValueError(f"weighting is {weighting!r}, expected one or more of {WEIGHTINGS}.")
        if not isinstance(noise_scale, Real) or not 0 <= noise_scale < float("inf"):
            raise ValueError(f"noise_scale is {noise_scale!r}, expected a number of at least 0.")
        if antithetic and isinstance(n_samples, int) and n_samples % 2:
            raise ValueError(f"n_samples is {n_samples}, expected an even number for antithetic pairs.")
        held = None if given is None else _mask(given, inputs)
        if summed is not None and summed not in range(1 - inputs.ndim, 0):
            raise ValueError(f"summed is {summed!r}, expected a negative axis behind the batch.")
        problem = self._pose(inputs, target, additional_forward_args, internal_batch_size)
        if self.output == "probability":
            problem = replace(problem, output="log_probability")  # grad f = f grad log f needs no division
        noise = Noise(seed, len(problem), antithetic)
        unit = 2 if antithetic else 1
        at_once = min(ROWS, 2**20 // inputs[0].numel())
        order, results = [], []
        for rows, covariance in self._by_covariance(problem):
            sigma = covariance.to(inputs) if held is None else covariance.to(inputs).condition(held)
            result = accumulate(
                problem,
                _points(inputs, sigma, noise, noise_scale, n_samples),
                n_samples,
                partial(Moments, _statistic(sigma, self.output, weightings, held, summed), unit, at_once=at_once),
                rows=rows,
                internal_batch_size=internal_batch_size,
                tolerance=tolerance,
                show_progress=show_progress,
            )
            order.append(rows)
            results.append((result.values[0], result.standard_error[0], result.n_samples))
        back = torch.cat(order).argsort()
        attributions, error, used = (torch.cat(parts)[back] for parts in zip(*results, strict=True))
        if not single:
            shape = len(inputs), len(weightings), *inputs.shape[1:]
            attributions, error = (maps.view(shape).unbind(1) for maps in (attributions, error))
        return (attributions, SamplingInfo(error, used)) if return_info else attributions

    def _by_covariance(self, problem: Problem) -> Iterator[tuple[Tensor, Covariance]]:
        """The inputs' indices and the covariance that applies to them: class by class, or all at once."""
        shape = problem.inputs[0].shape[1:]
        if not self.per_class:
            yield torch.arange(len(problem), device=problem.inputs[0].device), fitting(self.covariances[0], shape)
            return
        if problem.target is None or problem.target.max() >= len(self.covariances):
            explained = "no class" if problem.target is None else f"class {problem.target.max()}"
            raise ValueError(
                f"covariance has {len(self.covariances)} entries, one per class, but {explained} is explained."
            )
        for label in problem.target.unique():
            yield (problem.target == label).nonzero()[:, 0], fitting(self.covariances[label], shape)


def fitting(covariance: Covariance | Tensor, shape: torch.Size) -> Covariance:
    """A covariance that applies to features of that shape.

    Raises:
        ValueError: it is of another size, or no covariance.
    """
    covariance = covariance if isinstance(covariance, Covariance) else Dense(covariance)
    if not covariance.fits(shape):
        raise ValueError(
            f"covariance is over {covariance.groups} x {covariance.size} features, expected it over the trailing sides "
            f"of an input of shape {tuple(shape)}."
        )
    return covariance


def _mask(given: Tensor, inputs: Tensor) -> Tensor:
    if not isinstance(given, Tensor) or given.dtype != torch.bool or given.shape != inputs.shape[1:] or given.all():
        what = f"{given.dtype} of shape {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(
            f"given is {what}, expected a bool mask of shape {tuple(inputs.shape[1:])} that leaves a feature free."
        )
    return given.to(inputs.device)


def _points(inputs: Tensor, sigma: Covariance, noise: Noise, noise_scale: float, n_samples: int) -> Points:
    """Points of N(x, noise_scale Sigma)."""

    def coloured(rows: Tensor, samples: range) -> Tensor:
        return sigma.colour(noise.draw(rows, samples, inputs))

    @lru_cache(maxsize=1)
    def run(number: int) -> Tensor:
        """Noise that all inputs share: a product for many samples costs little more than one for a single sample."""
        return coloured(torch.tensor([0]), range(n_samples)[RUN * number : RUN * (number + 1)])

    def points(rows: Tensor, samples: range) -> tuple[Tensor]:
        drawn = torch.stack([run(k // RUN)[k % RUN] for k in samples]) if noise.shared else coloured(rows, samples)
        return (torch.add(inputs[rows], drawn, alpha=noise_scale**0.5),)

    return points


def _statistic(
    sigma: Covariance, output: str, weightings: tuple[str, ...], held: Tensor | None, summed: int | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """What is averaged: `f (Sigma s)_i s_i` with s = grad log f = grad f / f, or parts of it, one after the other."""

    def statistic(gradients: Tensor, values: Tensor) -> Tensor:
        values = values.view(*values.shape, *[1] * (gradients.ndim - 2))
        if output == "probability":
            f, s = values.exp(), gradients
        elif (values < 0).any():
            raise ValueError("forward_func returned a negative score, expected f >= 0.")
        else:
            f, s = values, torch.where(values > 0, gradients / values, 0)  # f = 0 is a minimum, so grad f = 0 there
        if held is not None:
            s = s.masked_fill(held, 0)
        weighted = s if weightings == ("gradient",) else sigma.multiply(s)
        if summed is not None:
            f = f / s.shape[summed]
            weighted, s = (factor.sum(summed, keepdim=True) for factor in (weighted, s))
        factors = {"full": (weighted, s), "gradient": (s, s), "weighted-gradient": (weighted,)}
        maps = [reduce(mul, factors[name], f).expand_as(gradients) for name in weightings]
        return maps[0] if len(maps) == 1 else torch.cat(maps, 2)

    return statistic
