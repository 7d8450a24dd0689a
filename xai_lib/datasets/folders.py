"""Real data in standard layouts, under XAI_DATA or else data/external/.

    imagenet/val/<wnid>/*.JPEG   photographs, a folder per class (torchvision's ImageFolder)
    imagenet/val/<wnid>/*.xml    their boxes as PASCAL VOC writes them, each beside its photograph
    imagenet/classes.json        the 1,000 pairs [wnid, name] in the standard order
    imagenet/wordnet.is_a.txt    a line "parent child" of wnids per relation of WordNet

`make data PROFILE=sample` fetches what is public (`xai_lib.datasets.download`) and says where the rest goes.
"""

import glob
import json
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar
from xml.etree import ElementTree

import numpy as np
import scipy.io.wavfile
import scipy.signal
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import functional as transforms

T = TypeVar("T")
EXTERNAL = Path(__file__).resolve().parents[2] / "data" / "external"
LAYOUTS = {
    "imagenet/val": "ImageNet validation photographs, one folder per class named by its wnid",
    "imagenet/classes.json": "the 1,000 pairs [wnid, name] of ImageNet's classes in the standard order, as JSON",
    "imagenet/wordnet.is_a.txt": "ImageNet's list of WordNet relations, a line 'parent child' each",
    "hub/checkpoints/squeezenet1_1-b8a52dc0.pth": "torchvision's weights of SqueezeNet 1.1",
    "cifar10": "CIFAR-10 as {train,test}/<class>/<number>.jpg",
    "cifar-10-batches-py": "CIFAR-10's Python version, as its archive has it",
    "food-101": "Food-101 as its archive has it: images/<class>/<number>.jpg and meta/{classes,test}.txt",
    "speech": "spoken digits as <word>/<speaker>_<take>.wav",
    "speech_commands_v0.02": "Speech Commands v2, as its archive has it",
    "audioset/clips": "clips of sound as <label>/<name>.wav",
    "audioset/labels.json": "all labels of a sound network in the order of its outputs, as a JSON list",
    "nsynth/nsynth-test": "NSynth's notes, as its archive of JSON and WAV files has them",
    "nsynth/nsynth-train": "NSynth's training notes, as their archive of JSON and WAV files has them",
    "radiomapseer": "RadioMapSeer's folders png and gain, as its archive has them",
    "idrid/A. Segmentation/1. Original Images": "IDRiD's fundus photographs, as its archive A. Segmentation has them",
    "idrid/A. Segmentation/2. All Segmentation Groundtruths": "IDRiD's lesion masks, as its archive has them",
    "reviews": "sentences of film reviews as {train,test}/{pos,neg}/<number>.txt",
    "aclImdb": "IMDB's film reviews, as their archive has them",
    "animals": "Kaggle's antoreepjana/animals-detection-images-dataset as {train,test}/<animal>/*.jpg",
    "photos": "demonstration photographs",
}


class Photographs(NamedTuple):
    """Photographs with their classes.

    Attributes:
        images: (n, 3, size, size) in [0, 1].
        labels: index of the class in `names`, (n,).
        names: all classes, in the order of the model's outputs.
        wnids: their WordNet identifiers.
        masks: the pixels inside the boxes of the class, (n, size, size) bool; None where boxes were not asked for.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    wnids: tuple[str, ...]
    masks: Tensor | None = None


def data_folder() -> Path:
    """Where real data lie: XAI_DATA, or else data/external/."""
    return Path(os.environ.get("XAI_DATA") or EXTERNAL)


def have(layout: str) -> bool:
    """Whether one of `LAYOUTS` is there."""
    return (data_folder() / layout).exists()


def find(layout: str) -> Path:
    """The path of one of `LAYOUTS`.

    Raises:
        FileNotFoundError: it is absent; the sentence says what to put where.
    """
    path = data_folder() / layout
    if not have(layout):
        raise FileNotFoundError(f"{path} is missing: put there {LAYOUTS[layout]} (the folder above is XAI_DATA).")
    return path


def load_imagenet(n: int, *, size: int = 224, names: tuple[str, ...] = (), boxes: bool = False) -> Photographs:
    """Load `n` photographs spread evenly over the class folders, or over those of the classes called `names`.

    A folder is mapped to its class by its wnid, so that folders may be absent. The shorter side is resized to
    `size * 256 / 224` pixels and the centre cropped to `size`. With `boxes` only photographs count that have, after
    the crop, pixels inside and outside the boxes of their class.

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
    present = (f for f in find("imagenet/val").glob("*/*") if f.suffix != ".xml" and not f.name.startswith("."))
    listed = sorted(f for f in present if f.parent.name in chosen)
    masks = {f: read_boxes(f.with_suffix(".xml"), f.parent.name, size) for f in listed} if boxes else {}
    files = [f for f in listed if masks[f].any() and not masks[f].all()] if boxes else listed
    if not 1 <= n <= len(files):
        of = f" of {', '.join(names)}" if names else ""
        raise ValueError(f"n is {n}, expected 1 to {len(files)}, the photographs{of} there are{' with boxes' * boxes}.")
    picked = [files[i] for i in np.linspace(0, len(files) - 1, n).round().astype(int)]
    images = torch.stack([read_image(f, size) for f in picked])
    labels = torch.tensor([wnids.index(f.parent.name) for f in picked])
    return Photographs(images, labels, classes, wnids, torch.stack([masks[f] for f in picked]) if boxes else None)


