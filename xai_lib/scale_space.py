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
    """Maps scales `sigma`, (K,), to blurred copies of the chosen rows of a batch: (K, rows, ...)."""

    def __call__(self, sigma: Tensor, rows: Tensor | slice = ALL) -> Tensor: ...


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
        return lambda sigma, rows=ALL: _sampled_gaussian(x[rows], sigma, tuple(dims))
    if max(x.shape[d] for d in dims) > LONGEST_MATRIX:
        return _fourier_diffusion(x, dims)
    return _cosine_diffusion(x, dims)


def _cosine_diffusion(x: Tensor, dims: Sequence[int]) -> Blur:
    spectrum = x
    for d in dims:
        spectrum = _apply(_cosine_basis(x.shape[d], x.dtype, x.device), spectrum, d)

    def blur(sigma: Tensor, rows: Tensor | slice = ALL) -> Tensor:
        out = spectrum[rows] * math.prod(_decay(sigma, x.shape[d], d, x) for d in dims)
        for d in dims:
            out = _apply(_cosine_basis(x.shape[d], x.dtype, x.device).T, out, d)
        return out

    return blur


def _fourier_diffusion(x: Tensor, dims: Sequence[int]) -> Blur:
    spectrum = x
    for d in dims:
        mirrored = torch.cat([spectrum, spectrum.flip(d)], d)  # period 2n: its Fourier basis is the cosine basis
        spectrum = torch.fft.fft(mirrored, dim=d)

    def blur(sigma: Tensor, rows: Tensor | slice = ALL) -> Tensor:
        out = spectrum[rows] * math.prod(_decay(sigma, 2 * x.shape[d], d, x) for d in dims)
        for d in dims:
            out = torch.fft.ifft(out, dim=d).narrow(d, 0, x.shape[d])
        return out.real

    return blur


def _decay(sigma: Tensor, modes: int, dim: int, like: Tensor) -> Tensor:
    """exp(-sigma^2 lambda / 2) along `dim`, for the Laplacian's eigenvalues lambda_k = 2 - 2 cos(pi k / n)."""
    eigenvalues = 2 - 2 * torch.cos(torch.pi * torch.arange(modes, dtype=torch.float64) / like.shape[dim])
    decay = torch.exp(-(sigma.double().cpu()[:, None] ** 2) * eigenvalues / 2)
    return decay.view(len(sigma), *[1] * (like.ndim + dim), modes, *[1] * (-dim - 1)).to(like)


@lru_cache(maxsize=16)
def _cosine_basis(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Orthonormal DCT-II as a matrix, (frequency, position)."""
    return torch.from_numpy(scipy.fft.dct(np.eye(n), norm="ortho", axis=0)).to(device, dtype)


def _apply(matrix: Tensor, x: Tensor, dim: int) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):  # the path stays exact when the model runs in bfloat16
        if dim == -1:
            return x @ matrix.T
        return (matrix @ x.movedim(dim, -2)).movedim(-2, dim)


def _sampled_gaussian(x: Tensor, sigma: Tensor, dims: tuple[int, ...]) -> Tensor:
    array = x.detach().cpu().numpy()
    blurred = [scipy.ndimage.gaussian_filter(array, float(s), axes=dims, mode="reflect") for s in sigma]
    return torch.from_numpy(np.stack(blurred)).to(x)


def count_maxima(image: Tensor) -> int:
    """Local maxima of an array of one or two dimensions, corners included; a plateau counts once."""
    rounded = np.round(image.detach().cpu().double().numpy(), 9)  # of the rounding of a transform
    peaks = local_maxima(rounded, connectivity=rounded.ndim)
    return int(label(peaks, connectivity=rounded.ndim).max())
