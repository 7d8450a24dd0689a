"""How a model's output changes while features are replaced in the order of an attribution map."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from xai_lib.outputs import Problem, batch_size, check_count, in_parts

Fill = float | Tensor | Callable[[Tensor], Tensor]


class Perturbation(NamedTuple):
    """A model's outputs along a perturbation of K steps; every shape starts with M where there are M maps per input.

    Attributes:
        changed: share of the features that are really replaced, ([M,] B, K), float64.
        outputs: what the model returns, ([M,] B, K, classes).
        predicted: the class predicted on the clean input, (B,).
    """

    changed: Tensor
    outputs: Tensor
    predicted: Tensor

    def probability(self, target: Tensor | None = None) -> Tensor:
        """Softmax probability of the classes `target`, (B,), or of the predicted ones: ([M,] B, K)."""
        target = self.predicted if target is None else target
        index = target.to(self.outputs.device)[:, None, None].expand(*self.outputs.shape[:-1], 1)
        return self.outputs.softmax(-1).gather(-1, index)[..., 0]

    def accuracy(self, target: Tensor | None = None) -> Tensor:
        """1 where the classes `target`, (B,), or the predicted ones, come out first, else 0: ([M,] B, K)."""
        target = self.predicted if target is None else target
        return (self.outputs.argmax(-1) == target.to(self.outputs.device)[:, None]).to(self.outputs.dtype)

    def area(self, values: Tensor | None = None) -> Tensor:
        """Mean height of `values` (default: the probability) over the share really changed, ([M,] B): trapezoids."""
        values = self.probability() if values is None else values
        changed = self.changed.to(values)
        return torch.trapezoid(values, changed) / (changed[..., -1] - changed[..., 0])


def deletion(
    forward_func: Callable[..., Tensor], inputs: Tensor, maps: Tensor, *, n_steps: int = 20, fill: Fill, **settings: Any
) -> Perturbation:
    """Replace the features of the inputs by `fill`, most important first, from none to all in `n_steps` steps.

    `deletion(model, images, maps, fill=mean_blur).area()` is the area under the curve of the predicted class: the
    lower, the better. For arguments and errors see `replace_by_rank`.
    """
    return _curve(forward_func, inputs, _filled(fill, inputs), maps, n_steps, 0, settings)


def insertion(
    forward_func: Callable[..., Tensor], inputs: Tensor, maps: Tensor, *, n_steps: int = 20, fill: Fill, **settings: Any
) -> Perturbation:
    """Bring the features of the inputs back into `fill`, most important first, from none to all in `n_steps` steps.

    `insertion(model, images, maps, fill=mean_blur).area()` is the area under the curve of the predicted class: the
    higher, the better. For arguments and errors see `replace_by_rank`.
    """
    return _curve(forward_func, _filled(fill, inputs), inputs, maps, n_steps, -1, settings)


def faithfulness(
    forward_func: Callable[..., Tensor], inputs: Tensor, maps: Tensor, target: Tensor | None = None, **settings: Any
) -> Tensor:
    """Area under the insertion curve minus that under the deletion curve of a class's probability, ([M,] B).

    `target`, (B,), is the class, by default the predicted one. For other arguments and errors see `replace_by_rank`.
    """
    curves = (curve(forward_func, inputs, maps, **settings) for curve in (insertion, deletion))
    inserted, deleted = (curve.area(curve.probability(target)) for curve in curves)
    return inserted - deleted


def negative_perturbation(
    forward_func: Callable[..., Tensor], inputs: Tensor, maps: Tensor, *, fill: Fill, **settings: Any
) -> Perturbation:
    """Replace 10 %, 20 %, ..., 90 % of the features of the inputs by `fill`, least important first (paper 1).

    With `curves = negative_perturbation(...)`, `curves.area(curves.accuracy(labels))` is the area under the accuracy
    and `curves.area(curves.accuracy())` that under the agreement with the clean prediction: the higher, the better.
    `fill` is black (0) for images, silence (0) for sounds, the unknown word's index for texts; for other arguments
    and errors see `replace_by_rank`. Features with score -inf never change and do not count (padding).
    """
    shares = torch.arange(10, dtype=torch.float64) / 10
    least_first = torch.where(maps == -torch.inf, maps, -maps)
    changed, outputs = replace_by_rank(forward_func, inputs, fill, least_first, shares, **settings)
    clean = outputs[(0,) * (outputs.ndim - 3)][:, 0].argmax(1)
    return Perturbation(changed[..., 1:], outputs[..., 1:, :], clean)


def _curve(forward_func, start, end, maps, n_steps, clean, settings) -> Perturbation:
    check_count("n_steps", n_steps)
    shares = torch.linspace(0, 1, n_steps + 1, dtype=torch.float64)
    changed, outputs = replace_by_rank(forward_func, start, end, maps, shares, **settings)
    if outputs.ndim != changed.ndim + 1:
        raise ValueError(f"forward_func returned shape {tuple(outputs.shape[-1:])} per input, expected (classes,).")
    one_per_input = outputs[(0,) * (outputs.ndim - 3)]
    return Perturbation(changed, outputs, one_per_input[:, clean].argmax(1))


def replace_by_rank(
    forward_func: Callable[..., Tensor],
    start: Tensor,
    end: Fill,
    scores: Tensor,
    shares: Tensor,
    *,
    erosion: int = 1,
    additional_forward_args: Any = None,
    internal_batch_size: int | None = None,
    show_progress: bool = False,
) -> tuple[Tensor, Tensor]:
    """Outputs of the model while growing shares of `start` are replaced by `end`, highest score first.

    All steps of all maps of all inputs go through the model in one stream of full batches. Equal scores are replaced
    together: never more than the share asked for, and all of them at share 1.

    Args:
        forward_func: maps points like `start` to outputs (rows, ...), without gradients.
        start: the inputs (B, C, ...), or (B, L) without channels; of any dtype, such as token numbers.
        end: what replaces it: a number, a tensor that broadcasts to `start`, or a function of `start`.
        scores: (B, ...) without the channel axis, which is replaced as a whole, or (M, B, ...): M maps of the same
            inputs. Features with score -inf never change and do not count (padding).
        shares: shares of the features to replace, (K,), each in [0, 1].
        erosion: side of the square by which the kept pixels of images are eroded; 1 leaves them alone.
        additional_forward_args: passed behind the points; tensors of length B go with their input.
        internal_batch_size: rows of one forward pass; changes the result by rounding only.
        show_progress: show a progress bar that counts forward passes.

    Returns:
        The shares really replaced, ([M,] B, K), and the outputs, ([M,] B, K, ...).

    Raises:
        ValueError: `scores` does not fit `start` or has NaN or +inf, a share is outside of [0, 1], `erosion` is not an
            odd number of at least 1 or is given for other inputs than images, or an output is not finite.
    """
    limit = batch_size((start,), internal_batch_size)
    features = start.shape[2:] if start.ndim > 2 else start.shape[1:]
    if scores.shape[-1 - len(features) :] != (len(start), *features) or scores.ndim > len(features) + 2:
        raise ValueError(
            f"scores has shape {tuple(scores.shape)}, expected {(len(start), *features)} or (M, ...) with M maps each."
        )
    if (scores.isnan() | (scores == torch.inf)).any():
        raise ValueError("scores contains NaN or +infinity, expected finite values (or -infinity for padding).")
    shares = torch.as_tensor(shares, dtype=torch.float64, device=scores.device)
    if shares.ndim != 1 or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"shares is {shares.tolist()}, expected numbers from 0 to 1.")
    if erosion != 1 and (len(features) != 2 or erosion < 1 or erosion % 2 == 0):
        raise ValueError(f"erosion is {erosion}, expected an odd number of at least 1, and images.")

    flat = scores.detach().reshape(-1, features.numel())
    countable = (flat > -torch.inf).sum(1)
    rising = _sorted(torch.cat([flat, flat.new_full((len(flat), 1), -torch.inf)], 1))
    counts = (shares * countable[:, None]).round().long()
    thresholds = rising.gather(1, features.numel() - counts)  # the first score that stays

    args = additional_forward_args
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    problem = Problem(forward_func, "score", (start,), None, args)
    end = _filled(end, start)
    n_rows = thresholds.numel()

    def evaluate(rows: slice) -> tuple[Tensor, Tensor]:
        row = torch.arange(rows.start, rows.stop, device=start.device)
        which, step = row // len(shares), row % len(shares)
        replaced = flat[which] > thresholds[which, step, None]
        if erosion != 1:
            pixels = replaced.view(-1, 1, *features).float()
            replaced = nn.functional.max_pool2d(pixels, erosion, 1, erosion // 2).flatten(1) > 0
        image = which % len(start)
        gone = replaced.view(-1, *[1] * (start.ndim - 1 - len(features)), *features).to(start)
        # Products with 0 and 1 are exact, and on a CPU several times as fast as torch.where on a scattered mask.
        points = start[image].mul_(1 - gone).addcmul_(end[image], gone)
        outputs = problem.forward((points,), image)
        progress.update(len(row))
        return replaced.sum(1).double() / countable[which], outputs

    with torch.no_grad(), tqdm(total=n_rows, disable=not show_progress, unit="pass") as progress:
        parts, _ = in_parts(evaluate, n_rows, limit)
    shape = (*scores.shape[: scores.ndim - len(features)], len(shares))
    changed, outputs = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return changed.view(shape), outputs.view(*shape, *outputs.shape[1:])


def _sorted(rows: Tensor) -> Tensor:
    """Rows in rising order; on a CPU by NumPy, many times as fast as torch there."""
    if rows.device.type == "cpu" and rows.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(rows.numpy()))
    return rows.sort(1).values


def mean_blur(images: Tensor, size: int | None = None) -> Tensor:
    """Images (B, C, H, W) averaged over a square window of odd `size`, of which only the part inside counts.

    None takes 101 pixels at 224 pixels a side, in proportion, as in the experiments of paper 2 (100 there).
    """
    radius = round(min(images.shape[2:]) * 50 / 224) if size is None else size // 2
    rows, columns = (_window_means(n, radius, images) for n in images.shape[2:])
    with torch.autocast(images.device.type, enabled=False):  # exact when the model runs in bfloat16
        return rows @ images @ columns.mT


def _window_means(n: int, radius: int, like: Tensor) -> Tensor:
    """The matrix (n, n) that averages n pixels over windows of `radius`; for wide ones far faster than pooling."""
    place = torch.arange(n, device=like.device)
    inside = ((place[:, None] - place).abs() <= radius).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


def _filled(fill: Fill, inputs: Tensor) -> Tensor:
    fill = fill(inputs) if callable(fill) else fill
    return torch.as_tensor(fill, dtype=inputs.dtype, device=inputs.device).expand_as(inputs)
