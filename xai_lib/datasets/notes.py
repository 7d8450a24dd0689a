"""Notes: clips of 0.975 s at 16 kHz of ten families of instruments with known physics, singly or two at a time.

A note is a sum of partials `a_k e_k(t) cos(2 pi f_k t + phi_k)`. What a family fixes stands in FAMILIES: where its
partials lie (harmonic, stretched by a string's stiffness, or those of a free bar), how strong they are, how they
begin and end, and the law of their phases at the onset, which is the first sample. Two families are twins of another
but for one thing:

    flute, organ    differ in the magnitudes of the partials in PIPES, and in nothing else
    reed, brass     differ in phase: in brass neighbouring partials start in opposite phase and the upper ones enter
                    later, with the same envelope; each line keeps its magnitude in the spectrum of the whole clip

Every clip has labels on three levels: music, its kind (strings, winds, struck), its instrument; noise, a pure sine
and silence have one label each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

RATE = 16_000  # samples per second
LENGTH = 15_600  # samples: 96 frames of 25 ms, one every 10 ms
INSTRUMENTS = ("organ", "guitar", "flute", "bass", "reed", "vocal", "mallet", "brass", "keyboard", "string")
KINDS = ("strings", "winds", "struck")
OTHERS = ("noise", "sine", "silence")
PIPES = (3, 4, 6, 8, 12, 16)  # partials at which an organ has pipes of its own: a twelfth above, two octaves and so on
LABELS = ("music", *KINDS, *INSTRUMENTS, *OTHERS)

MEL_BINS, FRAMES = 64, 96
MEL_RANGE = (125.0, 7_500.0)  # Hz
FREQUENCIES = np.geomspace(20, 8_000, 1024)  # Hz, of `spectrum`

_PARTIALS = 48  # at most, per voice
_TIME = np.arange(LENGTH) / RATE
_END, _RELEASE = 0.80, 0.10  # s: when sustained notes have died away, and how long that takes
Amplitudes = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


class Clips(NamedTuple):
    """n clips; `voices` instruments sound at once, and `partials` is voices * 48."""

    waves: Tensor  # (n, 15600) float32 in [-1, 1]
    labels: Tensor  # (n, 17) float32, 1 for those of LABELS that hold
    instruments: Tensor  # (n, voices) int64, indices into INSTRUMENTS
    frequencies: Tensor  # (n, partials) float32, Hz; 0 where there is no partial
    amplitudes: Tensor  # (n, partials) float32, of the partials in the wave


@dataclass(frozen=True)
class Family:
    """What the notes of one instrument have in common.

    Attributes:
        kind: one of KINDS.
        pitch: lowest and highest fundamental in Hz.
        amplitudes: maps the partials' numbers k from 1, their frequencies in Hz, and a generator to amplitudes.
        attack: time of the rise in s.
        decay: time in s in which a partial of 1 kHz falls to 1/e, lower ones more slowly; None: sustained.
        stiffness: B in `f_k = k f_1 sqrt(1 + B k^2)`; None: the partials of a free bar, `f_k = f_1 (2k + 1)^2 / 9`.
        vibrato: largest deviation of the pitch, as a share of it.
        phase: law of the phases at the onset, "random", "aligned" or "alternating".
        stagger: time in s by which the highest partial enters later than the first.
    """

    kind: str
    pitch: tuple[float, float]
    amplitudes: Amplitudes
    attack: float
    decay: float | None = None
    stiffness: float | None = 0.0
    vibrato: float = 0.0
    phase: str = "random"
    stagger: float = 0.0


def _resonances(f: np.ndarray, *peaks: tuple[float, float, float]) -> np.ndarray:
    """Gain of resonances (frequency in Hz, width as a share of it, height) on top of 1."""
    return 1 + sum(height / (1 + ((f / centre - 1) / width) ** 2) for centre, width, height in peaks)


def _flute(k, f, rng):
    return 0.35 ** (k - 1.0)


def _organ(k, f, rng):
    return np.where(np.isin(k, PIPES), 0.3, _flute(k, f, rng))


def _reed(k, f, rng):
    return k**-0.8 * _resonances(f, (1_300, 0.3, 3.0))


def _vocal(k, f, rng):
    first, second = rng.uniform((300, 900), (800, 2_300))  # the formants are the vowel
    return k**-1.2 * _resonances(f, (first, 0.12, 8.0), (second, 0.1, 8.0), (2_900, 0.1, 6.0))


def _bowed(k, f, rng):
    return k**-1.0 * _resonances(f, (480, 0.25, 1.5), (2_400, 0.4, 2.5))


def _guitar(k, f, rng):
    return abs(np.sin(np.pi * k * rng.uniform(0.12, 0.25))) * k**-0.9  # no partial has a node where it is plucked


def _bass(k, f, rng):
    return abs(np.sin(np.pi * k * rng.uniform(0.25, 0.4))) * k**-1.3


def _keyboard(k, f, rng):
    return abs(np.sin(np.pi * k / 8)) * np.exp(-f / 1_800) * k**-0.4  # struck by felt, at an eighth of the string


def _mallet(k, f, rng):
    return 0.5 ** (k - 1.0)


FAMILIES = {
    "organ": Family("winds", (98, 784), _organ, attack=0.03),
    "guitar": Family("strings", (82, 659), _guitar, attack=0.002, decay=0.30, stiffness=5e-5, phase="aligned"),
    "flute": Family("winds", (98, 784), _flute, attack=0.03),
    "bass": Family("strings", (41, 247), _bass, attack=0.004, decay=0.40, stiffness=1e-4, phase="aligned"),
    "reed": Family("winds", (98, 659), _reed, attack=0.03, phase="aligned"),
    "vocal": Family("winds", (110, 659), _vocal, attack=0.06, vibrato=0.012),
    "mallet": Family("struck", (175, 1_047), _mallet, attack=0.001, decay=0.20, stiffness=None, phase="aligned"),
    "brass": Family("winds", (98, 659), _reed, attack=0.03, phase="alternating", stagger=0.12),
    "keyboard": Family("struck", (55, 988), _keyboard, attack=0.002, decay=0.35, stiffness=4e-4, phase="aligned"),
    "string": Family("strings", (98, 784), _bowed, attack=0.09, vibrato=0.006),
}


def make_notes(n: int, seed: int, voices: int = 1, instruments: Sequence[str] = INSTRUMENTS) -> Clips:
    """Draw n clips of 1 or 2 instruments at once, or with `voices=0` of noise, a sine and silence.

    Clip i depends on (seed, voices, i) and on `instruments` alone; as many clips in a row as there are instruments
    hold each of them equally often. The draws do not depend on the family: with the same seed `("flute",)` and
    `("organ",)` give twins of the same pitch, loudness and phases.

    Raises:
        ValueError: n is below 1, `voices` is not 0, 1 or 2, or an instrument is unknown or missing.
    """
    instruments = tuple(instruments)
    unknown = [name for name in instruments if name not in FAMILIES]
    if unknown:
        raise ValueError(f"instruments contains {unknown[0]!r}, expected names out of {', '.join(INSTRUMENTS)}.")
    if n < 1 or voices not in (0, 1, 2):
        raise ValueError(f"n is {n} and voices {voices}, expected n of at least 1 and voices 0, 1 or 2.")
    if len(set(instruments)) < max(voices, 1):
        raise ValueError(f"instruments is {instruments}, expected at least {max(voices, 1)} different ones.")
    drawn = [_clip(seed, i, voices, instruments) for i in range(n)]
    return Clips(*(torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True)))


def _clip(seed: int, i: int, voices: int, instruments: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    """Wave, labels, instruments, frequencies and amplitudes of clip i."""
    rng = np.random.default_rng([seed, voices, 0, i])
    block = np.random.default_rng([seed, voices, 1, i // len(instruments)])
    order, apart = block.permutation(len(instruments)), block.integers(1, max(2, len(instruments)))
    names = [instruments[order[(i + v * apart) % len(instruments)]] for v in range(voices)]
    wave, labels = _coloured_noise(10 ** rng.uniform(-4.5, -3.2), rng), np.zeros(len(LABELS), np.float32)  # the room
    frequencies, amplitudes = np.zeros((2, voices, _PARTIALS))
    for v, name in enumerate(names):
        one = np.random.default_rng([seed, voices, 2, i, v])
        sound, frequencies[v], amplitudes[v] = _note(FAMILIES[name], one)
        wave = wave + sound
        labels[[LABELS.index(label) for label in ("music", FAMILIES[name].kind, name)]] = 1
    if not voices:
        other = OTHERS[i % len(OTHERS)]
        wave = wave + _other(other, rng)
        labels[LABELS.index(other)] = 1
    index = np.array([INSTRUMENTS.index(name) for name in names], np.int64)
    flat = (part.ravel().astype(np.float32) for part in (frequencies, amplitudes))
    return np.clip(wave, -1, 1).astype(np.float32), labels, index, *flat


def _note(family: Family, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Wave, and frequencies and amplitudes of its partials, (48,), 0 where they would lie above 7.8 kHz."""
    shape = rng.spawn(1)[0]  # for draws that only some families make
    k = np.arange(1, _PARTIALS + 1)
    low, high = family.pitch
    pitch, brightness, rate = low * (high / low) ** rng.random(), rng.uniform(-0.25, 0.25), rng.uniform(5, 6.5)
    level, jitter = 10 ** rng.uniform(-2, -1), np.exp(rng.normal(0, 0.2, _PARTIALS))
    random, error, swing = rng.uniform(0, 2 * np.pi, (3, _PARTIALS))

    ratio = (2 * k + 1) ** 2 / 9 if family.stiffness is None else k * np.sqrt(1 + family.stiffness * k**2)
    f = pitch * ratio
    audible = f < 7_800
    a = np.where(audible, family.amplitudes(k, f, shape) * k**brightness * jitter, 0)
    a *= level * 2**0.5 / np.linalg.norm(a)
    law = {"random": random, "aligned": 0.0, "alternating": np.pi * (k % 2)}[family.phase]
    phase = law + 0.2 * np.cos(error)  # no player is exact

    loud = a > 1e-3 * a.max()  # the rest is not worth its time
    late = family.stagger * (1 - 1 / k[loud, None]) if family.stagger else 0.0
    bend = family.vibrato * np.sin(2 * np.pi * rate * _TIME + swing[0]) / (2 * np.pi * rate)
    cycles = f[loud, None] * (_TIME + bend) + phase[loud, None] / (2 * np.pi)
    waves = np.cos(2 * np.pi * (cycles - np.rint(cycles)).astype(np.float32))
    sound = a[loud].astype(np.float32) @ (_envelope(family, f[loud, None], _TIME - late) * waves)
    a[~loud] = 0
    return sound, np.where(a > 0, f, 0), a


