"""The standard layouts, on a handful of generated files; real photographs where XAI_DATA has them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xai_lib.datasets import folders
from xai_lib.datasets.folders import (
    Photographs,
    find,
    have,
    load_food101,
    load_imagenet,
    load_images,
    load_label_tree,
    read_boxes,
    read_image,
    side_by_side,
)
from xai_lib.models import load_model

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [["n01", "tench"], ["n02", "goldfish"], ["n03", "shark"]]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Three classes of which the second has no folder; class n is a plain image of grey level 10 n."""
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    (tmp_path / "imagenet" / "val").mkdir(parents=True)
    (tmp_path / "imagenet" / "classes.json").write_text(json.dumps(CLASSES))
    for level, (wnid, count) in {10: ("n01", 2), 30: ("n03", 3)}.items():
        folder = tmp_path / "imagenet" / "val" / wnid
        folder.mkdir()
        for i in range(count):
            Image.new("RGB", (300, 256), (level,) * 3).save(folder / f"{i}.png")
    return tmp_path


def test_classes_are_mapped_by_wnid(data):
    photographs = load_imagenet(5, size=64)
    assert photographs.images.shape == (5, 3, 64, 64)
    assert photographs.labels.tolist() == [0, 0, 2, 2, 2] and photographs.names[2] == "shark"
    torch.testing.assert_close(photographs.images[:, 0, 0, 0] * 255, torch.tensor([10.0, 10, 30, 30, 30]))


def test_spread_and_choice(data):
    assert load_imagenet(2, size=64).labels.tolist() == [0, 2]
    assert load_imagenet(3, size=64, names=("shark",)).labels.tolist() == [2, 2, 2]


def test_pairs_stand_side_by_side_and_masks_are_their_halves():
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pairs = side_by_side(Photographs(images, torch.tensor([0, 1, 2, 0]), ("a", "b", "c"), ("n1", "n2", "n3")))
    assert pairs.images.shape == (2, 3, 8, 16) and pairs.labels.tolist() == [[0, 2], [1, 0]]
    for i, side in ((1, 0), (3, 1)):
        assert torch.equal(pairs.images[1].masked_select(pairs.masks[1, side]).view(3, 8, 8), images[i])
    assert (pairs.masks.sum(1) == 1).all()


@pytest.mark.parametrize(
    "labels, message", [([0, 1, 2], "photographs has 3 images"), ([0, 1, 0, 2], "two images of 'a'")]
)
def test_pairs_need_two_classes(labels, message):
    photographs = Photographs(torch.rand(len(labels), 3, 8, 8), torch.tensor(labels), ("a", "b", "c"), ())
    with pytest.raises(ValueError, match=message):
        side_by_side(photographs)


def annotate(path, *boxes, size=(300, 256)):
    """Write boxes (name, left, top, right, bottom) as PASCAL VOC does."""
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}"
        "</ymax></bndbox></object>"
        for name, left, top, right, bottom in boxes
    )
    width, height = size
    path.write_text(
        f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>{objects}</annotation>"
    )


def test_boxes_lie_on_what_they_enclose(tmp_path):
    """A white rectangle on black and its box go through the same crop; edges are blurred by the resizing."""
    pixels = np.zeros((180, 300), np.uint8)
    pixels[40:120, 90:200] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    annotate(tmp_path / "x.xml", ("n01", 90, 40, 200, 120), ("n02", 0, 0, 300, 180), size=(300, 180))
    mask = read_boxes(tmp_path / "x.xml", "n01", 56)
    assert torch.equal(mask, read_image(tmp_path / "x.png", 56)[0] > 0.5) and 0.1 < mask.double().mean() < 0.5
    assert read_boxes(tmp_path / "x.xml", "n02", 56).all()
    assert not read_boxes(tmp_path / "x.xml", "n03", 56).any()


def test_boxes_of_a_larger_copy_serve_a_smaller_one(tmp_path):
    annotate(tmp_path / "large.xml", ("n01", 100, 80, 300, 240), size=(600, 512))
    annotate(tmp_path / "small.xml", ("n01", 50, 40, 150, 120))
    large, small = (read_boxes(tmp_path / f"{name}.xml", "n01", 64) for name in ("large", "small"))
    for side in (0, 1):  # a threshold on an edge between two pixels may fall to either
        assert small.any() and (large.any(side) ^ small.any(side)).sum() <= 2


