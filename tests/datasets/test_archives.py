"""The archives of paper 1, on a handful of generated files laid out as they are."""

import hashlib
import pickle

import numpy as np
import pytest
import scipy.io.wavfile
import torch
import torchvision
from PIL import Image

from xai_lib.datasets.archives import load_animals, load_cifar10_batches, load_commands, load_imdb, pair_animals


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    return tmp_path


def test_cifar10_as_torchvision_reads_it(data, monkeypatch):
    """Colour planes one after the other, each by rows; torchvision checks every file."""
    folder = data / "cifar-10-batches-py"
    folder.mkdir()

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8)
    files = [
        write(name, {"data": pixels[rows], "labels": labels})
        for name, rows, labels in (("data_batch_1", slice(3), [1, 0, 1]), ("test_batch", slice(3, 4), [1]))
    ]
    name, checksum = write("batches.meta", {"label_names": ["airplane", "automobile"]})
    for key, value in (
        ("train_list", files[:1]),
        ("test_list", files[1:]),
        ("meta", {"filename": name, "key": "label_names", "md5": checksum}),
    ):
        monkeypatch.setattr(torchvision.datasets.CIFAR10, key, value)
    train = load_cifar10_batches("train")
    torch.testing.assert_close(train.inputs, torch.from_numpy(pixels[:3]).view(3, 3, 32, 32) / 255)
    assert train.labels.tolist() == [1, 0, 1] and train.names == ("airplane", "automobile")
    assert torch.equal(load_cifar10_batches("train", 2).inputs, train.inputs[[0, 2]])
    test = load_cifar10_batches("test")
    assert test.inputs.shape == (1, 3, 32, 32) and test.labels.tolist() == [1]
    (folder / "test_batch").write_bytes(pickle.dumps({}))
    with pytest.raises(RuntimeError, match="corrupted"):
        load_cifar10_batches("test")


def test_speech_commands_follow_their_own_lists(data):
    folder = data / "speech_commands_v0.02"
    for level, name in enumerate(("cat/a", "cat/b", "_background_noise_/hum", "yes/a", "yes/c", "yes/d")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        scipy.io.wavfile.write(folder / f"{name}.wav", 16000, np.full(16000, 1000 * level, np.int16))
    (folder / "testing_list.txt").write_text("yes/a.wav\ncat/a.wav\n")
    (folder / "validation_list.txt").write_text("yes/d.wav\n")
    test, train = load_commands("test"), load_commands("train")
    assert test.inputs.shape == train.inputs.shape == (2, 1, 8000)
    middle = torch.cat([test.inputs, train.inputs])[:, 0, 4000] * 32768 / 1000  # resampling ripples at the ends
    torch.testing.assert_close(middle, torch.tensor([0.0, 3, 1, 4]), atol=0.02, rtol=0)
    assert test.labels.tolist() == train.labels.tolist() == [0, 1] and test.names == train.names == ("cat", "yes")


def test_imdb_without_its_unlabelled_reviews(data):
    for name, text in (
        ("train/unsup/0_0", "no label"),
        ("train/neg/0_3", "Dull.<br /><br />It's long"),
        ("train/pos/0_9", "Fine!"),
    ):
        (data / "aclImdb" / name).parent.mkdir(parents=True, exist_ok=True)
        (data / "aclImdb" / f"{name}.txt").write_text(text)
    assert load_imdb("train").inputs == [["dull", ".", "it's", "long"], ["fine", "!"]]
    assert load_imdb("train").labels.tolist() == [0, 1] and load_imdb("train").names == ("neg", "pos")


def test_animals_and_a_choice_that_misses_one(data):
    """The classes are those of all files, whichever are chosen."""
    for level, name in enumerate(("Bear/1", "Lion/1", "Zebra/1")):
        (data / "animals/test" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (90, 70), (60 * level,) * 3).save(data / f"animals/test/{name}.jpg")
    (data / "animals/test/Bear/Label").mkdir()
    (data / "animals/test/Bear/Label/1.txt").write_text("Bear 0 0 9 9")
    animals = load_animals("test", 2, size=32)
    torch.testing.assert_close(animals.inputs[:, 0, 0, 0] * 255, torch.tensor([0.0, 120]), atol=1.5, rtol=0)
    assert animals.inputs.shape == (2, 3, 32, 32) and animals.labels.tolist() == [0, 2]
    assert animals.names == ("Bear", "Lion", "Zebra")


def test_pairs_of_animals_are_two_halves_of_two_classes(data):
    for level, name in enumerate(("Bear", "Lion", "Owl", "Zebra")):
        (data / "animals/test" / name).mkdir(parents=True)
        Image.new("RGB", (90, 70), (60 * level,) * 3).save(data / f"animals/test/{name}/1.jpg")
    pairs = pair_animals(2, size=32)
    assert pairs.images.shape == (2, 3, 32, 32) and pairs.names == ("Bear", "Lion", "Owl", "Zebra")
    assert pairs.labels.tolist() == [[0, 2], [1, 3]]
    assert (pairs.masks.sum(1) == 1).all() and pairs.masks[0, 0, :, :16].all()
    of_label = (pairs.masks * pairs.labels[..., None, None]).sum(1, keepdim=True)  # of the animal at each pixel
    torch.testing.assert_close(pairs.images * 255, 60.0 * of_label.expand(-1, 3, -1, -1), atol=1.5, rtol=0)


@pytest.mark.parametrize("load", [load_cifar10_batches, load_commands, load_imdb, load_animals])
def test_what_is_missing_is_named(data, load):
    with pytest.raises(FileNotFoundError, match=r"is missing: put there .* as"):
        load("test")
