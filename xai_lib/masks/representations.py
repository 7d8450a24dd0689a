"""Representations x = f(h): what a mask switches off. Each maps inputs (B, ...) to their `Coefficients`."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import ptwt
import pywt
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pixel_shuffle

DEFAULT_LEVELS = 5  # the paper's, at 256 x 256 pixels
MODES = ("constant", "periodic", "reflect", "symmetric", "zero")  # those of PyWavelets that ptwt takes
ROUND_OFF = 1e-5  # of images in [0, 1] that were computed


@dataclass(frozen=True)
class Coefficients:
    """Inputs written as x = f(h), and how the entries of a mask act on h.

    Attributes:
        values: h, (B, ...).
        signal: f, maps coefficients (R, ...) to inputs (R, ...).
        spread: maps masks (..., R, k) of the inputs `rows`, (R,), to factors (..., R, *) that broadcast with h[rows].
        exists: which of the k entries of each input's mask stand for something, (B, k) bool.
        explain: maps masks (B, k) to what is shown of them, shaped as the inputs.
        groups: lengths of the parts of h's last axis that share a noise level.
        kinds: whether the axis behind the batch holds different quantities, such as magnitude and phase, whose
            statistics are taken apart.
    """

    values: Tensor
    signal: Callable[[Tensor], Tensor]
    spread: Callable[[Tensor, Tensor], Tensor]
    exists: Tensor
    explain: Callable[[Tensor], Tensor]
    groups: tuple[int, ...]
    kinds: bool = False


Representation = Callable[[Tensor], Coefficients]


def pixels(x: Tensor) -> Coefficients:
    """One mask entry per position of x, (B, C, H, W) or (B, C, L), shared by the channels; features (B, N) too."""
    return _shaped(x, x.shape[1:] if x.ndim == 2 else (1, *x.shape[2:]))


def channels(x: Tensor) -> Coefficients:
    """One mask entry per channel of x, (B, C, ...), such as the whole magnitude and the whole phase (Example 4).

    Channels are taken for different quantities: noise has the statistics of each.
    """
    return _shaped(x, (x.shape[1], *[1] * (x.ndim - 2)), kinds=x.ndim > 2)


def _shaped(x: Tensor, shape: tuple[int, ...], kinds: bool = False) -> Coefficients:
    """h = x, under a mask of a shape that broadcasts with x."""
    return Coefficients(
        x,
        signal=lambda h: h,
        spread=lambda mask, rows: mask.unflatten(-1, shape),
        exists=_all(x, shape),
        explain=lambda mask: mask.unflatten(-1, shape).expand_as(x),
        groups=(x.shape[-1],),
        kinds=kinds,
    )


def _all(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.ones(len(x), math.prod(shape), dtype=torch.bool, device=x.device)


@dataclass(frozen=True)
class Wavelets:
    """Discrete wavelet coefficients of images (B, C, H, W), one mask entry per coefficient, shared by the channels.

    `explain` gives the CartoonX picture: the masked coefficients of the mean over channels, inverted and clipped.

    Args:
        wavelet: name in PyWavelets.
        levels: scales J; None takes 5, or as many as PyWavelets recommends for the image if these are fewer.
        mode: continuation beyond the border, one of `MODES`.
        clip: clip obfuscated images to [0, 1].
    """

    wavelet: str = "db3"
    levels: int | None = None
    mode: str = "zero"
    clip: bool = True

    def __call__(self, x: Tensor) -> Coefficients:
        """Transform images.

        Raises:
            ValueError: the inputs are no images, leave [0, 1] where obfuscations are clipped, or the transform knows no
                such wavelet, mode or level.
        """
        levels = self._levels(x)
        try:
            approximation, *details = ptwt.wavedec2(x, self.wavelet, mode=self.mode, level=levels)
        except (RuntimeError, ValueError) as error:
            size = "x".join(map(str, x.shape[-2:]))
            raise ValueError(
                f"levels is {levels}, more than {self.wavelet} takes at {size} pixels in mode {self.mode!r}, "
                "expected fewer."
            ) from error
        bands = [approximation, *(torch.stack(d, 2) for d in details)]  # orientations side by side
        shapes = [band.shape[2:] for band in bands]
        sizes = tuple(shape.numel() for shape in shapes)
        synthesis = _synthesis(self.wavelet).to(x)
        height, width = x.shape[-2:]

        def invert(h: Tensor) -> Tensor:
            x, *details = (p.unflatten(-1, s) for p, s in zip(h.split(sizes, -1), shapes, strict=True))
            for detail in details:
                # A level's result is one row or column longer than the next where that one is odd.
                x = _rebuilt(x[..., : detail.shape[-2], : detail.shape[-1]], detail, synthesis)
            return x[..., :height, :width]

        values = torch.cat([band.flatten(2) for band in bands], 2)
        return Coefficients(
            values,
            signal=lambda h: invert(h).clamp(0, 1) if self.clip else invert(h),
            spread=lambda mask, rows: mask[..., None, :],
            exists=_all(x, (sum(sizes),)),
            explain=lambda mask: invert(mask[:, None] * values.mean(1, keepdim=True)).clamp(0, 1).expand_as(x),
            groups=sizes,
        )

    def _levels(self, x: Tensor) -> int:
        if x.ndim != 4:
            raise ValueError(f"inputs has shape {tuple(x.shape)}, expected images (B, C, H, W) for wavelets.")
        if self.clip and not -ROUND_OFF <= x.min() <= x.max() <= 1 + ROUND_OFF:
            raise ValueError(
                f"inputs ranges from {float(x.min()):.3g} to {float(x.max()):.3g}, expected [0, 1], to which "
                "obfuscations are clipped (clip=False leaves them as they are)."
            )
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}, expected one of {', '.join(MODES)}.")
        if self.wavelet not in pywt.wavelist(kind="discrete"):
            raise ValueError(f"wavelet is {self.wavelet!r}, expected a name in pywt.wavelist(kind='discrete').")
        recommended = pywt.dwtn_max_level(x.shape[-2:], self.wavelet)
        if self.levels is None:
            return max(1, min(DEFAULT_LEVELS, recommended))
        if not isinstance(self.levels, int) or self.levels < 1:
            raise ValueError(f"levels is {self.levels!r}, expected an integer of at least 1, or None.")
        if self.levels > recommended:
            warnings.warn(
                f"levels is {self.levels}; {self.wavelet} at {min(x.shape[-2:])} pixels has {recommended} levels "
                "that are free of the border's influence.",
                stacklevel=4,
            )
        return self.levels


def _synthesis(wavelet: str) -> Tensor:
    """The inverse transform of one level as a convolution, (4, 4, K, K): of the bands LL, HL, LH, HH to the four phases

    (even and odd rows, even and odd columns) of the image, where the filters have 2 K taps.
    """
    filters = pywt.Wavelet(wavelet)
    phases = torch.tensor([filters.rec_lo, filters.rec_hi], dtype=torch.float64).unflatten(1, (-1, 2)).flip(1)
    taps = phases.shape[1]
    return torch.einsum("vip,hjq->pqhvij", phases, phases).reshape(4, 4, taps, taps)


def _rebuilt(approximation: Tensor, details: Tensor, synthesis: Tensor) -> Tensor:
    """One level of the inverse transform: (..., H, W) and (..., 3, H, W) to (..., 2 (H - K + 1), 2 (W - K + 1)).

    No zeros are multiplied, as the transposed convolution of ptwt does; it takes a quarter of the time.
    """
    bands = torch.cat([approximation.unsqueeze(-3), details], -3)
    phases = conv2d(bands.flatten(0, -4), synthesis).unflatten(0, bands.shape[:-3])
    return pixel_shuffle(phases, 2).squeeze(-3)


@dataclass(frozen=True)
class Fourier:
    """Magnitude and phase of the discrete Fourier transform of real signals (B, L) or (B, C, L) (Example 3).

    `explain` gives the signal that is left of the masked coefficients.

    Args:
        masked: "frequency": an entry per frequency, for its magnitude and phase together; "part": one for the whole
            magnitude and one for the whole phase (Example 4); "both": one per frequency for each.
    """

    masked: str = "frequency"

    def __call__(self, x: Tensor) -> Coefficients:
        """Transform signals. Raises ValueError for an unknown choice, another rank, or silence."""
        if self.masked not in ("frequency", "part", "both"):
            raise ValueError(f"masked is {self.masked!r}, expected 'frequency', 'part' or 'both'.")
        if x.ndim not in (2, 3):
            raise ValueError(f"inputs has shape {tuple(x.shape)}, expected signals (B, L) or (B, C, L).")
        if (x.flatten(1) == 0).all(1).any():
            raise ValueError("inputs holds silence, expected signals with a spectrum.")
        spectrum = torch.fft.rfft(x)
        values = torch.stack([spectrum.abs(), spectrum.angle()], 1)
        n = values.shape[-1]
        shape = {"frequency": (1, n), "part": (2, 1), "both": (2, n)}[self.masked]
        shape = (shape[0], *[1] * (x.ndim - 2), shape[1])

        def signal(h: Tensor) -> Tensor:
            return torch.fft.irfft(torch.polar(*h.unbind(-values.ndim + 1)), x.shape[-1])

        return Coefficients(
            values,
            signal,
            spread=lambda mask, rows: mask.unflatten(-1, shape),
            exists=_all(x, shape),
            explain=lambda mask: signal(mask.unflatten(-1, shape) * values),
            groups=(n,),
            kinds=True,
        )


@dataclass(frozen=True)
class Clusters:
    """Groups of entries of x that are masked together, such as the pixels of a building.

    Args:
        labels: number of the group of each entry, shaped as the inputs, int64: 1 to k; 0 is never masked.
    """

    labels: Tensor

    def __call__(self, x: Tensor) -> Coefficients:
        """Raises ValueError where labels and inputs differ in shape, or an input has no group at all."""
        labels = self.labels
        if labels.shape != x.shape or labels.dtype != torch.int64 or labels.min() < 0:
            raise ValueError(
                f"labels has shape {tuple(labels.shape)} and dtype {labels.dtype}, "
                f"expected int64 of at least 0 of the inputs' shape {tuple(x.shape)}."
            )
        flat = labels.flatten(1)
        exists = torch.zeros(len(x), int(flat.max()) + 1, dtype=torch.bool, device=x.device).scatter_(1, flat, True)[
            :, 1:
        ]
        if not exists.any(1).all():
            raise ValueError("labels has an input without any group (an empty city?), expected at least one.")

        def spread(mask: Tensor, rows: Tensor) -> Tensor:
            padded = torch.cat([torch.ones_like(mask[..., :1]), mask], -1)
            return padded.gather(-1, flat[rows].expand(*mask.shape[:-1], -1)).unflatten(-1, x.shape[1:])

        return Coefficients(
            x,
            signal=lambda h: h,
            spread=spread,
            exists=exists,
            explain=lambda mask: spread(mask, torch.arange(len(x), device=x.device)) * (labels > 0),
            groups=(x.shape[-1],),
        )
