"""Blur integrated gradients: gradients integrated along the path on which the input is blurred away.

Xu, Venugopalan, Sundararajan: Attribution in Scale and Space, CVPR 2020.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch
from captum.log import log_usage
from torch import Tensor

from xai_lib.gradients import GradientMethod, Sum, Terms, accumulate, batch_size, check_count, like_inputs
from xai_lib.scale_space import scale_space

FINEST_SIGMA = 0.5  # pixels; a narrower kernel hardly reaches the next pixel


class Scales(NamedTuple):
    """The attribution by scale, coarse to fine.

    Attributes:
        sigma: borders of the scale steps in pixels, (n_steps + 1,), from `max_sigma` down to 0.
        terms: attribution gained in each step, (B, n_steps, ...); their sum is the attribution.
    """

    sigma: Tensor
    terms: Tensor


class BlurIG(GradientMethod):
    """Blur integrated gradients of a model over signals (B, C, L) or images (B, C, H, W).

    `integral from sigma = max_sigma to 0 of dF/dL * dL/dsigma dsigma` (eq. 2), `L` the input blurred to scale
    `sigma` and `F` by default the softmax probability of the target.
    """

    @log_usage()  # Captum's NoiseTunnel asks for a decorated method
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: int | Sequence[int] | Tensor | None = None,
        *,
        n_steps: int = 50,
        max_sigma: float | None = None,
        kernel: str = "diffusion",
        dims: Sequence[int] | None = None,
        additional_forward_args: Any = None,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        return_scales: bool = False,
        show_progress: bool = False,
    ) -> Any:
        """Attribute the target's output to the inputs, in `n_steps` gradients per input.

        Each step multiplies the gradient at its middle scale by the exact difference of the path over the step, so
        a linear model is explained exactly whatever `n_steps`; the steps are uniform in
        `log(1 + (sigma / 0.5)^2)`. The attributions sum to `F(x) - F(L(max_sigma))` up to the returned delta.

        Args:
            inputs: float tensor, or a tuple of them, shaped (B, L), (B, C, L) or (B, C, H, W).
            target: class explained, one or one per input; None explains the class predicted on `inputs`.
            n_steps: steps of the integral.
            max_sigma: standard deviation of the strongest blur in pixels; None takes the longest blurred side.
            kernel: "diffusion" (exact discrete heat flow) or "gaussian" (scipy's sampled Gaussian).
            dims: axes to blur along, as negative indices; None takes all behind the channel.
            additional_forward_args: passed to `forward_func` behind the inputs.
            internal_batch_size: rows of one forward pass; changes the result by rounding only.
            return_convergence_delta: also return the sum of each attribution minus `F(x) - F(L(max_sigma))`, (B,).
            return_scales: also return the attribution by scale, as `Scales`; memory then grows with `n_steps`.
            show_progress: show a progress bar.

        Returns:
            Attributions shaped as the inputs; where asked for, followed by the delta and by the scales.

        Raises:
            TypeError: the inputs or the target have the wrong type.
            ValueError: `n_steps` is below 1, `max_sigma` is not positive, `kernel` or `dims` is unknown, the inputs
                have the wrong rank, or `inputs`, `target` or the model's output is invalid.
        """
        tensors = inputs if isinstance(inputs, tuple) else (inputs,)
        check_count("n_steps", n_steps)
        if max_sigma is not None and not (isinstance(max_sigma, Real) and 0 < max_sigma < float("inf")):
            raise ValueError(f"max_sigma is {max_sigma!r}, expected a positive number of pixels.")
        axes = [_blurred_dims(x, dims) for x in tensors]
        problem = self._pose(inputs, target, additional_forward_args, internal_batch_size)
        blurs = [scale_space(x, d, kernel) for x, d in zip(tensors, axes, strict=True)]
        coarsest = [max_sigma or max(x.shape[i] for i in d) for x, d in zip(tensors, axes, strict=True)]
        edges = [sigma_grid(s, n_steps) for s in coarsest]
        middles = [sigma_grid(s, 2 * n_steps)[1::2] for s in coarsest]

        def points(rows: Tensor, steps: range) -> tuple[Tensor, ...]:
            at = slice(steps.start, steps.stop)
            return tuple(blur(s[at], rows) for blur, s in zip(blurs, middles, strict=True))

        def differences(rows: Tensor, steps: range) -> tuple[Tensor, ...]:
            upto = slice(steps.start, steps.stop + 1)
            return tuple(blur(s[upto], rows, difference=True) for blur, s in zip(blurs, edges, strict=True))

        values = accumulate(
            problem,
            points,
            n_steps,
            Terms if return_scales else Sum,
            weights=differences,
            internal_batch_size=internal_batch_size,
            show_progress=show_progress,
        ).values
        attributions = tuple(v.sum(1) for v in values) if return_scales else values
        results = [like_inputs(inputs, attributions)]
        if return_convergence_delta:
            start = tuple(blur(s[:1])[0] for blur, s in zip(blurs, edges, strict=True))
            gained = problem.clean - problem.evaluate(start, batch_size(tensors, internal_batch_size))
            results.append(sum(a.flatten(1).sum(1) for a in attributions) - gained)
        if return_scales:
            scales = tuple(Scales(s, v) for s, v in zip(edges, values, strict=True))
            results.append(like_inputs(inputs, scales))
        return results[0] if len(results) == 1 else tuple(results)

    def has_convergence_delta(self) -> bool:
        return True


def sigma_grid(max_sigma: float, n_steps: int) -> Tensor:
    """Borders of `n_steps` scale steps from `max_sigma` to 0, uniform in log(1 + (sigma / 0.5)^2); float64."""
    share = torch.linspace(1, 0, n_steps + 1, dtype=torch.float64)
    return FINEST_SIGMA * ((1 + (max_sigma / FINEST_SIGMA) ** 2) ** share - 1).sqrt()


def blur_path(x: Tensor, sigma: Iterable[float], dims: Sequence[int] | None = None) -> Iterator[Tensor]:
    """The batch `x` blurred to each of the scales `sigma`, in pixels."""
    blur = scale_space(x, _blurred_dims(x, dims))
    return (blur(torch.as_tensor([s], dtype=torch.float64))[0] for s in sigma)


def straight_path(start: Tensor, x: Tensor, n_steps: int) -> Iterator[Tensor]:
    """The path of integrated gradients from `start` to the batch `x`: n_steps + 1 batches, both ends included."""
    return (start + k / n_steps * (x - start) for k in range(n_steps + 1))


def path_probabilities(
    model: Callable[[Tensor], Tensor], path: Iterable[Tensor], output: str = "probability"
) -> Tensor:
    """Class probabilities at every point (B, ...) of a path of batches: (K, B, classes).

    With `output="score"` they are what the model returns, as the sigmoids of a multi-label model.
    """

    def evaluate(part: Tensor) -> Tensor:
        return model(part).softmax(1) if output == "probability" else model(part)

    with torch.no_grad():
        return torch.stack(
            [torch.cat([evaluate(part) for part in point.split(batch_size((point,), None))]) for point in path]
        )


def second_last_label(probabilities: Tensor, label: Tensor) -> Tensor:
    """The last class predicted along a path (K, B, classes) that is not the class `label`, (B,), predicted at its end.

    It is -1 for an input whose prediction never differs from its label (section 5.1, figure 6).
    """
    predicted = probabilities.argmax(2)
    differs = predicted != label
    last = len(predicted) - 1 - differs.flip(0).int().argmax(0)
    return torch.where(differs.any(0), predicted.gather(0, last[None])[0], -1)


def leading_labels(probabilities: Tensor) -> list[list[int]]:
    """For each input of a path (K, B, classes) the classes that are most probable along it, each once in a row."""
    return [torch.unique_consecutive(led).tolist() for led in probabilities.argmax(2).unbind(1)]


def recognition_scale(sigma: Tensor, probability: Tensor) -> Tensor:
    """The scale in pixels at which blurring halves a class's probability: (B,).

    `sigma`, (K,), falls from coarse to fine, ending in 0, and `probability`, (K, B), belongs to it. Seen from the
    clean input, it is the first scale with half the clean probability, interpolated linearly; since BlurIG is
    complete, about half of its attribution comes from finer scales. Never halved: the coarsest scale.
    """
    share = (probability / probability[-1]).flip(0)  # from fine to coarse
    fine = sigma.flip(0).to(share)
    below = share < 0.5
    after = torch.where(below.any(0), below.int().argmax(0), len(share) - 1)
    before = (after - 1).clamp(min=0)
    high, low = share.gather(0, before[None])[0], share.gather(0, after[None])[0]
    crossed = fine[before] + (high - 0.5) / (high - low) * (fine[after] - fine[before])
    return torch.where(below.any(0), crossed, fine[-1])


def _blurred_dims(x: Any, dims: Sequence[int] | None) -> tuple[int, ...]:
    if not isinstance(x, Tensor):
        raise TypeError(f"inputs holds a {type(x).__name__}, expected a tensor or a tuple of tensors.")
    if x.ndim not in (2, 3, 4):
        raise ValueError(f"inputs has shape {tuple(x.shape)}, expected (B, L), (B, C, L) or (B, C, H, W).")
    if dims is None:
        return (-2, -1) if x.ndim == 4 else (-1,)
    if not dims or any(d not in range(1 - x.ndim, 0) for d in dims) or len(set(dims)) < len(dims):
        raise ValueError(f"dims is {dims!r}, expected different negative axes behind the batch, such as (-2, -1).")
    return tuple(dims)
