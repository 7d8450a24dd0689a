"""Solvers of `minimise D(s) + sparsity * mean(s)` over masks: l1 relaxation, Bernoulli relaxation, matching pursuit."""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm

from xai_lib.masks.objective import Objective
from xai_lib.outputs import check_count

LARGEST_LOGIT = 8.0  # theta stays in [0.0003, 0.9997]


class Solution(NamedTuple):
    """What a solver found.

    Attributes:
        mask: (M, k) in [0, 1].
        trace: the objective as estimated in every step, (n_steps, M); of matching pursuit, the distortion alone, with
            0, 1, 2, ... entries, (n_chosen + 1, M).
        order: of matching pursuit, the entries in the order of their choice, (M, n_chosen), -1 where none was chosen.
    """

    mask: Tensor
    trace: Tensor
    order: Tensor | None = None


class Solver(Protocol):
    """Finds one mask per input, or per group of inputs that share one."""

    def solve(self, objective: Objective, show_progress: bool = False) -> Solution: ...


def _check(solver: Solver) -> None:
    """Raises ValueError where a count is no positive integer, or a number is out of range."""
    fits = {
        "sparsity": (lambda v: 0 <= v < float("inf"), "a finite number of at least 0"),
        "step_size": (lambda v: 0 < v < float("inf"), "a finite number above 0"),
        "temperature": (lambda v: 0 < v < float("inf"), "a finite number above 0"),
        "start": (lambda v: 0 < v < 1, "a number between 0 and 1"),
        "tolerance": (lambda v: v >= 0, "a number of at least 0"),
        "line_search": (lambda v: isinstance(v, Integral) and v >= 0, "an integer of at least 0"),
    }
    for name, value in vars(solver).items():
        if name.startswith("n_"):
            check_count(name, value)
        if name in fits:
            fit, expected = fits[name]
            if not (isinstance(value, Real) and fit(value)):
                raise ValueError(f"{name} is {value!r}, expected {expected}.")


@dataclass(frozen=True)
class L1:
    """Minimise D(s) + sparsity * mean(s) over s in [0, 1]^k (P1), by Adam from s = 1, clipped after every step.

    Adam moves an entry by at most about its step size, so the step sizes must sum to more than 1 for an entry to
    vanish. The defaults are the paper's procedure. `L1.fast` takes a third of its gradients. Most entries matter
    little, and the gradient of such an entry is mostly noise: divided by the size of that noise, the pull of lambda
    moves it by a small part of the step size. So the steps must be large for useless entries to vanish, and must fall
    to 0 for the noise to leave the others. The noise itself falls with the distortion, so Adam must forget the size
    of earlier gradients, and comes in pairs of opposite sign (`python -m tests.benchmarks -m hours` compares the two).
    A short search may end above where it started, since the first large steps empty useful entries, too. So at last it
    looks along the line from the mask found to the full one.

    Args:
        sparsity: lambda, which multiplies the mean of s over mask entries.
        n_steps: steps of Adam.
        step_size: of Adam, or of its first step with `decay`.
        n_samples: samples of the noise per step and input.
        decay: let the step size fall linearly to 0, and Adam's mean of squared gradients forget after about 100
            steps, not 1000.
        antithetic: draw noise in pairs of opposite sign.
        line_search: samples of the noise at each of eight masks on the line from the one found to the full one, of
            which the best is returned if it beats the full one on four times as many fresh samples, all without
            gradients; 0 returns the one found.
    """

    sparsity: float
    n_steps: int = 2000
    step_size: float = 0.003
    n_samples: int = 64
    decay: bool = False
    antithetic: bool = False
    line_search: int = 0
    __post_init__ = _check

    @classmethod
    def fast(cls, sparsity: float, n_steps: int = 1300, n_samples: int = 32) -> "L1":
        """Large steps that fall to 0; by default 41,600 gradients per input, the paper takes 128,000.

        Held against the paper's on 32 x 32 pixels (`tests/benchmarks/RESULTS.md`), not yet on photographs.
        """
        check_count("n_steps", n_steps)
        step_size = max(0.1, 4 / n_steps)
        return cls(sparsity, n_steps, step_size, n_samples, decay=True, antithetic=True, line_search=16)

    def solve(self, objective: Objective, show_progress: bool = False) -> Solution:
        exists = objective.exists
        mask = exists.to(objective.h.values.dtype)
        adam = torch.optim.Adam([mask], self.step_size, betas=(0.9, 0.99 if self.decay else 0.999))
        penalty = self.sparsity * mask / exists.sum(1, keepdim=True)
        trace = []
        for step in tqdm(range(self.n_steps), disable=not show_progress, unit="step"):
            z = objective.noise(step, self.n_samples, self.antithetic)
            distortion, gradient = objective.gradient(lambda s, rows, some: s, mask, z, 1 if z is None else len(z))
            trace.append(distortion + self.sparsity * objective.rate(mask))
            mask.grad = gradient + penalty
            if self.decay:
                adam.param_groups[0]["lr"] = self.step_size * (1 - step / self.n_steps)
            adam.step()
            mask.clamp_(0, 1)
        if self.line_search:
            mask = self._best_on_the_way_back(objective, mask)
        return Solution(mask, torch.stack(trace))

    def _best_on_the_way_back(self, objective: Objective, mask: Tensor) -> Tensor:
        def cost(s: Tensor, z: Tensor | None) -> Tensor:
            return objective.value(s, z) + self.sparsity * objective.rate(s)

        full = objective.exists.to(mask)  # costs lambda: it has no distortion
        z = objective.noise(self.n_steps, self.line_search, self.antithetic)  # of no step before
        line = torch.stack([mask.lerp(full, eighths / 8) for eighths in range(8)])
        chosen = torch.stack([cost(s, z) for s in line]).argmin(0)
        mask = line[chosen, torch.arange(len(mask))]
        # The least of eight estimates is too low on average, so it is estimated again.
        fresh = objective.noise(self.n_steps + 1, 4 * self.line_search, self.antithetic)
        return torch.where((cost(mask, fresh) < self.sparsity)[:, None], mask, full)