def _envelope(family: Family, f: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Loudness of partials of frequency f in Hz, (K, 1), at times t in s after they enter, (K or 1, samples)."""
    rise = _smooth_step(t / family.attack)
    if family.decay is None:
        return rise * _smooth_step((_END - t) / _RELEASE)
    ring = np.exp(-(np.maximum(t, 0) / (family.decay * (1_000 / f) ** 0.5)).astype(np.float32))
    return rise * ring * _smooth_step((_TIME[-1] - t) / 0.05)


def _smooth_step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1).astype(np.float32)
    return x * x * (3 - 2 * x)


def _other(name: str, rng: np.random.Generator) -> np.ndarray | float:
    """What sounds in a clip of noise, of a sine or of silence, in which there is only the room."""
    if name == "silence":
        return 0.0
    level = 10 ** rng.uniform(-2, -1)
    if name == "noise":
        return _coloured_noise(level, rng)
    cycles = 120 * 30 ** rng.random() * _TIME + rng.random()
    return level * 2**0.5 * np.cos(2 * np.pi * cycles)


def _coloured_noise(level: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of that root mean square whose power falls with the frequency to a power between 0 and 1."""
    white = np.fft.rfft(rng.standard_normal(LENGTH))
    colour = np.maximum(np.arange(len(white)), 20) ** -rng.uniform(0, 0.5)
    noise = np.fft.irfft(white * colour, LENGTH)
    return level * noise / noise.std()


def log_mel(waves: Tensor, rate: int = RATE, mel_bins: int = MEL_BINS) -> Tensor:
    """Log-mel patches (n, 1, frames, mel bins) of waves (n, samples): `log(mel + 0.01)`, time downwards.

    Magnitudes of Hann windows of 25 ms, one every 10 ms, summed under triangles that are equally spaced in mel
    between 125 and 7,500 Hz. Clips of 0.975 s give the paper's patches of 96 x 64.

    Raises:
        ValueError: `waves` is not a batch of finite, non-empty clips that hold a window, the rate is not 16 kHz, or
            there are so many mel bins that one would lie between the lines of the transform.

    Reference: Hershey et al.: CNN architectures for large-scale audio classification, ICASSP 2017.
    """
    if rate != RATE:
        raise ValueError(f"rate is {rate} Hz, expected {RATE}; scipy.signal.resample_poly converts.")
    if waves.ndim != 2 or waves.numel() == 0 or waves.shape[1] < 400 or not waves.isfinite().all():
        raise ValueError(f"waves has shape {tuple(waves.shape)}, expected finite clips (n, at least 400 samples).")
    window = torch.hann_window(400, dtype=waves.dtype, device=waves.device)
    frames = torch.fft.rfft(waves.unfold(1, 400, 160) * window, 1024).abs()
    mel = frames @ torch.from_numpy(mel_filters(mel_bins)).to(frames)
    return (mel + 0.01).log()[:, None]


@lru_cache
def mel_filters(mel_bins: int = MEL_BINS) -> np.ndarray:
    """Triangular weights (513 lines of the transform, mel bins)."""
    edges = np.linspace(*(_mel(f) for f in MEL_RANGE), mel_bins + 2)
    lines = _mel(np.fft.rfftfreq(1024, 1 / RATE))[:, None]
    rising = (lines - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - lines) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling))
    if not weights.any(0).all():
        raise ValueError(f"mel_bins is {mel_bins}, expected fewer: one of them holds no line of the transform.")
    return weights