def test_only_photographs_with_pixels_inside_and_outside_their_boxes(data):
    val = data / "imagenet" / "val"
    annotate(val / "n01" / "0.xml", ("n01", 50, 50, 100, 100), ("n01", 150, 50, 200, 100))
    annotate(val / "n01" / "1.xml", ("n01", 0, 0, 300, 256))  # all of it
    annotate(val / "n03" / "0.xml", ("n01", 50, 50, 100, 100))  # of another class
    annotate(val / "n03" / "1.xml", ("n03", 0, 0, 10, 256))  # cropped away
    annotate(val / "n03" / "2.xml", ("n03", 150, -5, 400, 300))  # beyond the image, as some are
    photographs = load_imagenet(2, size=64, boxes=True)
    assert photographs.labels.tolist() == [0, 2] and photographs.masks.shape == (2, 64, 64)
    left, right = photographs.masks[0, :, :32], photographs.masks[0, :, 32:]
    assert left.any() and right.any() and photographs.masks[1, :, 33:].all()
    with pytest.raises(ValueError, match="n is 3, expected 1 to 2, the photographs there are with boxes"):
        load_imagenet(3, size=64, boxes=True)
    assert load_imagenet(5, size=64).masks is None
    (val / "n03" / "0.xml").write_text("<annotation/>")
    with pytest.raises(ValueError, match=r"0\.xml cannot be read as PASCAL VOC boxes"):
        load_imagenet(1, size=64, boxes=True)


def test_the_label_tree(data):
    """entity - (fish - (n01, n02), animal - n03); n02 is also a pet, which is an animal: the shorter way counts."""
    with pytest.raises(FileNotFoundError, match="put there ImageNet's list of WordNet relations"):
        load_label_tree(["n01"])
    assert not have("imagenet/wordnet.is_a.txt")
    relations = "entity fish\nentity animal\nfish n01\nfish n02\nanimal n03\nanimal pet\npet n02\nother n04\n"
    (data / "imagenet" / "wordnet.is_a.txt").write_text(relations)
    distance = load_label_tree(["n01", "n02", "n03", "fish"])
    assert distance.tolist() == [[0, 2, 4, 1], [2, 0, 3, 1], [4, 3, 0, 3], [1, 1, 3, 0]]
    with pytest.raises(ValueError, match="wnids has n01 and n04, expected classes with a common ancestor"):
        load_label_tree(["n01", "n04"])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_any_mode_becomes_three_channels(tmp_path, mode):
    Image.new(mode, (20, 10)).save(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"))
    image = read_image(next(tmp_path.iterdir()))
    assert image.shape == (3, 10, 20) and image.min() >= 0 and image.max() <= 1


def test_sixteen_bits_keep_their_levels(tmp_path):
    levels = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    image = read_image(tmp_path / "deep.png")
    torch.testing.assert_close(image, torch.from_numpy(levels / 65535).float().expand(3, -1, -1))
    Image.fromarray(levels.astype(np.int32) * 9).save(tmp_path / "deeper.tif")
    with pytest.raises(ValueError, match=r"deeper.tif cannot be read .*expected at most 16 bits a pixel"):
        read_image(tmp_path / "deeper.tif")
    Image.fromarray(levels.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match="expected integer pixels"):
        read_image(tmp_path / "float.tif")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    """The colours that lie beneath, black here, are not seen."""
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 2, 2))
    image.convert(mode).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png")[:, 0].tolist() == [[0, 0, 1, 1]] * 3


def test_a_large_photograph_is_shrunk_without_aliasing(tmp_path):
    """Columns of black and white, one pixel wide, become grey; a broad white square stays where it was."""
    pixels = np.zeros((3000, 4000, 3), np.uint8)
    pixels[:, ::2] = 255
    pixels[1000:2000, 1500:2500] = 255
    Image.fromarray(pixels).save(tmp_path / "large.jpg", quality=95)
    image = read_image(tmp_path / "large.jpg", 224)
    assert image.shape == (3, 224, 224)
    assert (image[:, 112, 112] > 0.99).all() and (image[:, 8:40, 8:40] - 0.5).abs().max() < 0.05  # JPEG's own error


def test_the_cameras_orientation_is_obeyed(tmp_path):
    image, exif = Image.new("RGB", (30, 20)), Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg").shape == (3, 30, 20)