@dataclass(frozen=True)
class Bernoulli:
    """Minimise E_{s ~ Ber(theta)} D(s) + sparsity * mean(theta) (P2) by Adam on the logits of theta.

    Binary masks are relaxed to `s = sigmoid((logit(theta) + logit(U)) / temperature)`, U uniform (the concrete
    distribution). The mask returned is theta, which the objective drives to 0 or 1.

    Args:
        sparsity: lambda, which multiplies the mean of theta over mask entries.
        n_steps: steps of Adam.
        step_size: of its first step, in logits; it falls linearly to 0.
        n_samples: masks, each with noise of its own, per step and input.
        temperature: of the concrete distribution.
        start: theta before the first step.

    Reference: Maddison, Mnih, Teh: The Concrete Distribution, ICLR 2017.
    """

    sparsity: float
    n_steps: int = 500
    step_size: float = 0.2
    n_samples: int = 16
    temperature: float = 0.1
    start: float = 0.5
    __post_init__ = _check

    def solve(self, objective: Objective, show_progress: bool = False) -> Solution:
        exists = objective.exists
        start = torch.full(exists.shape, self.start, dtype=objective.h.values.dtype, device=exists.device)
        logits = start.logit()
        adam = torch.optim.Adam([logits], self.step_size)
        trace = []
        for step in tqdm(range(self.n_steps), disable=not show_progress, unit="step"):
            z = objective.noise(step, self.n_samples)
            uniform = torch.special.ndtr(objective.draw(step, (self.n_samples, exists.shape[1]), element=1))
            logistic = uniform.logit(eps=1e-6)

            def masks(parameters: Tensor, rows: Tensor, some: slice, noise: Tensor = logistic) -> Tensor:
                noise = noise[some] if noise.shape[1] == 1 else noise[some][:, rows]
                return ((parameters + noise) / self.temperature).sigmoid()

            distortion, gradient = objective.gradient(masks, logits, z, self.n_samples)
            theta = logits.sigmoid()
            trace.append(distortion + self.sparsity * objective.rate(theta))
            adam.param_groups[0]["lr"] = self.step_size * (1 - step / self.n_steps)
            logits.grad = gradient + self.sparsity * theta * (1 - theta) / exists.sum(1, keepdim=True)
            adam.step()
            logits.clamp_(-LARGEST_LOGIT, LARGEST_LOGIT)
        return Solution(logits.sigmoid() * exists, torch.stack(trace))


@dataclass(frozen=True)
class MatchingPursuit:
    """From the empty mask, switch on one entry at a time: always the one that leaves the least distortion.

    All candidates of a step are evaluated in one batch, on the same noise, without gradients.

    Args:
        n_entries: the most entries that are switched on.
        tolerance: stop where the distortion is no larger.
        n_samples: samples of the noise that the distortion is estimated with.

    Reference: Mallat, Zhang: Matching Pursuits with Time-Frequency Dictionaries, 1993.
    """

    n_entries: int
    tolerance: float = 0.0
    n_samples: int = 16
    __post_init__ = _check

    def solve(self, objective: Objective, show_progress: bool = False) -> Solution:
        exists = objective.exists
        z = objective.noise(0, self.n_samples)
        mask = torch.zeros(exists.shape, dtype=objective.h.values.dtype, device=exists.device)
        trace, order = [objective.value(mask, z)], []
        for _ in tqdm(range(self.n_entries), disable=not show_progress, unit="entry"):
            candidates = exists & (mask == 0) & (trace[-1] > self.tolerance)[:, None]
            owner, entry = candidates.nonzero(as_tuple=True)
            if not len(owner):
                break
            tried = mask[owner]
            tried[torch.arange(len(entry)), entry] = 1
            distortion = torch.full_like(mask, torch.inf)
            distortion[owner, entry] = objective.value(tried, z, owner)
            least, chosen = distortion.min(1)
            moved = least.isfinite()
            mask[moved, chosen[moved]] = 1
            order.append(torch.where(moved, chosen, -1))
            trace.append(torch.where(moved, least, trace[-1]))
        none = torch.empty(len(mask), 0, dtype=torch.int64, device=mask.device)
        return Solution(mask, torch.stack(trace), torch.stack(order, 1) if order else none)
