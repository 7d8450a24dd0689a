"""Gaussian covariances of features: multiply, sample, condition; and estimates from data that fit into memory.

A covariance acts on the trailing features of a tensor, `size` at a time. Where an input has several times as many,
they share it: one matrix over the pixels serves all colour channels of (B, C, H, W), one over the coordinates of an
embedding all words of (B, T, d).
"""

from abc import ABC, abstractmethod
from copy import copy

import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

RIDGE = 1e-3  # of the mean variance, added to the diagonal of estimates
LARGEST = 10_000  # side of a matrix that is still held in full: 0.8 GB in float32, its root included
RANK = 64  # of estimates beyond that


class Covariance(ABC):
    """Covariance of `groups` independent parts of `size` features each.

    A single group is shared by all parts: by `parts` of them where that is given, else by as many as there are.
    """

    groups: int
    size: int
    parts: int | None = None

    @abstractmethod
    def _multiply(self, x: Tensor) -> Tensor:
        """Sigma x, for x (N, groups, size)."""

    @abstractmethod
    def _colour(self, noise: Tensor) -> Tensor:
        """A noise with A A' = Sigma, for noise (N, groups, size)."""

    @abstractmethod
    def _condition(self, held: Tensor) -> "Covariance":
        """`condition` for a mask (parts, size)."""

    @abstractmethod
    def _conditional_mean(self, held: Tensor, deviation: Tensor) -> Tensor:
        """`conditional_mean` for a mask (parts, size) and deviations (N, parts, size)."""

    @abstractmethod
    def diagonal(self) -> Tensor:
        """The variances, (groups, size)."""

    def multiply(self, x: Tensor) -> Tensor:
        """Sigma x for x (..., features)."""
        return self._multiply(x.reshape(-1, self.groups, self.size)).reshape(x.shape)

    def colour(self, noise: Tensor) -> Tensor:
        """Standard normal noise (..., features) turned into noise of this covariance."""
        return self._colour(noise.reshape(-1, self.groups, self.size)).reshape(noise.shape)

    def sample(self, mean: Tensor, n_samples: int, seed: int) -> Tensor:
        """Draw `n_samples` from N(mean, Sigma): (n_samples, ..., features) for means (..., features)."""
        generator = torch.Generator(mean.device).manual_seed(seed)
        shape = (n_samples, *mean.shape)
        return mean + self.colour(torch.randn(shape, generator=generator, dtype=mean.dtype, device=mean.device))

    def condition(self, held: Tensor) -> "Covariance":
        """The covariance of the other features while those of the mask `held`, (features) bool, are fixed.

        `S11 - S12 S22^-1 S21` (eq. 15 of paper 1), with zero rows and columns for the fixed features.
        """
        parts = held.reshape(-1, self.size)
        alike = self.groups == 1 and bool((parts == parts[0]).all())
        return self._condition(parts[:1] if alike else parts)

    def conditional_mean(self, held: Tensor, deviation: Tensor) -> Tensor:
        """Where the other features are expected, relative to their mean, when those in `held` deviate from theirs.

        `S12 S22^-1 (z2 - x2)` (eq. 15 of paper 1) for deviations (..., features), which stay as they are in `held`.
        """
        parts = held.reshape(-1, self.size)
        return self._conditional_mean(parts, deviation.reshape(-1, *parts.shape)).reshape(deviation.shape)

    def fits(self, shape: torch.Size) -> bool:
        """Whether it applies to features of that shape; if shared by any number, its size is that of trailing sides."""
        parts = self.parts or (self.groups if self.groups > 1 else None)
        if parts:
            return shape.numel() == parts * self.size
        return any(shape[k:].numel() == self.size for k in range(len(shape)))

    def to(self, like: Tensor) -> "Covariance":
        """The same, in the dtype and on the device of a tensor."""
        moved = copy(self)
        for name, value in vars(self).items():
            setattr(moved, name, value.to(like) if isinstance(value, Tensor) else value)
        return moved

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))