class Pairs(NamedTuple):
    """Pictures of two objects each.

    Attributes:
        images: (n, 3, H, W) in [0, 1].
        labels: the classes of both objects, (n, 2).
        masks: the pixels of each object, (n, 2, H, W) bool.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor


def side_by_side(photographs: Photographs) -> Pairs:
    """Photographs (n, 3, size, size) in pairs of different classes: n / 2 pictures, (n / 2, 3, size, 2 size).

    Photograph i stands at the left, i + n / 2 at the right, and the mask of either is its half: where to look for a
    class is known without anybody's annotation (the grid pointing game of Böhle et al., CVPR 2021, on a 1 x 2 grid).

    Raises:
        ValueError: there is no even number of photographs, or two of a pair have the same class.
    """
    n, size = len(photographs.images), photographs.images.shape[-1]
    if not n or n % 2:
        raise ValueError(f"photographs has {n} images, expected an even number.")
    images = torch.cat(photographs.images.chunk(2), -1)
    labels = torch.stack(photographs.labels.chunk(2), 1)
    if (same := labels[:, 0] == labels[:, 1]).any():
        name = photographs.names[int(labels[same][0, 0])]
        raise ValueError(f"photographs would pair two images of {name!r}, expected two classes in every pair.")
    left = (torch.arange(2 * size) < size).expand(n // 2, size, -1)
    return Pairs(images, labels, torch.stack([left, ~left], 1))


def read_boxes(path: str | Path, name: str, size: int) -> Tensor:
    """The pixels inside the boxes of the objects called `name`, of the image that `read_image` crops to `size`.

    Returns (size, size) bool, all False where the file of boxes is missing or has no such object. Coordinates are
    edges in pixels of the width and height that the file states.

    Raises:
        ValueError: the file is no PASCAL VOC annotation.
    """
    if not Path(path).exists():
        return torch.zeros(size, size, dtype=torch.bool)
    try:
        root = ElementTree.parse(path).getroot()
        mask = torch.zeros(1, int(root.findtext("size/height")), int(root.findtext("size/width")))
        for box in (found.find("bndbox") for found in root.iter("object") if found.findtext("name") == name):
            left, top, right, bottom = (int(float(box.findtext(edge))) for edge in ("xmin", "ymin", "xmax", "ymax"))
            mask[:, max(0, top) : bottom, max(0, left) : right] = 1
    except (ElementTree.ParseError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read as PASCAL VOC boxes ({error}).") from error
    return _crop(mask, size)[0] > 0.5


def load_label_tree(wnids: Sequence[str]) -> Tensor:
    """Steps up from two classes to their lowest common ancestor in WordNet, summed, for all pairs: (n, n) int64.

    Where several ways lead up, the shortest counts (WordNet is not quite a tree).

    Raises:
        FileNotFoundError: imagenet/wordnet.is_a.txt is missing.
        ValueError: two of the classes have no common ancestor there.
    """
    parents = defaultdict(list)
    for parent, child in (line.split() for line in find("imagenet/wordnet.is_a.txt").read_text().splitlines()):
        parents[child].append(parent)
    climbs = [_steps_up(wnid, parents) for wnid in wnids]
    ancestors = sorted(set().union(*climbs))
    steps = np.array([[climb.get(ancestor, np.inf) for ancestor in ancestors] for climb in climbs])
    distances = np.stack([(row + steps).min(1) for row in steps])
    if not np.isfinite(distances).all():
        a, b = np.argwhere(np.isinf(distances))[0]
        raise ValueError(f"wnids has {wnids[a]} and {wnids[b]}, expected classes with a common ancestor in WordNet.")
    return torch.from_numpy(distances).long()


def _steps_up(wnid: str, parents: dict[str, list[str]]) -> dict[str, int]:
    """All ancestors, the class itself among them, with the fewest steps that lead there."""
    reached, border, steps = {wnid: 0}, [wnid], 0
    while border:
        steps += 1
        border = [p for p in {p for node in border for p in parents[node]} if p not in reached]
        reached |= dict.fromkeys(border, steps)
    return reached


def load_images(pattern: str, n: int, size: int) -> Tensor:
    """Up to `n` image files that match a path or glob, spread evenly over them: (n, 3, size, size) in [0, 1].

    A relative pattern is looked for in the working directory, then in the repository, then under XAI_DATA.

    Raises:
        ValueError: `n` is not positive, nothing matches, or a file cannot be read.
    """
    if n < 1:
        raise ValueError(f"n is {n}, expected at least 1 image.")
    places = dict.fromkeys(str(place) for place in (Path.cwd(), EXTERNAL.parents[1], data_folder()))
    wanted = os.path.expanduser(pattern)
    files = next((paths for place in places if (paths := _matching(place, wanted))), None)
    if files is None:
        raise ValueError(f"image is {pattern!r}, expected a path or glob; nothing matches below {', '.join(places)}.")
    picked = [files[i] for i in np.linspace(0, len(files) - 1, min(n, len(files))).round().astype(int)]
    return torch.stack([read_image(file, size) for file in picked])


def _matching(place: str, pattern: str) -> list[str]:
    """The file that a path below `place` names, its brackets and stars included, or those that match it as a glob."""
    path = os.path.join(place, pattern)
    return (
        [path] if os.path.isfile(path) else sorted(glob.glob(os.path.join(glob.escape(place), pattern), recursive=True))
    )


def read_image(path: str | Path, size: int | None = None) -> Tensor:
    """Read an image file as (3, H, W) in [0, 1], resized and centre-cropped to (3, size, size) if asked.

    Grey images, also of 16 bits, get three equal channels, what is transparent becomes white, and the camera's note
    of its orientation is obeyed.

    Raises:
        ValueError: the file cannot be read as an image.
    """
    try:
        with Image.open(path) as file:
            image = _to_tensor(ImageOps.exif_transpose(file))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # a broken PNG is a syntax error
        raise ValueError(f"{path} cannot be read as an image ({error}).") from error
    return image if size is None else _crop(image, size)


def _to_tensor(image: Image.Image) -> Tensor:
    """Pixels as (3, H, W) in [0, 1]."""
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip to 8
        levels = torch.from_numpy(np.asarray(image, dtype=np.float32)[None] / 65535)
        if levels.min() < 0 or levels.max() > 1:
            raise ValueError(f"it has mode {image.mode}, expected at most 16 bits a pixel")
        return levels.expand(3, -1, -1)
    if image.mode == "F":
        raise ValueError("it has mode F, expected integer pixels")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), seen)
    return transforms.pil_to_tensor(image.convert("RGB")).float() / 255


def _crop(image: Tensor, size: int) -> Tensor:
    """The centre (C, size, size) of an image resized to a shorter side of size * 256 / 224 pixels."""
    shorter = round(size * 256 / 224)
    if min(image.shape[1:]) != shorter:
        image = transforms.resize(image, shorter, antialias=True).clamp(0, 1)
    return transforms.center_crop(image, [size, size])


class Labelled(NamedTuple):
    """Inputs of two splits have the same classes in the same order.

    Attributes:
        inputs: a tensor with one input per row, or a list of texts, each a list of words.
        labels: index of the class in `names`, (n,).
        names: all classes.
    """

    inputs: Tensor | list[list[str]]
    labels: Tensor
    names: tuple[str, ...]


def load_cifar10(split: str, n: int | None = None) -> Labelled:
    """CIFAR-10's "train" or "test" images, (n, 3, 32, 32) in [0, 1]; `n` spreads evenly over them.

    Raises:
        FileNotFoundError: the folder is missing.
    """
    files, labels, names = by_folder(sorted(find("cifar10").glob(f"{split}/*/*.jpg")), n)
    return Labelled(torch.stack([read_image(f) for f in files]), labels, names)


def load_food101(n: int | None = None, size: int = 224) -> Labelled:
    """Food-101's test photographs, (n, 3, size, size) in [0, 1]; `n` spreads evenly over them.

    Raises:
        FileNotFoundError: the folder is missing.
    """
    folder = find("food-101")
    classes = tuple((folder / "meta/classes.txt").read_text().split())
    files = spread([folder / f"images/{line}.jpg" for line in (folder / "meta/test.txt").read_text().split()], n)
    labels = torch.tensor([classes.index(f.parent.name) for f in files])
    return Labelled(torch.stack([read_image(f, size) for f in files]), labels, classes)


def load_speech(split: str, n: int | None = None, rate: int = 8000, length: int = 8000) -> Labelled:
    """Spoken digits, (n, 1, length) in [-1, 1] at `rate` Hz, cut or padded on both sides: "test" has takes 0 to 9.

    Raises:
        FileNotFoundError: the folder is missing.
    """
    files = sorted(find("speech").glob("*/*.wav"))
    files = [f for f in files if (int(f.stem.split("_")[-1]) < 10) == (split == "test")]
    picked, labels, names = by_folder(files, n)
    return Labelled(torch.stack([read_sound(f, rate, length) for f in picked]), labels, names)


def load_reviews(split: str, n: int | None = None) -> Labelled:
    """Film reviews in words and punctuation marks: "train" or "test", classes "neg" and "pos".

    Raises:
        FileNotFoundError: the folder is missing.
    """
    files, labels, names = by_folder(sorted(find("reviews").glob(f"{split}/*/*.txt")), n)
    return Labelled([read_words(f) for f in files], labels, names)


def read_words(path: str | Path) -> list[str]:
    """The words and punctuation marks of a text file, in lower case; line breaks of HTML do not count."""
    text = Path(path).read_text(encoding="utf-8").lower().replace("<br />", " ")
    return re.findall(r"\w+(?:'\w+)?|[.,!?;]", text)


def read_sound(path: str | Path, rate: int = 8000, length: int = 8000) -> Tensor:
    """Read a WAV file as (1, length) in [-1, 1] at `rate` samples a second, cut or padded on both sides.

    Channels are averaged.

    Raises:
        ValueError: the file cannot be read as sound, or is empty.
    """
    try:
        given, wave = scipy.io.wavfile.read(path)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as a WAV file ({error}).") from error
    if not wave.size:
        raise ValueError(f"{path} is empty, expected sound.")
    if wave.dtype == np.uint8:  # the only unsigned format
        wave = wave / 128 - 1
    elif np.issubdtype(wave.dtype, np.integer):
        wave = wave / -float(np.iinfo(wave.dtype).min)
    wave = wave.reshape(len(wave), -1).mean(1)
    wave = scipy.signal.resample_poly(wave, rate, given) if given != rate else wave
    spare = length - len(wave)
    wave = np.pad(wave, (max(spare, 0) // 2, max(spare, 0) - max(spare, 0) // 2))
    start = (len(wave) - length) // 2
    return torch.from_numpy(wave[start : start + length].astype(np.float32))[None]


def spread(files: Sequence[T], n: int | None) -> Sequence[T]:
    """All files, or `n` of them at equal distances.

    Raises:
        ValueError: `n` is not positive or more than there are.
    """
    if n is None:
        return files
    if not 1 <= n <= len(files):
        raise ValueError(f"n is {n}, expected 1 to {len(files)}, the files there are.")
    return [files[i] for i in np.linspace(0, len(files) - 1, n).round().astype(int)]


def by_folder(files: Sequence[Path], n: int | None) -> tuple[Sequence[Path], Tensor, tuple[str, ...]]:
    """`spread(files, n)`, the index of each one's folder, and the names of all folders, sorted."""
    names = sorted({file.parent.name for file in files})
    picked = spread(files, n)
    return picked, torch.tensor([names.index(file.parent.name) for file in picked]), tuple(names)
