"""The expected distortion as a function of masks, and its gradient: the one loop behind all of paper 5."""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Protocol

import torch
from torch import Tensor

from xai_lib.masks.obfuscations import Perturbation
from xai_lib.masks.representations import Coefficients
from xai_lib.outputs import Problem, generator_of, in_parts


class Distortion(Protocol):
    """Maps outputs (R, ...), clean outputs and targets of the inputs `rows`, (R,), to distortions (R,).

    Attributes:
        of_class: True where outputs are scores (R, classes), of which the target's is compared. Without this attribute
            outputs may have any shape, and there is no target.
    """

    def __call__(self, outputs: Tensor, clean: Tensor, target: Tensor | None, rows: Tensor) -> Tensor: ...


class Objective:
    """D(s) = E_v d(Phi(x), Phi(y)), y = f(s * h + (1 - s) * v) (Definition 1), for many inputs side by side.

    Args:
        problem: the inputs and the model.
        coefficients: h and f.
        perturbation: the law of v.
        distortion: d.
        seed: of the noise, which belongs to (seed, step) alone; one for all inputs, or one each.
        share: inputs with the same number, (B,), share one mask; None gives each input its own.
        limit: rows of one forward pass.
    """

    def __init__(
        self,
        problem: Problem,
        coefficients: Coefficients,
        perturbation: Perturbation,
        distortion: Distortion,
        seed: int | Sequence[int] = 0,
        share: Tensor | None = None,
        limit: int = 64,
    ) -> None:
        self.problem, self.h, self.perturbation, self.distortion = problem, coefficients, perturbation, distortion
        rows = torch.arange(len(problem), device=coefficients.values.device)
        self.share = rows if share is None else share
        self.inputs_per_mask = self.share.bincount().to(coefficients.values.dtype)
        self.exists = coefficients.exists.new_zeros(len(self.inputs_per_mask), coefficients.exists.shape[1])
        self.exists[self.share] = coefficients.exists
        self.seed, self.limit = seed, limit

    def noise(self, step: int, n_samples: int, antithetic: bool = False) -> Tensor | None:
        """Standard normal noise of a step, (n_samples, 1 or B, ...), in pairs of opposite sign if `antithetic`."""
        if self.perturbation.noise_shape is None:
            return None
        n = (n_samples + 1) // 2 if antithetic else n_samples
        z = self.draw(step, (n, *self.perturbation.noise_shape))
        return torch.cat([z, -z])[:n_samples] if antithetic else z

    def draw(self, step: int, shape: tuple[int, ...], element: int = 0) -> Tensor:
        """Standard normal numbers shaped (shape[0], 1 or B, *shape[1:]) that belong to (seed, step, element)."""
        like = self.h.values
        draws = []
        for seed in [self.seed] if isinstance(self.seed, Integral) else self.seed:
            generator = generator_of(like.device, int(seed), step, element)
            draws.append(torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device))
        return torch.stack(draws, 1)

    def rate(self, mask: Tensor) -> Tensor:
        """Mean of each mask (M, k) over the entries that exist: (M,)."""
        return (mask * self.exists).sum(1) / self.exists.sum(1)

    def mixed(self, masks: Tensor, rows: Tensor, z: Tensor | None) -> Tensor:
        """Obfuscated coefficients s * h + (1 - s) * v: (K, R, ...) for masks (R, k) or (K, R, k) and noise z."""
        spread = self.h.spread(masks, rows)
        v = self.perturbation.draw(rows, spread, z)
        mixed = torch.lerp(v, self.h.values[rows], spread)  # exactly h where s = 1 and v where s = 0
        return mixed if mixed.ndim > self.h.values.ndim else mixed[None]

    def _at(self, mixed: Tensor, rows: Tensor, measure: Callable) -> Tensor:
        many = rows.repeat(len(mixed))
        outputs, clean = self.problem.forward((self.h.signal(mixed.flatten(0, 1)),), many), self.problem.outputs[many]
        return measure(outputs, clean, self.problem.target_of(many), many).unflatten(0, mixed.shape[:2])

    def expected(self, masks: Tensor, rows: Tensor, z: Tensor | None) -> Tensor:
        """The distortion of each mask (R, k) for the input named in `rows`, (R,), without gradients: (R,)."""

        def mean(block: slice) -> Tensor:
            s, r = masks[block], rows[block]

            def evaluate(some: slice) -> Tensor:
                return self._at(self.mixed(s, r, _of(z, some, r)), r, self.distortion)

            return torch.cat(self._over_samples(evaluate, 1 if z is None else len(z), len(r))).mean(0)

        with torch.no_grad():
            return torch.cat(self._over_rows(mean, len(rows)))

    def value(self, masks: Tensor, z: Tensor | None, owner: Tensor | None = None) -> Tensor:
        """The distortion of masks (C, k), averaged over the inputs that share mask number `owner`, (C,): (C,)."""
        owner = torch.arange(len(masks), device=masks.device) if owner is None else owner
        which, rows = (owner[:, None] == self.share).nonzero(as_tuple=True)
        d = self.expected(masks[which], rows, z) / self.inputs_per_mask[owner[which]]
        return torch.zeros_like(masks[:, 0]).index_add_(0, which, d)

    def gradient(
        self, masks: Callable[[Tensor, Tensor, slice], Tensor], leaf: Tensor, z: Tensor | None, n_samples: int
    ) -> tuple[Tensor, Tensor]:
        """Distortion (M,), averaged over samples and inputs, and its gradient with respect to `leaf`, (M, k).

        `masks` maps the parameters (R, k) of inputs `rows` and a slice of samples to masks (R, k) or (K, R, k).
        """
        gradient = torch.zeros_like(leaf)
        everything = torch.arange(len(self.problem), device=leaf.device)

        def add(block: slice) -> Tensor:
            rows = everything[block]
            weight = 1 / (self.inputs_per_mask[self.share[rows]] * n_samples)

            def evaluate(some: slice) -> tuple[Tensor, Tensor]:
                with torch.enable_grad():
                    parameters = leaf.detach().requires_grad_()
                    chosen = masks(parameters[self.share[rows]], rows, some)
                    d = self._at(self.mixed(chosen, rows, _of(z, some, rows)), rows, self.distortion) * weight
                    g = torch.autograd.grad(d.sum(), parameters, allow_unused=True)[0] if d.requires_grad else None
                if g is None:
                    raise ValueError("forward_func or the distortion is not differentiable, expected a gradient.")
                return d.detach().sum(0), g

            d, g = (sum(p) for p in zip(*self._over_samples(evaluate, n_samples, len(rows)), strict=True))
            gradient.add_(g)  # last: where memory runs out before, nothing of the block has been added
            return d

        distortion = torch.cat(self._over_rows(add, len(everything)))
        return self._sum_per_mask(distortion), gradient

    def _over_rows(self, evaluate: Callable[[slice], Tensor], n_rows: int) -> list[Tensor]:
        """Evaluate slices of at most `limit` rows, fewer where memory does not hold them for a single sample."""
        parts, fits = in_parts(evaluate, n_rows, self.limit)
        self.limit = min(self.limit, fits)
        return parts

    def _over_samples(self, evaluate: Callable[[slice], object], n_samples: int, n_rows: int) -> list:
        per = max(1, self.limit // n_rows)
        parts, fits = in_parts(evaluate, n_samples, per)
        if fits < per:
            self.limit = fits * n_rows
        return parts

    def _sum_per_mask(self, values: Tensor) -> Tensor:
        zeros = torch.zeros(len(self.inputs_per_mask), dtype=values.dtype, device=values.device)
        return zeros.index_add_(0, self.share, values)


def _of(z: Tensor | None, some: slice, rows: Tensor) -> Tensor | None:
    """The noise of some samples for the inputs `rows`."""
    if z is None:
        return None
    return z[some] if z.shape[1] == 1 else z[some][:, rows]
