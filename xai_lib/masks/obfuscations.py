"""Obfuscations: what takes the place of coefficients that a mask switches off (Table 1 of the paper)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xai_lib.masks.representations import Coefficients, Representation
from xai_lib.scale_space import scale_space


@dataclass(frozen=True)
class Perturbation:
    """The law of v for a batch of inputs.

    Attributes:
        noise_shape: shape of the standard normal noise z that a draw takes, or None where v is not random.
        draw: maps inputs `rows`, (R,), spread masks (..., R, *) and noise z, (K, R or 1, *noise_shape), to v,
            broadcastable to (K, R, ...).
    """

    noise_shape: tuple[int, ...] | None
    draw: Callable[[Tensor, Tensor, Tensor | None], Tensor]


Obfuscation = Callable[[Coefficients, Tensor], Perturbation]  # of coefficients, and the inputs they belong to


@dataclass(frozen=True)
class Constant:
    """v = value."""

    value: float = 0.0

    def __call__(self, h: Coefficients, x: Tensor) -> Perturbation:
        if not math.isfinite(self.value):
            raise ValueError(f"value is {self.value!r}, expected a finite number.")
        return Perturbation(None, lambda rows, spread, z: torch.full_like(h.values[:1], self.value))


@dataclass(frozen=True)
class Gaussian:
    """v ~ N(mean, std^2) independently (Example 6), by default with the statistics of each input's own coefficients.

    Wavelet coefficients have a mean and a standard deviation per scale, magnitude and phase one each, pixels one for
    the whole image.

    Args:
        mean, std: numbers, or tensors that broadcast with the coefficients; None takes the statistics.
    """

    mean: float | Tensor | None = None
    std: float | Tensor | None = None

    def __call__(self, h: Coefficients, x: Tensor) -> Perturbation:
        mean = self._moment("mean", h, torch.mean)
        std = self._moment("std", h, torch.std)
        if not (mean.isfinite() & std.isfinite() & (std >= 0)).all():
            raise ValueError(
                f"mean is {self.mean!r} and std is {self.std!r}, expected finite numbers and std of at least 0 (None "
                "takes that of the coefficients, which a single one does not have)."
            )
        return Perturbation(tuple(h.values.shape[1:]), lambda rows, spread, z: torch.addcmul(mean[rows], std[rows], z))

    def _moment(self, name: str, h: Coefficients, statistic: Callable) -> Tensor:
        given, values = getattr(self, name), h.values
        if given is not None:
            moment = torch.as_tensor(given, dtype=values.dtype, device=values.device)
            try:
                return moment.expand_as(values)
            except RuntimeError as error:
                raise ValueError(
                    f"{name} has shape {tuple(moment.shape)}, expected one that broadcasts with the coefficients', "
                    f"{tuple(values.shape)}."
                ) from error
        dims = tuple(range(2 if h.kinds else 1, values.ndim))
        moments = [statistic(part, dim=dims, keepdim=True) for part in values.split(h.groups, -1)]
        return torch.cat([m.expand(*m.shape[:-1], n) for m, n in zip(moments, h.groups, strict=True)], -1)


@dataclass(frozen=True)
class Blurred:
    """v = K * x: the coefficients of the input blurred by `sigma` pixels (or samples)."""

    sigma: float
    representation: Representation

    def __call__(self, h: Coefficients, x: Tensor) -> Perturbation:
        if not self.sigma > 0:
            raise ValueError(f"sigma is {self.sigma!r}, expected a positive number of pixels.")
        blur = scale_space(x, (-2, -1) if x.ndim == 4 else (-1,))
        v = self.representation(blur(torch.tensor([float(self.sigma)]))[0]).values
        if v.shape != h.values.shape:
            raise ValueError(
                f"representation makes coefficients of shape {tuple(v.shape)} of the blurred inputs, expected that of "
                f"the inputs' own, {tuple(h.values.shape)}."
            )
        return Perturbation(None, lambda rows, spread, z: v[rows])


@dataclass(frozen=True)
class Inpainted:
    """v = G(h, s, z): a network fills in what the mask switches off (Example 5).

    Args:
        generator: maps coefficients h (R, ...), spread masks s shaped like h, and noise z (R, *noise_shape) to
            coefficients shaped like h.
        noise_shape: shape of z for one sample; None for a generator without noise, which gets z = None.
    """

    generator: Callable[..., Tensor]
    noise_shape: tuple[int, ...] | None = None

    def __call__(self, h: Coefficients, x: Tensor) -> Perturbation:
        shape = h.values.shape[1:]

        def draw(rows: Tensor, spread: Tensor, z: Tensor | None) -> Tensor:
            a_mask_per_sample = spread.ndim > h.values.ndim
            samples = len(spread) if a_mask_per_sample else 1 if z is None else len(z)
            full = (samples, len(rows), *shape)
            given = [h.values[rows].expand(full), spread.expand(full)]
            given.append(None if z is None else z.expand(samples, len(rows), *self.noise_shape))
            v = self.generator(*(g if g is None else g.flatten(0, 1) for g in given))
            if not isinstance(v, Tensor) or v.shape != (samples * len(rows), *shape):
                returned = f"shape {tuple(v.shape)}" if isinstance(v, Tensor) else f"a {type(v).__name__}"
                raise ValueError(f"generator returned {returned}, expected {(samples * len(rows), *shape)}.")
            if not v.isfinite().all():
                raise ValueError("generator returned NaN or infinity, expected finite coefficients.")
            return v.unflatten(0, (samples, len(rows)))

        return Perturbation(self.noise_shape, draw)