class Dense(Covariance):
    """Covariance by its matrix (d, d), or a block-diagonal one by its blocks (groups, d, d).

    Raises:
        ValueError: a matrix is not square, finite, symmetric and positive definite.
    """

    def __init__(self, matrices: Tensor) -> None:
        if not isinstance(matrices, Tensor) or matrices.ndim not in (2, 3) or matrices.shape[-1] != matrices.shape[-2]:
            given = tuple(matrices.shape) if isinstance(matrices, Tensor) else type(matrices).__name__
            raise ValueError(f"covariance is {given}, expected a square matrix (d, d) or blocks (groups, d, d).")
        _check_floats("covariance", matrices)
        self.matrices = matrices if matrices.ndim == 3 else matrices[None]
        self.groups, self.size = self.matrices.shape[:2]
        if not self.matrices.isfinite().all():
            raise ValueError("covariance contains NaN or infinity, expected finite values.")
        asymmetry = max((m - m.T).max() / m.abs().max().clamp(min=1e-30) for m in self.matrices)
        if asymmetry > 1e-4:
            raise ValueError(
                f"covariance is not symmetric: it differs from its transpose by {asymmetry:.1e} of its size."
            )
        self.roots, info = torch.linalg.cholesky_ex(self.matrices)
        if info.any():
            raise ValueError(
                "covariance is not positive definite, expected one with positive variance in every direction: add a "
                "multiple of the identity, or estimate it with a ridge or shrinkage."
            )

    def _multiply(self, x: Tensor) -> Tensor:
        return _product(x, self.matrices)  # without a transpose, which is slower: the matrices are symmetric

    def _colour(self, noise: Tensor) -> Tensor:
        return _product(noise, self.roots.mT)

    def diagonal(self) -> Tensor:
        return self.matrices.diagonal(dim1=1, dim2=2)

    def _condition(self, held: Tensor) -> Covariance:
        part = copy(self)
        part.groups = len(held)
        part.matrices, part.roots = self.matrices.new_zeros(2, len(held), self.size, self.size)
        for i, (s, fixed) in enumerate(zip(self.matrices.expand(part.matrices.shape), held, strict=True)):
            free = ~fixed
            matrix = s[free][:, free] - _regression(s, fixed) @ s[fixed][:, free]
            both = free[:, None] & free
            part.matrices[i, both] = matrix.flatten()
            part.roots[i, both] = torch.linalg.cholesky(matrix).flatten()
        return part

    def _conditional_mean(self, held: Tensor, deviation: Tensor) -> Tensor:
        mean = deviation.clone()
        for i, (s, fixed) in enumerate(zip(self.matrices.expand(len(held), -1, -1), held, strict=True)):
            mean[:, i, ~fixed] = deviation[:, i, fixed] @ _regression(s, fixed).T
        return mean


def _regression(matrix: Tensor, fixed: Tensor) -> Tensor:
    """S12 S22^-1, (free, fixed)."""
    return torch.linalg.solve(matrix[fixed][:, fixed], matrix[fixed][:, ~fixed]).T


def _product(x: Tensor, matrices: Tensor) -> Tensor:
    """x (N, groups, i) times matrices (groups, i, j)."""
    if len(matrices) == 1:
        return x @ matrices[0]  # one product, not a batch of one
    return torch.matmul(x.movedim(0, 1), matrices).movedim(1, 0)