def test_images_by_path_and_glob(data, tmp_path, monkeypatch):
    """Relative patterns are looked for here, then under XAI_DATA."""
    assert load_images(str(data / "imagenet" / "val" / "*" / "*.png"), 9, 32).shape == (5, 3, 32, 32)
    spread = load_images("imagenet/val/**/*.png", 2, 32)[:, 0, 0, 0] * 255
    torch.testing.assert_close(spread, torch.tensor([10.0, 30.0]))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Image.new("L", (40, 40), 200).save("x.png")
    torch.testing.assert_close(load_images("x.png", 1, 8), torch.full((1, 3, 8, 8), 200 / 255))
    Image.new("L", (40, 40), 100).save("x[1].png")  # a name, not a pattern
    torch.testing.assert_close(load_images("x[1].png", 1, 8), torch.full((1, 3, 8, 8), 100 / 255))
    with pytest.raises(ValueError, match=r"image is 'no/\*.png', expected a path or glob; nothing matches below /"):
        load_images("no/*.png", 1, 8)
    with pytest.raises(ValueError, match="n is 0, expected at least 1 image"):
        load_images("x.png", 0, 8)


def test_crop_is_central_and_unscaled_at_the_native_size(tmp_path):
    ramp = Image.linear_gradient("L").resize((256, 256)).rotate(90)
    ramp.save(tmp_path / "ramp.png")
    whole, crop = read_image(tmp_path / "ramp.png"), read_image(tmp_path / "ramp.png", 224)
    assert torch.equal(crop, whole[:, 16:240, 16:240])


def test_errors(data, monkeypatch):
    (data / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image"):
        read_image(data / "broken.png")
    with pytest.raises(ValueError, match=r"absent\.png cannot be read"):
        read_image(data / "absent.png")
    with pytest.raises(ValueError, match="n is 6, expected 1 to 5"):
        load_imagenet(6)
    (data / "imagenet" / "val" / "n01" / ".DS_Store").write_bytes(b"")
    assert len(load_imagenet(5).images) == 5
    with pytest.raises(ValueError, match="n is 1, expected 1 to 0, the photographs of goldfish"):
        load_imagenet(1, names=("goldfish",))
    with pytest.raises(ValueError, match="names contains 'whale'"):
        load_imagenet(1, names=("whale",))
    monkeypatch.setenv("XAI_DATA", str(data / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere/imagenet/val is missing: put there ImageNet"):
        find("imagenet/val")


@pytest.mark.needs_data("imagenet/val")
def test_a_real_network_recognises_real_photographs():
    photographs = load_imagenet(64)
    predicted = load_model("squeezenet1_1")(photographs.images).argmax(1)
    assert (predicted == photographs.labels).double().mean() > 0.5  # 0.64 on all 600 of them


@pytest.fixture
def food(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    folder = tmp_path / "food-101"
    (folder / "meta").mkdir(parents=True)
    (folder / "meta/classes.txt").write_text("apple_pie\ntiramisu\n")
    (folder / "meta/test.txt").write_text("apple_pie/1\ntiramisu/7\ntiramisu/8\n")
    for i, line in enumerate(["apple_pie/1", "tiramisu/7", "tiramisu/8", "tiramisu/9"]):
        (folder / "images" / line).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60), (50 * i, 0, 0)).save(folder / "images" / f"{line}.jpg")


def test_food101_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="food-101 is missing: put there Food-101"):
        load_food101()


def test_food101_follows_its_own_list(food):
    loaded = load_food101(size=32)
    assert loaded.inputs.shape == (3, 3, 32, 32) and loaded.labels.tolist() == [0, 1, 1]
    assert loaded.names == ("apple_pie", "tiramisu") and len(load_food101(2, size=32).inputs) == 2


def test_a_notebook_takes_food101_and_a_network_of_the_readers(food, tmp_path, monkeypatch):
    """The cell of the SpectralLens notebook that loads the second data set, as its "Your turn" describes it."""
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n\ndef food101():\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear(2)).eval()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    notebook = json.loads((ROOT / "notebooks/02_spectral_lens.ipynb").read_text(encoding="utf-8"))
    (cell,) = ["".join(c["source"]) for c in notebook["cells"] if "folders.load_food101" in "".join(c["source"])]
    names = {"second_source": "food101", "second_model": "my_networks:food101", "n_images": 3, "vit_name": ""}
    names |= {"model_name": "first", "model": None, "images": None, "device": torch.device("cpu")}
    names |= {"folders": folders, "load_model": load_model}
    exec(cell, names)
    network, images = names["networks"]["my_networks:food101"]
    assert images.shape == (3, 3, 224, 224) and names["labels_2"].tolist() == [0, 1, 1]
    assert network(images).shape == (3, 2)
