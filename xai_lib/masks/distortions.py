"""Distortions: how far the output at an obfuscation is from the output at the input (Examples 7 and 8)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from xai_lib.outputs import select


@dataclass(frozen=True)
class ScoreChange:
    """d1 = scale * (Phi_j(x) - Phi_j(y))^2, the class's score before softmax."""

    scale: float = 1.0
    of_class = True

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale is {self.scale!r}, expected a finite number above 0.")

    def score(self, outputs: Tensor, target: Tensor | None) -> Tensor:
        """The scalar that d1 is a function of, (R,)."""
        return select(outputs, target, "score")

    def of(self, score: Tensor, clean: Tensor) -> Tensor:
        """d1 of scores at the obfuscation and at the input."""
        return self.scale * (score - clean).square()

    def __call__(self, outputs: Tensor, clean: Tensor, target: Tensor | None, rows: Tensor) -> Tensor:
        return self.of(self.score(outputs, target), self.score(clean, target))


@dataclass(frozen=True)
class ProbabilityChange(ScoreChange):
    """d2 = scale * (p_j(x) - p_j(y))^2, the class's probability; the paper's image experiments take 100 times it."""

    scale: float = 100.0

    def score(self, outputs: Tensor, target: Tensor | None) -> Tensor:
        """The log-odds of the class, (R,): log p / (1 - p)."""
        if target is None:
            raise ValueError("forward_func returned one score per input, expected classes for a change of probability.")
        others = outputs.scatter(1, target[:, None], -torch.inf)
        return select(outputs, target, "score") - others.logsumexp(1)

    def of(self, score: Tensor, clean: Tensor) -> Tensor:
        """d2 of log-odds at the obfuscation and at the input."""
        return self.scale * (score.sigmoid() - clean.sigmoid()).square()


@dataclass(frozen=True)
class OutputChange:
    """d3 = ||Phi(x) - Phi(y)||^2, or d4, the same over the outputs J alone.

    Args:
        where: the set J: a bool tensor shaped as the output for one input, or one per input, (B, ...).
    """

    where: Tensor | None = None
    of_class = False

    def check(self, outputs: Tensor) -> None:
        """Raises ValueError where J does not fit the outputs of all inputs, (B, ...)."""
        if self.where is not None and self.where.numel() not in (outputs[0].numel(), outputs.numel()):
            raise ValueError(
                f"where has shape {tuple(self.where.shape)}, expected that of one output, {tuple(outputs.shape[1:])}, "
                f"or of all, {tuple(outputs.shape)}."
            )

    def __call__(self, outputs: Tensor, clean: Tensor, target: Tensor | None, rows: Tensor) -> Tensor:
        change = (outputs - clean).square().reshape(len(outputs), -1)
        if self.where is not None:
            sets = self.where.to(change.device).reshape(-1, change.shape[1])
            change = change * (sets if len(sets) == 1 else sets[rows])
        return change.sum(1)
