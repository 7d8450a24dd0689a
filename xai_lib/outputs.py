"""Which scalar of a model is explained, for which inputs, and whether that can be done."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

OUTPUTS = ("probability", "log_probability", "score")
DependsOnTraining = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, StochasticDepth)


@dataclass(frozen=True)
class Problem:
    """A batch of validated inputs, the scalar function explained at each of them, and its clean values.

    Attributes:
        forward_func: the model, called as `forward_func(*inputs, *additional_forward_args)`.
        output: one of `OUTPUTS`, or None where whole outputs are compared.
        inputs: one or more tensors, batch first: (B, ...).
        target: class index per input, (B,), or None where `forward_func` returns a score per input.
        additional_forward_args: passed behind the inputs; tensors of length B go with their input.
        outputs: of the model at the inputs themselves, (B, ...).
        clean: value of the explained scalar there, (B,).
        channels_last: whether the model gets images in this layout, in which convolutions on a CPU are about 1.4 times
            faster, whatever the layout of their weights.
    """

    forward_func: Callable[..., Tensor]
    output: str | None
    inputs: tuple[Tensor, ...]
    target: Tensor | None
    additional_forward_args: tuple[Any, ...]
    outputs: Tensor | None = None
    clean: Tensor | None = None
    channels_last: bool = False

    def __len__(self) -> int:
        return len(self.inputs[0])

    def forward(self, points: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        """The model's raw output at points (R, ...) that belong to the inputs `rows`, (R,)."""
        args = (a[rows] if self._per_input(a) else a for a in self.additional_forward_args)
        out = self.forward_func(*self.laid_out(points), *args)
        if not isinstance(out, Tensor) or not out.is_floating_point() or len(out) != len(rows):
            given = f"a tensor of shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(f"forward_func returned {given}, expected floats of shape ({len(rows)}, ...).")
        if not out.isfinite().all():
            raise ValueError("forward_func returned NaN or infinity, expected finite outputs.")
        return out.float() if out.dtype in (torch.bfloat16, torch.float16) else out

    def laid_out(self, points: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The points (R, ...) in the layout in which the model gets them; those that are, are not copied."""
        if not self.channels_last:
            return points
        return tuple(p.contiguous(memory_format=torch.channels_last) if p.ndim == 4 else p for p in points)

    def values(self, points: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        """The explained scalar, (R,), at points (R, ...) that belong to the inputs `rows`."""
        return select(self.forward(points, rows), self.target_of(rows), self.output)

    def target_of(self, rows: Tensor) -> Tensor | None:
        """The classes of the inputs `rows`, or None where there are none."""
        return None if self.target is None else self.target[rows]

    def evaluate(self, points: tuple[Tensor, ...], limit: int) -> Tensor:
        """The explained scalar without gradients at one point per input, at most `limit` rows at a time: (B,)."""
        rows = torch.arange(len(self), device=points[0].device)
        with torch.no_grad():
            parts, _ = in_parts(lambda r: self.values(tuple(p[r] for p in points), rows[r]), len(self), limit)
        return torch.cat(parts)

    def take(self, rows: Tensor) -> "Problem":
        """The problem of the inputs `rows`, (R,), each as often as it is named."""
        args = tuple(a[rows] if self._per_input(a) else a for a in self.additional_forward_args)
        return replace(
            self,
            inputs=tuple(x[rows] for x in self.inputs),
            target=self.target_of(rows),
            additional_forward_args=args,
            outputs=None if self.outputs is None else self.outputs[rows],
            clean=None if self.clean is None else self.clean[rows],
        )

    def _per_input(self, arg: Any) -> bool:
        return isinstance(arg, Tensor) and arg.ndim > 0 and len(arg) == len(self)

    def rows(self, limit: int) -> tuple[Tensor, ...]:
        """The inputs' indices in blocks of at most `limit`."""
        return torch.arange(len(self), device=self.inputs[0].device).split(limit)


def batch_size(inputs: tuple[Tensor, ...], requested: int | None) -> int:
    """Rows of one forward pass: as requested, or as many as hold 2^20 numbers (2^24 on a GPU), at most 128."""
    if requested is None:
        # On a CPU, larger batches are slower: their activations are mapped and cleared afresh at every pass.
        budget = 2**20 if inputs[0].device.type == "cpu" else 2**24
        return max(1, min(128, budget // sum(x[0].numel() for x in inputs)))
    check_count("internal_batch_size", requested)
    return int(requested)


def check_count(name: str, value: int) -> None:
    """Raise ValueError unless the argument `name` is a positive integer."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}, expected an integer of at least 1.")


def generator_of(device: torch.device, *keys: int) -> torch.Generator:
    """A generator whose stream belongs to non-negative integers, such as a seed and the index of a sample."""
    state = int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state)


def in_parts(evaluate: Callable[[slice], Any], n_rows: int, limit: int) -> tuple[list[Any], int]:
    """Evaluate slices of at most `limit` rows, half as many where memory runs out; return the parts and the limit."""
    parts, start = [], 0
    while start < n_rows:
        stop = min(start + limit, n_rows)
        try:
            parts.append(evaluate(slice(start, stop)))
        except RuntimeError as error:
            if not _out_of_memory(error) or stop - start == 1:
                raise
            limit = (stop - start) // 2
            continue
        start = stop
    return parts, limit


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def select(outputs: Tensor, target: Tensor | None, output: str) -> Tensor:
    """The scalar `output` of class `target`, (R,), from raw outputs (R, classes) or scores (R,)."""
    if target is None:
        return outputs.flatten()
    if output == "probability":
        outputs = outputs.softmax(1)
    elif output == "log_probability":
        outputs = outputs.log_softmax(1)
    return outputs.gather(1, target[:, None])[:, 0]


def pose(
    forward_func: Callable[..., Tensor],
    inputs: Tensor | tuple[Tensor, ...],
    target: int | Sequence[int] | Tensor | None,
    additional_forward_args: Any,
    output: str | None,
    limit: int,
) -> Problem:
    """Validate the arguments of an attribution and resolve the target on the clean inputs.

    Raises:
        TypeError: an input is not a tensor of float32 or float64.
        ValueError: an input is empty, not finite or of another batch size; the model's output is not finite or of
            the wrong shape; the target is out of range, its number differs from the inputs', or it is given where
            `forward_func` returns one score per input or whole outputs are compared.
    """
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    if not inputs:
        raise ValueError("inputs is an empty tuple, expected at least one tensor.")
    for x in inputs:
        _check_input(x, len(inputs[0]) if isinstance(inputs[0], Tensor) and inputs[0].ndim else 0)
    if isinstance(forward_func, nn.Module):
        _warn_of_training_mode(forward_func)
    args = additional_forward_args
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    problem = Problem(forward_func, output, inputs, None, args, channels_last=inputs[0].device.type == "cpu")
    try:
        outputs = _outputs(problem, limit)
    except RuntimeError:  # a model may `view` its features, which this layout does not allow
        problem = replace(problem, channels_last=False)
        outputs = _outputs(problem, limit)
    if output is None:
        if target is not None:
            raise ValueError("target is given, expected None: whole outputs are compared.")
        return replace(problem, outputs=outputs)
    target = _resolve_target(target, outputs, output)
    return replace(problem, target=target, outputs=outputs, clean=select(outputs, target, output))


def _outputs(problem: Problem, limit: int) -> Tensor:
    """The model's raw outputs at the inputs themselves."""
    rows = torch.arange(len(problem), device=problem.inputs[0].device)
    with torch.no_grad():
        parts, _ = in_parts(lambda r: problem.forward(tuple(x[r] for x in problem.inputs), rows[r]), len(rows), limit)
    return torch.cat(parts)


def _check_input(x: Any, batch: int) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"inputs holds a {type(x).__name__}, expected a tensor or a tuple of tensors.")
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"inputs has dtype {x.dtype}, expected torch.float32 or torch.float64 (autocast lowers it).")
    if x.ndim < 2 or x.numel() == 0 or len(x) != batch:
        raise ValueError(f"inputs has shape {tuple(x.shape)}, expected a non-empty batch (B, ...), one B for all.")
    if not x.isfinite().all():
        raise ValueError("inputs contains NaN or infinity, expected finite values.")


def _warn_of_training_mode(model: nn.Module) -> None:
    def depends(module: nn.Module) -> bool:
        dropout = getattr(module, "dropout", 0)  # of recurrent and attention layers
        return isinstance(module, DependsOnTraining) or (isinstance(dropout, float) and dropout > 0)

    names = [name for name, module in model.named_modules() if module.training and depends(module)]
    if names:
        warnings.warn(
            f"forward_func is in training mode and has batch normalisation or dropout ({names[0]}): its output "
            "depends on the batch or on chance; call .eval() first.",
            stacklevel=6,
        )


def _resolve_target(target: Any, outputs: Tensor, output: str) -> Tensor | None:
    if outputs.numel() == len(outputs) and output == "score":
        if target is not None:
            raise ValueError("target is given, expected None: forward_func returns one score per input.")
        return None
    if outputs.ndim != 2:
        raise ValueError(f"forward_func returned shape {tuple(outputs.shape)}, expected (batch, classes).")
    batch, classes = outputs.shape
    if classes == 1 and output != "score":
        raise ValueError(f"forward_func returned one class, expected at least 2 for output={output!r}, or 'score'.")
    if target is None:
        return outputs.argmax(1)
    if not isinstance(target, int | Sequence | Tensor | np.ndarray | np.integer) or isinstance(target, str):
        raise TypeError(f"target is a {type(target).__name__}, expected an integer, a sequence of them or a tensor.")
    index = torch.as_tensor(target, device=outputs.device)
    if index.is_floating_point() or index.dtype == torch.bool:
        raise TypeError(f"target has dtype {index.dtype}, expected integers.")
    if index.numel() not in (1, batch):
        raise ValueError(f"target has {index.numel()} entries, expected 1 or {batch}.")
    if index.min() < 0 or index.max() >= classes:
        raise ValueError(
            f"target ranges from {index.min()} to {index.max()}, expected 0 to {classes - 1} ({classes} classes)."
        )
    return index.long().flatten().expand(batch)
