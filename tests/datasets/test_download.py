"""Fetching, against a server on this machine: what comes, what breaks off, what is not what it should be."""

import hashlib
import io
import json
import tarfile
import threading
import wave
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from xai_lib.datasets import download
from xai_lib.datasets.download import Failed, Source, Unreachable, digest, fetch
from xai_lib.datasets.folders import LAYOUTS, load_imagenet

CONTENT = bytes(range(256)) * 4000


class Server(ThreadingHTTPServer):
    """Serves `files`; the first transfer breaks off after `cut` bytes, and `ranges` can be asked for or not."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.ranges, self.asked = {}, None, True, []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        content = server.files.get(self.path[1:])
        if content is None:
            return self.send_error(404)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if wanted and server.ranges else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut, server.cut = server.cut, None
        self.wfile.write(content[start:][:cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def plain(server):
    """A file that becomes deep/file as it is."""
    server.files["file"] = CONTENT
    return Source("deep/file", server.url("file"), download.as_it_is, sha256=hashlib.sha256(CONTENT).hexdigest())


def zipped(files, compression=zipfile.ZIP_STORED):
    """A zip file with one folder around everything, as GitHub packs a repository."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(f"repository-commit/{name}", content)
    return packed.getvalue()


def jpeg(level=0):
    content = io.BytesIO()
    Image.new("RGB", (60, 50), (level,) * 3).save(content, "jpeg")
    return content.getvalue()


def below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_once(tmp_path, server, plain):
    fetch(plain, tmp_path)
    fetch(plain, tmp_path)
    assert below(tmp_path) == ["deep/file"] and (tmp_path / "deep" / "file").read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_goes_on_where_it_stopped(tmp_path, server, plain, ranges):
    """Or starts over, where the server cannot send a part."""
    held = 4 * 2**16  # what is read at once is kept or lost at once
    server.cut, server.ranges = held + 1000, ranges
    with pytest.raises(Failed, match=f"broke off after {held} bytes; run the command again"):
        fetch(plain, tmp_path)
    assert below(tmp_path) == [".incoming/deep-file.part"]
    fetch(plain, tmp_path)
    assert below(tmp_path) == ["deep/file"] and (tmp_path / "deep" / "file").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={held}-"]


@pytest.mark.parametrize("more", [b"", b"more"])
def test_a_part_that_leaves_nothing_to_ask_for_is_dropped(tmp_path, plain, more):
    part = tmp_path / ".incoming" / "deep-file.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT + more)
    fetch(plain, tmp_path)
    assert (tmp_path / "deep" / "file").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(tmp_path, server, plain):
    server.files["file"] = CONTENT[:-1]
    with pytest.raises(Failed, match="does not have the sha256"):
        fetch(plain, tmp_path)
    assert below(tmp_path) == []
    server.files["file"] = CONTENT
    fetch(plain, tmp_path)
    assert below(tmp_path) == ["deep/file"]


def test_a_damaged_archive_leaves_nothing(tmp_path, server):
    packed = bytearray(zipped({"train/cat/0001.jpg": CONTENT}))
    packed[5000] ^= 1
    server.files["a.zip"] = bytes(packed)
    with pytest.raises(Failed, match=r"cannot be unpacked \(Bad CRC-32"):
        fetch(Source("cifar10", server.url("a.zip"), download.cifar10), tmp_path)
    assert not (tmp_path / "cifar10").exists() and not (tmp_path / ".incoming" / "cifar10").exists()


def damaged_zip():
    """Deflated bytes that are no deflate stream any more."""
    packed = bytearray(zipped({"train/cat/0001.jpg": CONTENT}, zipfile.ZIP_DEFLATED))
    start = 30 + len("repository-commit/train/cat/0001.jpg")
    packed[start : start + 50] = b"\xff" * 50
    return bytes(packed)


def damaged_png():
    """A chunk in the middle has no name."""
    content = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(content, "png")
    chunk = content.getvalue().index(b"IDAT")
    return content.getvalue().replace(content.getvalue()[chunk : chunk + 4], b"\x00\x00\x00\x00")


@pytest.mark.parametrize("content, unpack", [(damaged_zip, "cifar10"), (damaged_png, "image")])
def test_bytes_that_no_reader_understands_leave_nothing(tmp_path, server, content, unpack):
    """Whatever the reader raises; the next try asks the server again."""
    server.files["file"] = content()
    source = Source("wanted", server.url("file"), getattr(download, unpack))
    for _ in range(2):
        with pytest.raises(Failed, match="cannot be unpacked"):
            fetch(source, tmp_path)
        assert not (tmp_path / "wanted").exists() and not (tmp_path / ".incoming" / "wanted").exists()
    assert len(server.asked) == 2


@pytest.mark.parametrize("files", [{"README": b""}, {"train/cat/0001.jpg": b"other"}])
def test_other_content_than_expected_leaves_nothing(tmp_path, server, files):
    server.files["a.zip"] = zipped(files)
    with pytest.raises(Failed, match="does not hold what is expected"):
        fetch(Source("cifar10", server.url("a.zip"), download.cifar10, digest="0" * 64), tmp_path)
    assert not (tmp_path / "cifar10").exists()


def test_what_an_interrupted_run_left_aside_is_replaced(tmp_path, server):
    server.files["a.zip"] = zipped({"train/cat/0001.jpg": jpeg()})
    (tmp_path / ".incoming" / "cifar10.aside").mkdir(parents=True)
    (tmp_path / ".incoming" / "cifar10.aside" / "old").write_text("")
    fetch(Source("cifar10", server.url("a.zip"), download.cifar10), tmp_path)
    assert below(tmp_path) == ["cifar10/train/cat/0001.jpg"]


