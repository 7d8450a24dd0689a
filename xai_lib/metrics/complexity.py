"""How much fine detail an attribution map holds."""

import io

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike
from PIL import Image


def high_frequency_power(maps: ArrayLike) -> np.ndarray:
    """Energy of the Laplacian of maps (..., H, W), centred and scaled to unit energy: (...), from 0 to 64.

    `sum_k lambda_k^2 |c_k|^2 / sum_k |c_k|^2` over the frequencies k != 0, with `c` the cosine transform and
    `-lambda_k` the eigenvalues of the five-point Laplacian with reflecting borders. White noise has about 20, one whole
    cosine of period p pixels along a side `(2 - 2 cos(2 pi / p))^2`; a constant map has 0.

    Raises:
        ValueError: there are no two spatial axes, or a value is not finite.
    """
    maps = _finite_maps(maps)
    energy = scipy.fft.dctn(maps, axes=(-2, -1), norm="ortho") ** 2
    energy[..., 0, 0] = 0
    rows, columns = (2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in maps.shape[-2:])
    power, total = ((weight * energy).sum((-2, -1)) for weight in ((rows[:, None] + columns) ** 2, 1.0))
    return power / np.where(total > 0, total, 1)


def compression_complexity(maps: ArrayLike, levels: int = 256, reach: float = 4.0) -> np.ndarray:
    """Kolmogorov complexity of maps (..., H, W), approximated by lossless compression: bits per pixel, (...).

    Maps are centred, scaled to unit energy per pixel, given the sign that makes their largest absolute value positive,
    cut to `reach` standard deviations on either side, rounded to `levels` grey levels and written as PNG (prediction
    from neighbouring pixels and DEFLATE). The size of a black image's file is subtracted.

    Raises:
        ValueError: there are no two spatial axes, a value is not finite, or `levels` is not within 2 to 256.
    """
    maps = _finite_maps(maps)
    if levels not in range(2, 257):
        raise ValueError(f"levels is {levels!r}, expected an integer from 2 to 256.")
    maps = maps - maps.mean((-2, -1), keepdims=True)
    flat = maps.reshape(*maps.shape[:-2], -1)
    largest = np.take_along_axis(flat, np.abs(flat).argmax(-1)[..., None], -1)[..., None]
    deviation = flat.std(-1)[..., None, None]
    unit = maps * np.sign(largest) / np.where(deviation > 0, deviation, 1)
    grey = np.rint(((unit / reach).clip(-1, 1) + 1) / 2 * (levels - 1)).astype(np.uint8)
    images = grey.reshape(-1, *grey.shape[-2:])
    extra = np.array([_png_size(image) for image in images]) - _png_size(np.zeros_like(images[0]))
    return 8 * extra.reshape(maps.shape[:-2]) / flat.shape[-1]


def _png_size(image: np.ndarray) -> int:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.tell()


def _finite_maps(maps: ArrayLike) -> np.ndarray:
    maps = np.asarray(maps, dtype=float)
    if maps.ndim < 2 or not maps.size:
        raise ValueError(f"maps has shape {maps.shape}, expected (..., H, W).")
    if not np.isfinite(maps).all():
        raise ValueError("maps contains NaN or infinity, expected finite values.")
    return maps
