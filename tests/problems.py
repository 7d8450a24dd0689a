"""Functions whose value, gradient and expectations under Gaussian noise are known, for every method to run on."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
import torch
from torch import Tensor

N = 6
RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(size=(3, N)))
W = torch.from_numpy(RNG.normal(size=N))
A = torch.from_numpy(RNG.normal(size=(N, N)))
A = (A + A.T) / 2
LOGITS = torch.from_numpy(RNG.normal(size=(2, N)))


@dataclass(frozen=True)
class Known:
    """`forward` maps (B, N) to scores (B,); `mean` and `square` are E[g] and E[g^2] at x + s * standard noise."""

    name: str
    forward: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor]
    mean: Callable[[Tensor, float], Tensor]
    square: Callable[[Tensor, float], Tensor]

    def __repr__(self) -> str:
        return self.name


def _others(z: Tensor, power: float = 1.0, shift: float = 0.0) -> Tensor:
    """For each of the first three coordinates the product of the other two (raised and shifted); 0 for the rest."""
    y = z[:, :3] ** power + shift
    return torch.cat([y.roll(1, 1) * y.roll(2, 1), torch.zeros_like(z[:, 3:])], 1)


def _sigmoid_moment(power: int) -> Callable[[Tensor, float], Tensor]:
    """E[(sigmoid'(u) w)^power] for u = w.z, a one-dimensional Gaussian integral."""
    w = LOGITS[0] - LOGITS[1]
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = torch.from_numpy(weights / weights.sum())

    def moment(x: Tensor, s: float) -> Tensor:
        u = (x @ w)[:, None] + s * w.norm() * torch.from_numpy(nodes)
        slope = torch.sigmoid(u) * torch.sigmoid(-u)
        return (slope**power @ weights)[:, None] * w**power

    return moment


def _cosine_square(x: Tensor, s: float) -> Tensor:
    return W**2 / 2 * (1 - torch.cos(2 * W * x) * torch.exp(-2 * s**2 * W**2))


def _softmax_gradient(z: Tensor) -> Tensor:
    p = torch.softmax(z @ LOGITS.T, 1)
    return p[:, :1] * p[:, 1:] * (LOGITS[0] - LOGITS[1])


PROBLEMS = [
    Known(
        "linear",
        lambda z: z @ W,
        lambda z: W.expand_as(z),
        lambda x, s: W.expand_as(x),
        lambda x, s: W.expand_as(x) ** 2,
    ),
    Known(
        "quadratic",
        lambda z: ((z @ A) * z).sum(1) / 2,
        lambda z: z @ A,
        lambda x, s: x @ A,
        lambda x, s: (x @ A) ** 2 + s**2 * (A @ A.T).diagonal(),
    ),
    Known(
        "exponential",
        lambda z: torch.exp(z @ W / 2),
        lambda z: torch.exp(z @ W / 2)[:, None] * W / 2,
        lambda x, s: torch.exp(x @ W / 2 + s**2 * (W @ W) / 8)[:, None] * W / 2,
        lambda x, s: torch.exp(x @ W + s**2 * (W @ W) / 2)[:, None] * W**2 / 4,
    ),
    Known(
        "cosine",
        lambda z: torch.cos(W * z).sum(1),
        lambda z: -W * torch.sin(W * z),
        lambda x, s: -W * torch.sin(W * x) * torch.exp(-(s**2) * W**2 / 2),
        _cosine_square,
    ),
    Known(
        "product",
        lambda z: z[:, 0] * z[:, 1] * z[:, 2],
        _others,
        lambda x, s: _others(x),
        lambda x, s: _others(x, power=2.0, shift=s**2),
    ),
    Known(
        "softmax",
        lambda z: torch.softmax(z @ LOGITS.T, 1)[:, 0],
        _softmax_gradient,
        _sigmoid_moment(1),
        _sigmoid_moment(2),
    ),
]


class Logged:
    """A model that keeps every point it was asked for with a gradient, in order."""

    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        self.forward, self.points = forward, []

    def __call__(self, z: Tensor) -> Tensor:
        if z.requires_grad:
            self.points.append(z.detach().clone())
        return self.forward(z)


def assert_normal(sample: Tensor) -> None:
    """Kolmogorov-Smirnov test against the standard normal law, at the 1e-6 level."""
    assert scipy.stats.kstest(sample.flatten().numpy(), "norm").pvalue > 1e-6


def most_numbers_held(forward: Callable[[Tensor], Tensor], explain: Callable[[Callable], Any]) -> int:
    """The most numbers that tensors hold at a call of `forward` while `explain(forward)` runs."""
    held = []

    def watched(z: Tensor) -> Tensor:
        held.append(sum(o.numel() for o in gc.get_objects() if type(o) is torch.Tensor))
        return forward(z)

    gc.freeze()  # what the other tests keep is not looked through
    explain(watched)
    gc.unfreeze()
    return max(held)