def test_an_answer_that_is_no_file(tmp_path, server):
    with pytest.raises(Failed, match="was answered with 404"):
        fetch(Source("x", server.url("absent"), download.as_it_is), tmp_path)
    server.files["page"] = b"<html>"
    with pytest.raises(Failed, match="cannot be unpacked"):
        fetch(Source("photos/x.jpg", server.url("page"), download.image), tmp_path)
    assert below(tmp_path) == []


def test_layouts(tmp_path, server):
    """Every kind of archive becomes the layout that the loaders read."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\1\0" * 100)
    sentences = "".join(f" sentence {i} \n" for i in range(6)).encode()
    for layout, unpack, files, expected in (
        (
            "imagenet/val",
            download.photographs,
            {"n01_x.JPEG": b"", "n00000001_a b.JPEG": jpeg()},
            "n00000001/n00000001_a b.JPEG",
        ),
        ("cifar10", download.cifar10, {"test/dog/0007.jpg": jpeg(), "get.sh": b""}, "test/dog/0007.jpg"),
        ("speech", download.speech, {"recordings/7_theo_12.wav": sound.getvalue()}, "seven/theo_12.wav"),
        ("reviews", download.reviews, {"rt-polarity.pos": sentences}, "test/pos/0.txt"),
    ):
        server.files["a.zip"] = zipped(files)
        fetch(Source(layout, server.url("a.zip"), unpack), tmp_path)
        assert below(tmp_path / layout)[0] == expected
    assert (tmp_path / "speech" / "seven" / "theo_12.wav").read_bytes() == sound.getvalue()
    assert below(tmp_path / "reviews") == [
        "test/pos/0.txt",
        "test/pos/5.txt",
        *(f"train/pos/{i}.txt" for i in range(1, 5)),
    ]
    assert (tmp_path / "reviews" / "train" / "pos" / "3.txt").read_text() == "sentence 3\n"


@pytest.mark.parametrize("around", ["", "aclImdb/"])
def test_a_tar_archive_with_and_without_a_folder_around_everything(tmp_path, server, around):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("test/pos/0_9.txt", "README"):
            member = tarfile.TarInfo(around + name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"fine"))
    server.files["a.tar.gz"] = packed.getvalue()
    fetch(Source("aclImdb", server.url("a.tar.gz"), download.untarred), tmp_path)
    assert below(tmp_path) == ["aclImdb/README", "aclImdb/test/pos/0_9.txt"]
    server.files["a.tar.gz"] = b"no archive"
    with pytest.raises(Failed, match="cannot be unpacked"):
        fetch(Source("other", server.url("a.tar.gz"), download.untarred), tmp_path)
    assert not (tmp_path / "other").exists()


def test_the_digest_knows_names_and_contents(tmp_path):
    for name, content in (("a", "1"), ("b", "1"), ("a", "2")):
        (tmp_path / name / content).mkdir(parents=True)
        (tmp_path / name / content / name).write_text(content)
    digests = {digest(tmp_path / name / content) for name, content in (("a", "1"), ("b", "1"), ("a", "2"))}
    assert len(digests) == 3


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    return tmp_path


def test_a_thousand_photographs_give_the_classes(data, server, capsys, monkeypatch):
    """`make data` in small; the photographs can be loaded afterwards."""
    files = {f"n{i:08}_x.JPEG": jpeg(i % 256) for i in range(1000)}
    server.files["a.zip"] = zipped(files)
    sources = (Source("imagenet/val", server.url("a.zip"), download.photographs),)
    monkeypatch.setitem(download.NEEDED, "sample", ("imagenet/val",))
    assert download.main(["--profile", "sample"], sources) == 0
    assert f"fetched {data / 'imagenet' / 'val'}" in capsys.readouterr().out
    pairs = json.loads((data / "imagenet" / "classes.json").read_text())
    assert len(pairs) == 1000 and pairs[1] == ["n00000001", "goldfish"]
    assert load_imagenet(3, size=32).labels.tolist() == [0, 500, 999]
    assert download.main(["--profile", "sample"], sources) == 0 and len(server.asked) == 1


def test_without_a_network_one_sentence_says_what_to_put_where(data, capsys):
    """Port 9 of this machine refuses; the real addresses are not asked."""
    sources = tuple(Source(s.layout, "http://127.0.0.1:9/x", s.unpack) for s in download.SOURCES)
    with pytest.raises(Unreachable):
        fetch(sources[0], data)
    assert download.main(["--profile", "sample"], sources) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(
        f"There is no network (127.0.0.1:9 cannot be reached): put under {data} what is missing: "
    )
    for layout in ("imagenet/val", "imagenet/classes.json", "cifar10", "speech", "reviews"):
        assert f"{layout} ({LAYOUTS[layout]})" in sentence


def test_the_profiles(data, capsys):
    assert download.main(["--profile", "embedded"], ()) == 0 and "needs no data" in capsys.readouterr().out
    assert download.main(["--profile", "paper"], ()) == 1
    sentence = capsys.readouterr().err
    assert sentence.startswith("Put under ") and "imagenet/wordnet.is_a.txt (" in sentence
    assert f"food-101 ({LAYOUTS['food-101']})" in sentence
    assert f"animals ({LAYOUTS['animals']})" in sentence and "{train,test}/<animal>/*.jpg" in sentence
    with pytest.raises(SystemExit):
        download.main(["--profile", "other"], ())


def test_every_source_is_pinned():
    for source in download.SOURCES:
        assert source.sha256 or "/archive/" in source.url or "raw.githubusercontent.com" in source.url
        assert any(len(part.removesuffix(".zip")) == 40 for part in source.url.split("/")) or source.sha256