class LowRank(Covariance):
    """Covariance of the form factor factor' + diag(diagonal), for inputs whose full matrix would not fit.

    Args:
        factor: (d, r).
        diagonal: (d,), positive.

    It is kept as `D^1/2 (I + Q diag(s^2) Q') D^1/2` with orthonormal Q, (d, r), so that both Sigma and the root
    `D^1/2 (I + Q diag((1 + s^2)^1/2 - 1) Q')` cost 2 d r multiplications.

    Raises:
        ValueError: the shapes do not fit, a value is not finite, or the diagonal is not positive.
    """

    def __init__(self, factor: Tensor, diagonal: Tensor) -> None:
        if factor.ndim != 2 or diagonal.shape != factor.shape[:1]:
            shapes = f"{tuple(factor.shape)} and {tuple(diagonal.shape)}"
            raise ValueError(f"factor and diagonal have shapes {shapes}, expected (d, r) and (d,).")
        if not (factor.isfinite().all() and diagonal.isfinite().all() and (diagonal > 0).all()):
            raise ValueError("factor or diagonal is not finite or not positive, expected positive variances.")
        self._set(factor[None] / diagonal.sqrt()[:, None], diagonal.sqrt()[None])

    def _set(self, whitened: Tensor, spread: Tensor) -> None:
        self.spread = spread
        self.directions, self.strengths, _ = torch.linalg.svd(whitened, full_matrices=False)
        self.groups, self.size = spread.shape

    def _along(self, x: Tensor, gains: Tensor) -> Tensor:
        """(I + Q diag(gains) Q') x."""
        inside = torch.einsum("gdr,ngd->ngr", self.directions, x) * gains
        return x + torch.einsum("gdr,ngr->ngd", self.directions, inside)

    def _multiply(self, x: Tensor) -> Tensor:
        return self.spread * self._along(self.spread * x, self.strengths**2)

    def _colour(self, noise: Tensor) -> Tensor:
        return self.spread * self._along(noise, (1 + self.strengths**2).sqrt() - 1)

    def diagonal(self) -> Tensor:
        return self.spread**2 * (1 + ((self.directions * self.strengths[:, None]) ** 2).sum(2))

    def _posterior(self, held: Tensor) -> tuple[Tensor, Tensor]:
        """V, (parts, d, r), and M = (I + V2' V2)^-1, (parts, r, r), by Woodbury's identity; V = Q diag(s)."""
        v = (self.directions * self.strengths[:, None]).expand(len(held), -1, -1)
        v2 = v * held[..., None]
        return v, torch.linalg.inv(torch.eye(v.shape[2]).to(v) + v2.mT @ v2)

    def _condition(self, held: Tensor) -> Covariance:
        v, inverse = self._posterior(held)
        part = copy(self)
        part._set((v * ~held[..., None]) @ torch.linalg.cholesky(inverse), self.spread * ~held)
        return part

    def _conditional_mean(self, held: Tensor, deviation: Tensor) -> Tensor:
        v, inverse = self._posterior(held)
        inside = torch.einsum("gdr,ngd->ngr", v, held * deviation / self.spread)
        mean = self.spread * torch.einsum("gdr,grs,ngs->ngd", v, inverse, inside)
        return torch.where(held, deviation, mean)


def full(samples: Tensor, *, ridge: float = RIDGE, ledoit_wolf: bool = False) -> Dense:
    """Estimate one matrix over all features of `samples`, (n, ...): d^2 numbers, and as many for its root.

    Args:
        samples: what the data look like, one per row; usually those of one class.
        ridge: share of the mean variance that is added to the diagonal, so that the matrix is positive definite
            even from fewer samples than features.
        ledoit_wolf: shrink towards a multiple of the identity as far as Ledoit and Wolf advise (scikit-learn).

    Raises:
        ValueError: there are fewer than 2 samples, one is not finite, or (with `ridge=0`) the estimate is singular.
    """
    return _estimate(samples.flatten(1)[:, None], ridge, ledoit_wolf)


def shared(samples: Tensor, *, ridge: float = RIDGE, ledoit_wolf: bool = False) -> Dense:
    """Estimate one matrix that the channels of `samples`, (n, C, ...), share: the mean of the channels' own.

    Images (n, C, H, W): one (H W, H W) matrix, C^2 times smaller than the full one. See `full` for the rest.
    """
    return _estimate(samples.flatten(2), ridge, ledoit_wolf, pooled=True)


