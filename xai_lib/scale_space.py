"""Blurring a batch to many scales at once: the path of blur integrated gradients."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import scipy.fft
import scipy.ndimage
import torch
from skimage.measure import label
from skimage.morphology import local_maxima
from torch import Tensor

KERNELS = ("diffusion", "gaussian")
LONGEST_MATRIX = 1024  # above this length a matrix product costs more than a Fourier transform
ALL = slice(None)


class Blur(Protocol):
    """Maps scales `sigma`, (K,), to blurred copies of the chosen rows of a batch, (K, rows, ...).

    With `difference`, to the change from each scale to the next, (K - 1, rows, ...).
    """

    def __call__(self, sigma: Tensor, rows: Tensor | slice = ALL, difference: bool = False) -> Tensor: ...


def scale_space(x: Tensor, dims: Sequence[int], kernel: str = "diffusion") -> Blur:
    """Prepare a batch `x`, (B, ...), for blurring to any scales: one transform serves them all.

    `"diffusion"` solves the heat equation dL/dt = Laplacian(L) / 2 at t = sigma^2 on the pixel grid itself, with
    reflecting borders: `L(sigma) = IDCT(exp(-sigma^2 lambda / 2) DCT(x))`. It is an exact semigroup, keeps the
    mean and enhances no local extremum. `"gaussian"` is scipy's sampled and truncated Gaussian with the same
    borders, which has these properties only approximately.

    Args:
        x: batch of any shape, real.
        dims: negative indices of the axes along which to blur; the others are left alone.
        kernel: one of `KERNELS`.

    Raises:
        ValueError: the kernel is unknown.

    The paper's scale parameter is `alpha = 2 sigma^2`, its kernel `exp(-r^2 / alpha) / (pi alpha)`.

    Reference: Xu, Venugopalan, Sundararajan: Attribution in Scale and Space, CVPR 2020, section 3.1;
    Lindeberg: Scale-space for discrete signals, 1990.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel is {kernel!r}, expected one of {KERNELS}.")
    if kernel == "gaussian":
        return _sampled_gaussian(x, dims)
    if max(x.shape[d] for d in dims) > LONGEST_MATRIX:
        return _fourier_diffusion(x, dims)
    return _cosine_diffusion(x, dims)


def _cosine_diffusion(x: Tensor, dims: Sequence[int]) -> Blur:
    bases = {d: _cosine_basis(x.shape[d], x.dtype, x.device) for d in dims}
    spectrum = x
    for d, basis in bases.items():
        spectrum = _apply(basis, spectrum, d)

    def blur(sigma: Tensor, rows: Tensor | slice = ALL, difference: bool = False) -> Tensor:
        kept = {d: _modes_left(sigma, x.shape[d], x.dtype) for d in dims}
        out = spectrum
        for d, n in kept.items():
            out = out.narrow(d, 0, n)
        out = out[rows] * _decays(sigma, kept, x, difference)
        for d, n in kept.items():
            out = _apply(bases[d][:n].T, out, d)
        return out

    return blur


def _fourier_diffusion(x: Tensor, dims: Sequence[int]) -> Blur:
    spectrum = x
    for d in dims:
        mirrored = torch.cat([spectrum, spectrum.flip(d)], d)  # period 2n: its Fourier basis is the cosine basis
        spectrum = torch.fft.fft(mirrored, dim=d)

    def blur(sigma: Tensor, rows: Tensor | slice = ALL, difference: bool = False) -> Tensor:
        out = spectrum[rows] * _decays(sigma, {d: 2 * x.shape[d] for d in dims}, x, difference)
        for d in dims:
            out = torch.fft.ifft(out, dim=d).narrow(d, 0, x.shape[d])
        return out.real

    return blur


def _decays(sigma: Tensor, modes: dict[int, int], like: Tensor, difference: bool) -> Tensor:
    """Factors of the first `modes[d]` modes along each dimension d at scales (K,), or their changes between scales.

    One dimension's are exp(-sigma^2 lambda / 2), with the Laplacian's eigenvalues lambda_k = 2 - 2 cos(pi k / n).
    """
    factors = []
    for d, n in modes.items():
        eigenvalues = 2 - 2 * torch.cos(torch.pi * torch.arange(n, dtype=torch.float64) / like.shape[d])
        decay = torch.exp(-(sigma.double().cpu()[:, None] ** 2) * eigenvalues / 2)
        factors.append(decay.view(len(sigma), *[1] * (like.ndim + d), n, *[1] * (-d - 1)))
    factor = math.prod(factors)
    return (factor.diff(dim=0) if difference else factor).to(like)


def _modes_left(sigma: Tensor, n: int, dtype: torch.dtype) -> int:
    """How many of n modes the finest of the scales leaves above rounding."""
    exponent = -2 * math.log(torch.finfo(dtype).eps)  # sigma^2 lambda at which a mode is gone
    cosine = 1 - exponent / 2 / max(float(sigma.min()), 1e-9) ** 2
    return n if cosine <= -1 else min(n, math.ceil(n * math.acos(cosine) / math.pi) + 1)


@lru_cache(maxsize=16)
def _cosine_basis(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Orthonormal DCT-II as a matrix, (frequency, position)."""
    return torch.from_numpy(scipy.fft.dct(np.eye(n), norm="ortho", axis=0)).to(device, dtype)


def _apply(matrix: Tensor, x: Tensor, dim: int) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):  # the path stays exact when the model runs in bfloat16
        if dim == -1:
            return x @ matrix.T
        return (matrix @ x.movedim(dim, -2)).movedim(-2, dim)


def _sampled_gaussian(x: Tensor, dims: Sequence[int]) -> Blur:
    def blur(sigma: Tensor, rows: Tensor | slice = ALL, difference: bool = False) -> Tensor:
        array = x[rows].detach().cpu().numpy()
        blurred = [scipy.ndimage.gaussian_filter(array, float(s), axes=tuple(dims), mode="reflect") for s in sigma]
        copies = torch.from_numpy(np.stack(blurred)).to(x)
        return copies.diff(dim=0) if difference else copies

    return blur


def count_maxima(image: Tensor) -> int:
    """Local maxima of an array of one or two dimensions, corners included; a plateau counts once."""
    rounded = np.round(image.detach().cpu().double().numpy(), 9)  # of the rounding of a transform
    peaks = local_maxima(rounded, connectivity=rounded.ndim)
    return int(label(peaks, connectivity=rounded.ndim).max())
