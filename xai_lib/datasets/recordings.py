"""Recordings in a folder per label, and fundus photographs with the masks of their lesions, from XAI_DATA.

speech/<word>/*.wav, audioset/clips/<label>/*.wav    sound of any rate
audioset/labels.json                                 all labels, in the order of a network's outputs
idrid/A. Segmentation/                               as IDRiD packs it: 1. Original Images, 2. All Segmentation ...
"""

import json
from math import gcd
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.io import wavfile
from scipy.signal import resample_poly
from torch import Tensor
from torch.nn.functional import interpolate, pad

from xai_lib.datasets.folders import find, read_image
from xai_lib.datasets.fundus import Fundus
from xai_lib.datasets.notes import LENGTH, RATE

_GROUNDTRUTHS = (("1. Microaneurysms", "MA"), ("2. Haemorrhages", "HE"), ("3. Hard Exudates", "EX"))
_DISC = ("5. Optic Disc", "OD")


class Recordings(NamedTuple):
    """Clips with one label each.

    Attributes:
        waves: (n, samples) in [-1, 1].
        labels: index of the label in `names`, (n,).
        names: all labels, in the order of a network's outputs.
        files: names of the files without their suffix, n of them.
    """

    waves: Tensor
    labels: Tensor
    names: tuple[str, ...]
    files: tuple[str, ...]


def load_recordings(
    layout: str = "speech", n: int | None = None, *, rate: int = RATE, length: int = LENGTH
) -> Recordings:
    """Load `n` recordings spread evenly over the folders of "speech" or "audioset/clips", or all of them.

    Raises:
        FileNotFoundError: the data are missing.
        ValueError: `n` is not positive or more than there are, a folder is no known label, or a file holds no sound.
    """
    folder = find(layout)
    files = sorted(folder.glob("*/*.wav"))
    names = tuple(sorted({file.parent.name for file in files}))
    if layout == "audioset/clips":
        names = tuple(json.loads(find("audioset/labels.json").read_text()))
    unknown = [file.parent.name for file in files if file.parent.name not in names]
    if unknown:
        raise ValueError(f"{folder} has a folder {unknown[0]!r}, expected labels of audioset/labels.json.")
    n = len(files) if n is None else n
    if not 1 <= n <= len(files):
        raise ValueError(f"n is {n}, expected 1 to {len(files)}, the recordings there are.")
    picked = [files[i] for i in np.linspace(0, len(files) - 1, n).round().astype(int)]
    waves = torch.stack([read_wave(file, rate, length) for file in picked])
    labels = torch.tensor([names.index(file.parent.name) for file in picked])
    return Recordings(waves, labels, names, tuple(file.stem for file in picked))


def read_wave(path: str | Path, rate: int = RATE, length: int | None = None) -> Tensor:
    """Read a wav file as (samples,) in [-1, 1] at `rate` Hz, channels averaged, cut or padded to `length` samples.

    Raises:
        ValueError: the file cannot be read as sound, or is empty.
    """
    try:
        own_rate, samples = wavfile.read(path)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as a wav file ({error}).") from error
    if not samples.size:
        raise ValueError(f"{path} is empty, expected sound.")
    if samples.dtype == np.uint8:
        samples = samples.astype(np.float64) / 128 - 1
    elif samples.dtype.kind == "i":
        samples = samples / -float(np.iinfo(samples.dtype).min)
    mono = samples.astype(np.float64).reshape(len(samples), -1).mean(1)
    common = gcd(own_rate, rate)
    wave = torch.from_numpy(resample_poly(mono, rate // common, own_rate // common)).float().clamp(-1, 1)
    return wave if length is None else pad(wave[:length], (0, max(0, length - len(wave))))


def load_idrid(n: int | None = None, *, size: int = 512, part: str = "b. Testing Set") -> Fundus:
    """Load `n` fundus photographs with lesion masks, padded to squares and resized to `size`, or all of a part.

    All of them are diseased, and no artefact is marked. A pixel belongs to a lesion where a quarter of it does.

    Raises:
        FileNotFoundError: the data are missing.
        ValueError: `n` is not positive or more than there are, or a file cannot be read.
    """
    images_folder = find("idrid/A. Segmentation/1. Original Images") / part
    masks_folder = find("idrid/A. Segmentation/2. All Segmentation Groundtruths") / part
    files = sorted(images_folder.glob("*.jpg"))
    n = len(files) if n is None else n
    if not 1 <= n <= len(files):
        raise ValueError(f"n is {n}, expected 1 to {len(files)}, the photographs of {part!r}.")
    picked = [files[i] for i in np.linspace(0, len(files) - 1, n).round().astype(int)]
    images = torch.stack([_square(read_image(file), size) for file in picked]).clamp(0, 1)

    def masks(kind: tuple[str, str]) -> Tensor:
        folder, suffix = kind
        paths = [masks_folder / folder / f"{file.stem}_{suffix}.tif" for file in picked]
        return torch.stack([_read_mask(path, size) for path in paths])

    lesions = torch.stack([masks(kind) for kind in _GROUNDTRUTHS], 1)
    labels = torch.ones(n, dtype=torch.int64)
    return Fundus(images, labels, lesions, torch.zeros(n, size, size, dtype=torch.bool), masks(_DISC))


def _read_mask(path: Path, size: int) -> Tensor:
    """(size, size) bool; empty where there is no file, as IDRiD has it for absent kinds."""
    if not path.exists():
        return torch.zeros(size, size, dtype=torch.bool)
    with Image.open(path) as file:
        marked = torch.from_numpy(np.array(file.convert("RGB"))).amax(2)[None] > 0
    return _square(marked.float(), size)[0] >= 0.25


def _square(image: Tensor, size: int) -> Tensor:
    """An image (C, H, W) in the middle of a dark square, as (C, size, size)."""
    height, width = image.shape[1:]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    square = pad(image, (left, side - width - left, top, side - height - top))
    return interpolate(square[None], (size, size), mode="area")[0]
