"""Real data in standard layouts, under XAI_DATA or else data/external/.

    imagenet/val/<wnid>/*.JPEG   photographs, a folder per class (torchvision's ImageFolder)
    imagenet/classes.json        the 1,000 pairs [wnid, name] in the standard order

`python -m xai_lib.datasets.folders --profile sample` says what of it is missing and where to put it.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as transforms

EXTERNAL = Path(__file__).resolve().parents[2] / "data" / "external"
LAYOUTS = {
    "imagenet/val": "ImageNet validation photographs, one folder per class named by its wnid",
    "hub/checkpoints/squeezenet1_1-b8a52dc0.pth": "torchvision's weights of SqueezeNet 1.1",
    "imagenet/classes.json": "the 1,000 pairs [wnid, name] of ImageNet's classes in the standard order, as JSON",
}
IMAGENET = ("imagenet/val", "imagenet/classes.json")
NEEDED = {
    "smoke": (),
    "embedded": (),
    "sample": (*IMAGENET, "hub/checkpoints/squeezenet1_1-b8a52dc0.pth"),
    "paper": IMAGENET,
}


class Photographs(NamedTuple):
    """Photographs with their classes.

    Attributes:
        images: (n, 3, size, size) in [0, 1].
        labels: index of the class in `names`, (n,).
        names: all classes, in the order of the model's outputs.
        wnids: their WordNet identifiers.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    wnids: tuple[str, ...]


def find(layout: str) -> Path:
    """The path of one of `LAYOUTS`.

    Raises:
        FileNotFoundError: it is absent; the sentence says what to put where.
    """
    path = Path(os.environ.get("XAI_DATA") or EXTERNAL) / layout
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: put there {LAYOUTS[layout]} (the folder above is XAI_DATA).")
    return path


def load_imagenet(n: int, *, size: int = 224, names: tuple[str, ...] = ()) -> Photographs:
    """Load `n` photographs spread evenly over the class folders, or all those of the classes called `names`.

    A folder is mapped to its class by its wnid, so that folders may be absent. The shorter side is resized to
    `size * 256 / 224` pixels and the centre cropped to `size`.

    Raises:
        FileNotFoundError: a data folder is missing.
        ValueError: `n` is not positive or more than there are, a class is unknown, or a file cannot be read.
    """
    pairs = json.loads(find("imagenet/classes.json").read_text())
    wnids, classes = (tuple(column) for column in zip(*pairs, strict=True))
    chosen = set(wnids)
    if names:
        unknown = [name for name in names if name not in classes]
        if unknown:
            raise ValueError(f"names contains {unknown[0]!r}, expected names of imagenet/classes.json.")
        chosen = {wnids[classes.index(name)] for name in names}
    files = sorted(f for f in find("imagenet/val").glob("*/*") if f.parent.name in chosen)
    if not 1 <= n <= len(files):
        raise ValueError(f"n is {n}, expected 1 to {len(files)}, the photographs there are.")
    picked = [files[i] for i in np.linspace(0, len(files) - 1, n).round().astype(int)]
    images = torch.stack([read_image(f, size) for f in picked])
    labels = torch.tensor([wnids.index(f.parent.name) for f in picked])
    return Photographs(images, labels, classes, wnids)


def read_image(path: str | Path, size: int | None = None) -> Tensor:
    """Read an image file as (3, H, W) in [0, 1], resized and centre-cropped to (3, size, size) if asked.

    Raises:
        ValueError: the file cannot be read as an image.
    """
    try:
        with Image.open(path) as file:
            image = transforms.pil_to_tensor(file.convert("RGB")).float() / 255
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow calls a broken PNG a syntax error
        raise ValueError(f"{path} cannot be read as an image ({error}).") from error
    if size is None:
        return image
    shorter = round(size * 256 / 224)
    if min(image.shape[1:]) != shorter:
        image = transforms.resize(image, shorter, antialias=True).clamp(0, 1)
    return transforms.center_crop(image, [size, size])


def main() -> int:
    parser = argparse.ArgumentParser(description="Say which real data a profile needs and whether they are there.")
    parser.add_argument("--profile", default="embedded", help="smoke, embedded, sample, paper, or a YAML file's path")
    profile = parser.parse_args().profile
    if profile not in NEEDED:
        parser.error(f"profile is {profile!r}, expected one of {', '.join(NEEDED)}.")
    missing = []
    for layout in NEEDED[profile]:
        try:
            print(f"found {find(layout)}")
        except FileNotFoundError as error:
            missing.append(str(error))
    if not NEEDED[profile]:
        print(f"The profile {profile} needs no data beyond this repository.")
    print(*missing, sep="\n", file=sys.stderr, end="\n" if missing else "")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