def blocks(
    samples: Tensor, size: int, *, shared: bool = False, ridge: float = RIDGE, ledoit_wolf: bool = False
) -> Dense:
    """Estimate a matrix for each run of `size` features of `samples`, (n, ...), and nothing between the runs.

    With `shared`, all runs have one matrix, the mean of their own: for signals whose parts are alike. See `full` for
    the rest.

    Raises:
        ValueError: as `full`, or `size` does not divide the number of features.
    """
    features = samples[0].numel()
    if size < 1 or features % size:
        raise ValueError(f"size is {size}, expected a divisor of the number of features, {features}.")
    estimate = _estimate(samples.reshape(len(samples), -1, size), ridge, ledoit_wolf, pooled=shared)
    estimate.parts = features // size
    return estimate


def low_rank(samples: Tensor, rank: int, *, ridge: float = RIDGE) -> LowRank:
    """Estimate the `rank` principal directions of `samples`, (n, ...), and the remaining variance of each feature.

    d (rank + 1) numbers: 3 x 224 x 224 features at rank 64 take 40 MB. The diagonal is exact (plus the ridge); of the
    rest the least squares part of that rank is kept.

    Raises:
        ValueError: `rank` is not between 1 and n - 1, or a sample is not finite.
    """
    x = _centred(samples.flatten(1))
    n = len(x)
    if not 1 <= rank < n:
        raise ValueError(f"rank is {rank}, expected 1 to {n - 1}, one less than the samples.")
    _, vectors = torch.linalg.eigh(x @ x.T)
    factor = x.T @ vectors[:, -rank:] / (n - 1) ** 0.5
    variance = x.square().sum(0) / (n - 1)
    rest = (variance - factor.square().sum(1)).clamp(min=0)
    return LowRank(factor, rest + ridge * variance.mean())


def images(samples: Tensor, rank: int = 0, *, ridge: float = RIDGE) -> Dense | LowRank:
    """Estimate from images, (n, C, H, W), what fits into memory.

    Up to `LARGEST` pixels that is the matrix over the pixels which the channels share (`shared`). Of a photograph,
    224 x 224, it would take 10 GB, and as much for its root: beyond, and wherever a `rank` is given, it is `low_rank`
    over pixels and channels, of that rank or of `RANK`, but at most n - 1.
    """
    if not rank and samples[0, 0].numel() <= LARGEST:
        return shared(samples, ridge=ridge)
    return low_rank(samples, min(rank or RANK, len(samples) - 1), ridge=ridge)


def _check_floats(name: str, values: Tensor) -> None:
    if not values.is_floating_point():
        raise ValueError(f"{name} has dtype {values.dtype}, expected floats.")


def _centred(samples: Tensor) -> Tensor:
    _check_floats("samples", samples)
    if len(samples) < 2:
        raise ValueError(f"samples has {len(samples)} rows, expected at least 2.")
    if not samples.isfinite().all():
        raise ValueError("samples contains NaN or infinity, expected finite values.")
    return samples - samples.mean(0)


def _estimate(samples: Tensor, ridge: float, ledoit_wolf: bool, pooled: bool = False) -> Dense:
    """A matrix for each of the parts of samples (n, parts, d), or their mean."""
    n, parts, size = samples.shape
    x = _centred(samples)
    x = x.reshape(1, -1, size) if pooled else x.movedim(1, 0)
    matrices = x.mT @ x / ((n - 1) * (parts if pooled else 1))
    diagonal = matrices.diagonal(dim1=1, dim2=2)  # a view: large matrices are changed where they lie
    variance = diagonal.mean(1, keepdim=True)
    if ledoit_wolf:
        shares = [ledoit_wolf_shrinkage(part.cpu().numpy(), assume_centered=True) for part in x]
        shares = torch.tensor(shares).to(x)[:, None]
        matrices *= 1 - shares[..., None]
        diagonal += shares * variance
    diagonal += ridge * variance
    return Dense(matrices)
