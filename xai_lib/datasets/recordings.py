"""Clips of sound, notes of instruments, and fundus photographs with the masks of their lesions, from XAI_DATA.

audioset/clips/<label>/*.wav      sound of any rate
audioset/labels.json              all labels, in the order of a network's outputs
nsynth/nsynth-<part>/             as NSynth packs it: examples.json and audio/<note>.wav
idrid/A. Segmentation/            as IDRiD packs it: 1. Original Images, 2. All Segmentation Groundtruths
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from xai_lib.datasets.folders import Labelled, find, read_image, read_sound, spread
from xai_lib.datasets.fundus import Fundus
from xai_lib.datasets.notes import INSTRUMENTS, LENGTH, RATE

_GROUNDTRUTHS = (("1. Microaneurysms", "MA"), ("2. Haemorrhages", "HE"), ("3. Hard Exudates", "EX"))
_DISC = ("5. Optic Disc", "OD")


def load_clips(n: int | None = None, *, rate: int = RATE, length: int = LENGTH) -> Labelled:
    """AudioSet-style clips, (n, 1, length) in [-1, 1] at `rate` Hz; `n` spreads evenly over the folders.

    Raises:
        FileNotFoundError: the data are missing.
        ValueError: `n` is not positive or more than there are, a folder is no known label, or a file holds no sound.
    """
    names = tuple(json.loads(find("audioset/labels.json").read_text(encoding="utf-8")))
    files = spread(sorted(find("audioset/clips").glob("*/*.wav")), n)
    folders = [file.parent.name for file in files]
    if unknown := set(folders) - set(names):
        raise ValueError(f"audioset/clips has a folder {min(unknown)!r}, expected labels of audioset/labels.json.")
    waves = torch.stack([read_sound(file, rate, length) for file in files])
    return Labelled(waves, torch.tensor([names.index(folder) for folder in folders]), names)


def load_nsynth(
    n: int | None = None, *, part: str = "test", seconds: float = 4.0, instruments: Sequence[str] = INSTRUMENTS
) -> Labelled:
    """Notes of NSynth, (n, 1, samples) in [-1, 1] at 16 kHz, of the ten instruments of paper 5.

    A note lasts 4 s; of these `seconds` in the middle are taken. `instruments` restricts them to some of the ten, and
    `n` spreads evenly over the notes by name. The eleventh family, synth_lead, has no test notes and is left out.

    Raises:
        FileNotFoundError: the data are missing.
        ValueError: `n` is not positive or more than there are, or a file holds no sound.
    """
    folder = find(f"nsynth/nsynth-{part}")
    notes = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
    family = {name: note["instrument_family_str"] for name, note in sorted(notes.items())}
    picked = spread([name for name in family if family[name] in instruments], n)
    waves = torch.stack([read_sound(folder / "audio" / f"{name}.wav", RATE, round(seconds * RATE)) for name in picked])
    return Labelled(waves, torch.tensor([INSTRUMENTS.index(family[name]) for name in picked]), INSTRUMENTS)


def load_idrid(n: int | None = None, *, size: int = 512, part: str = "b. Testing Set") -> Fundus:
    """Load `n` fundus photographs with lesion masks, padded to squares and resized to `size`, or all of a part.

    All of them are diseased, and no artefact is marked. A pixel belongs to a lesion where a quarter of it does.

    Raises:
        FileNotFoundError: the data are missing.
        ValueError: `n` is not positive or more than there are, or a file cannot be read.
    """
    images_folder = find("idrid/A. Segmentation/1. Original Images") / part
    masks_folder = find("idrid/A. Segmentation/2. All Segmentation Groundtruths") / part
    picked = spread(sorted(images_folder.glob("*.jpg")), n)
    images = torch.stack([_square(read_image(file), size) for file in picked]).clamp(0, 1)

    def masks(kind: tuple[str, str]) -> Tensor:
        folder, suffix = kind
        paths = [masks_folder / folder / f"{file.stem}_{suffix}.tif" for file in picked]
        return torch.stack([_read_mask(path, size) for path in paths])

    lesions = torch.stack([masks(kind) for kind in _GROUNDTRUTHS], 1)
    labels = torch.ones(len(picked), dtype=torch.int64)
    return Fundus(images, labels, lesions, torch.zeros_like(lesions[:, 0]), masks(_DISC))


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