def mel_centres(mel_bins: int = MEL_BINS) -> np.ndarray:
    """Frequencies in Hz at which the triangles peak, (mel bins,)."""
    mels = np.linspace(*(_mel(f) for f in MEL_RANGE), mel_bins + 2)[1:-1]
    return 700 * (np.exp(mels / 1_127) - 1)


def _mel(f: float | np.ndarray) -> float | np.ndarray:
    return 1_127 * np.log(1 + np.asarray(f) / 700)


def spectrum(waves: Tensor) -> Tensor:
    """Magnitude and phase of waves (n, samples) at FREQUENCIES, (n, 2, 1024): the representation of paper 5.

    Each of the 1024 bands stands for the strongest of its Fourier coefficients, on a grid of 0.06 Hz (the clip padded
    with zeros): where a partial lies, that is its peak, and the phase there is the partial's at the onset. Magnitudes
    are divided by their root mean square; phases are in (-pi, pi].

    Raises:
        ValueError: `waves` is not a batch of finite clips, or a clip is silent.
    """
    if waves.ndim != 2 or waves.numel() == 0 or not waves.isfinite().all():
        raise ValueError(f"waves has shape {tuple(waves.shape)}, expected finite clips (n, samples).")
    if (waves == 0).all(1).any():
        raise ValueError("waves holds a silent clip, expected sound: its power cannot be normalised.")
    peaks = torch.cat([_band_peaks(part) for part in waves.split(32)])
    magnitude = peaks.abs()
    return torch.stack([magnitude / magnitude.square().mean(1, keepdim=True).sqrt(), peaks.angle()], 1)


def partial_bins(frequencies: Tensor) -> Tensor:
    """Which of the bins of `spectrum` hold one of the partials at `frequencies` (n, partials) in Hz: (n, 1024) bool.

    A partial fills the bins that reach within 2.5 Hz of it, twice the width of a line of 0.8 s; 0 Hz stands for none.
    """
    bins = torch.from_numpy(FREQUENCIES).to(frequencies)
    reach = bins * (FREQUENCIES[1] / FREQUENCIES[0] - 1) / 2 + 2.5
    return ((frequencies[:, :, None] - bins).abs() <= reach).any(1)


def _band_peaks(waves: Tensor) -> Tensor:
    """The strongest coefficient of every band, (n, 1024) complex."""
    padded = 2**18
    coefficients = torch.fft.rfft(waves, padded)
    ratio = (FREQUENCIES[1] / FREQUENCIES[0]) ** 0.5
    edges = np.ceil(np.append(FREQUENCIES / ratio, FREQUENCIES[-1] * ratio) * padded / RATE).astype(int)
    bands = [coefficients[:, low : max(high, low + 1)] for low, high in pairwise(edges)]
    return torch.cat([band.gather(1, band.abs().argmax(1, keepdim=True)) for band in bands], 1)
