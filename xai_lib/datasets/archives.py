"""The data sets of paper 1 as their archives have them, under XAI_DATA.

    cifar-10-batches-py/                             as torchvision reads it
    speech_commands_v0.02/<word>/*.wav               with testing_list.txt and validation_list.txt
    aclImdb/{train,test}/{pos,neg}/*.txt             IMDB's reviews
    animals/{train,test}/<animal>/*.jpg              80 animals, photographs of any size

`make data PROFILE=paper` fetches the first three (`xai_lib.datasets.download`) and says where the last one goes.
"""

from typing import NamedTuple

import torch
import torchvision
from torch import Tensor

from xai_lib.datasets.folders import Labelled, by_folder, data_folder, find, read_image, read_sound, read_words, spread

CIFAR10, COMMANDS, IMDB, ANIMALS = "cifar-10-batches-py", "speech_commands_v0.02", "aclImdb", "animals"


def load_cifar10_batches(split: str, n: int | None = None) -> Labelled:
    """CIFAR-10's "train" or "test" images, (n, 3, 32, 32) in [0, 1]; `n` spreads evenly over them.

    Raises:
        FileNotFoundError: the folder is missing.
        RuntimeError: a file has not the checksum that torchvision knows.
    """
    find(CIFAR10)
    archive = torchvision.datasets.CIFAR10(data_folder(), train=split == "train")
    rows = torch.tensor(spread(range(len(archive.targets)), n))
    images = torch.from_numpy(archive.data)[rows].movedim(3, 1).float() / 255
    return Labelled(images, torch.tensor(archive.targets)[rows], tuple(archive.classes))


def load_commands(split: str, n: int | None = None, rate: int = 8000, length: int = 8000) -> Labelled:
    """Speech Commands' 35 words, (n, 1, length) in [-1, 1] at `rate` Hz; `n` spreads evenly over them.

    "test" is the data set's own list of tests; "train" is what is neither on it nor on the list for validation.

    Raises:
        FileNotFoundError: the folder is missing.
    """
    folder = find(COMMANDS)
    tests, others = (set((folder / f"{name}_list.txt").read_text().split()) for name in ("testing", "validation"))
    files = {f.relative_to(folder).as_posix(): f for f in sorted(folder.glob("[!_]*/*.wav"))}  # not _background_noise_
    chosen = tests if split == "test" else files.keys() - tests - others
    picked, labels, names = by_folder([files[name] for name in sorted(chosen)], n)
    return Labelled(torch.stack([read_sound(f, rate, length) for f in picked]), labels, names)


def load_imdb(split: str, n: int | None = None) -> Labelled:
    """IMDB's reviews in words and punctuation marks: "train" or "test", classes "neg" and "pos".

    Raises:
        FileNotFoundError: the folder is missing.
    """
    files, labels, names = by_folder(sorted(find(IMDB).glob(f"{split}/[np]*/*.txt")), n)  # not unsup
    return Labelled([read_words(f) for f in files], labels, names)


def load_animals(split: str, n: int | None = None, size: int = 224) -> Labelled:
    """Photographs of 80 animals, (n, 3, size, size) in [0, 1], "train" or "test"; `n` spreads evenly over them.

    Raises:
        FileNotFoundError: the folder is missing.
    """
    files, labels, names = by_folder(sorted(find(ANIMALS).glob(f"{split}/*/*.jpg")), n)
    return Labelled(torch.stack([read_image(f, size) for f in files]), labels, names)


class Pairs(NamedTuple):
    """n images of two animals of different classes.

    Attributes:
        images: (n, 3, size, size) in [0, 1].
        labels: indices of the left and the right animal in `names`, (n, 2).
        masks: the halves, (n, 2, size, size) bool.
        names: all classes.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor
    names: tuple[str, ...]


def pair_animals(n: int, size: int = 224) -> Pairs:
    """The middle halves of two test photographs side by side, as the data do not say which show two animals.

    Raises:
        FileNotFoundError: the folder is missing.
    """
    images, labels, names = load_animals("test", 2 * n, size)  # sorted by class, so those n apart differ in it
    middles = images[..., size // 4 : size // 4 + size // 2]
    left = (torch.arange(size) < size // 2).expand(n, size, size)
    return Pairs(torch.cat([middles[:n], middles[n:]], 3), labels.view(2, n).T, torch.stack([left, ~left], 1), names)
