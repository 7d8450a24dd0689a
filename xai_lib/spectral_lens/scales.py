"""Which scale of noise: the entropy's cut-off, the spectrum's optimum, and how inconsistent the choice leaves one."""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from xai_lib.gradients import Noise
from xai_lib.outputs import batch_size, check_count, in_parts
from xai_lib.spectral_lens.lenses import Stack, over_channels
from xai_lib.spectral_lens.sampling import ByLogProbability, along

LEVELS = ("dataset", "image", "pixel")


class Cutoff(NamedTuple):
    """Where the predictive entropy stops rising.

    Attributes:
        sigma_max: the cut-off, in units of the input.
        sigma: noise levels tried, (S,).
        entropy: mean over samples of the softmax entropy in nats, (S, B).
    """

    sigma_max: float
    sigma: Tensor
    entropy: Tensor


def entropy_cutoff(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    *,
    sigma: Sequence[float] | Tensor | None = None,
    n_samples: int = 8,
    reached: float = 0.95,
    seed: int = 0,
    internal_batch_size: int | None = None,
    show_progress: bool = False,
) -> Cutoff:
    """The noise at which the predictive entropy of a classifier plateaus (appendix E.1), which gives `sigma_max`.

    It is the smallest level at which the entropy, averaged over noise and inputs, reaches the share `reached` of its
    largest value; a warning says where that happens at an end of the range. Levels are standard deviations of noise
    added to the inputs (B, ...); None tries 0.05, 0.1, ..., 1. Every level, and every input, sees the same noise.

    Raises:
        TypeError, ValueError: an argument, or the model's output, is invalid.
    """
    check_count("n_samples", n_samples)
    levels = torch.linspace(0.05, 1, 20) if sigma is None else torch.as_tensor(sigma, dtype=torch.float32)
    if levels.ndim != 1 or len(levels) < 2 or not (levels.diff() > 0).all() or levels[0] <= 0:
        raise ValueError(f"sigma is {levels.tolist()}, expected at least two positive levels, rising.")
    problem = ByLogProbability(forward_func)._pose(inputs, None, None, internal_batch_size)
    limit = batch_size((inputs,), internal_batch_size)
    noise = Noise(seed, len(problem))
    entropy = torch.zeros(len(levels), len(problem), dtype=inputs.dtype, device=inputs.device)
    passes = n_samples * len(levels) * len(problem)
    with torch.no_grad(), tqdm(total=passes, disable=not show_progress, unit="pass") as progress:
        for rows in problem.rows(limit):
            for k in range(n_samples):
                eps = noise.draw(rows, range(k, k + 1), inputs)[0]
                for level, total in zip(levels.tolist(), entropy, strict=True):
                    parts, limit = in_parts(
                        lambda r, z=inputs[rows] + level * eps, rows=rows: problem.forward((z[r],), rows[r]),
                        len(rows),
                        limit,
                    )
                    total[rows] += torch.distributions.Categorical(logits=torch.cat(parts)).entropy() / n_samples
                    progress.update(len(rows))
    mean = entropy.mean(1)
    if mean.argmax() == len(levels) - 1:
        warnings.warn(
            f"the entropy still rises at the last of the levels, {levels[-1]:g}: try larger ones.", stacklevel=2
        )
    first = int((mean >= reached * mean.max()).int().argmax())
    if first == 0:
        warnings.warn(
            f"the entropy is near its largest value at the first of the levels, {levels[0]:g}: try smaller ones.",
            stacklevel=2,
        )
    return Cutoff(float(levels[first]), levels, entropy)


def similarity(stack: Stack, exponent: float = 1.5) -> Tensor:
    """Cosine similarity of kernel and model spectra up to a factor of each input, 1 at its largest: (B, A).

    `cos(sigma) ~ sigma^(3/2) |E[g^2]|_1` (definition 2, eqs. 6 to 8) for a normalised Gaussian kernel. The authors'
    code also has the exponents 5/2 (Figure 4) and 1 (Table 1).
    """
    curve = stack.scales.to(stack.squares) ** exponent * stack.squares.flatten(2).sum(2)
    return curve / curve.amax(1, keepdim=True).clamp(min=torch.finfo(curve.dtype).tiny)


def optimal_scale(stack: Stack, exponent: float = 1.5, level: str = "dataset") -> Tensor:
    """The scale, in units of `sigma_max`, whose kernel is most similar to the model's spectrum (definition 2).

    Args:
        stack: as `ArgLens` and `SpectralLens` return it.
        exponent: of the scale in `similarity`.
        level: "dataset" gives one scale (), of the mean curve over inputs, "image" one per input (B,), and "pixel" one
            per pixel (B, 1, ...), with squares summed over channels.

    Warns:
        where a scale is found at an end of the range, from which scale 0 is left out since every curve is 0 there:
        then the similarity has no peak in it.

    Raises:
        ValueError: the level is unknown.
    """
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}, expected one of {LEVELS}.")
    if level == "pixel":
        squares = over_channels(stack.squares)
        curve = along(stack.scales**exponent, squares[0]) * squares
    else:
        curve = similarity(stack, exponent)
        curve = curve.mean(0, keepdim=True) if level == "dataset" else curve
    best = curve.argmax(1)
    ends = int(((best <= 1) | (best == len(stack.scales) - 1)).sum())
    if ends:
        warnings.warn(
            f"{ends} of {best.numel()} optimal scales ({level}) lie at an end of the range of scales, 0 left out: "
            "the similarity has no peak inside it.",
            stacklevel=2,
        )
    scale = stack.scales.to(stack.squares)[best]
    return scale[0] if level == "dataset" else scale


def inconsistency(maps: Tensor, factor: int = 5, reference: int | None = None) -> Tensor:
    """How much explanations of the same input differ between hyperparameters (appendix H, eqs. 48 to 50): (B,).

    The mean of `1 - cosine similarity` over all pairs of maps, or of one `reference` with the others, after the maps
    are shrunk by `factor`.

    Args:
        maps: one map per hyperparameter, (B, T, H, W).
        factor: by which height and width are divided.
        reference: index of one hyperparameter; the authors' code compares all with the first.

    Raises:
        ValueError: `maps` is not (B, T, H, W) with at least two finite maps.
    """
    if maps.ndim != 4 or maps.shape[1] < 2 or not maps.isfinite().all():
        raise ValueError(f"maps has shape {tuple(maps.shape)}, expected at least two finite maps each, (B, T, H, W).")
    size = [max(1, side // factor) for side in maps.shape[2:]]
    small = nn.functional.interpolate(maps, size, mode="bilinear", antialias=True, align_corners=False)
    unit = nn.functional.normalize(small.flatten(2), dim=2)
    cosine = unit @ unit.mT
    n = maps.shape[1]
    if reference is not None:
        return 1 - (cosine[:, reference].sum(1) - cosine[:, reference, reference]) / (n - 1)
    return 1 - (cosine.sum((1, 2)) - cosine.diagonal(dim1=1, dim2=2).sum(1)) / (n * (n - 1))
