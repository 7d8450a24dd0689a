"""The standard layouts, on a handful of generated files; real photographs where XAI_DATA has them."""

import json

import pytest
import torch
from PIL import Image

from xai_lib.datasets.folders import find, load_imagenet, read_image

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


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_any_mode_becomes_three_channels(tmp_path, mode):
    Image.new(mode, (20, 10)).save(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"))
    image = read_image(next(tmp_path.iterdir()))
    assert image.shape == (3, 10, 20) and image.min() >= 0 and image.max() <= 1


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
    with pytest.raises(ValueError, match="names contains 'whale'"):
        load_imagenet(1, names=("whale",))
    monkeypatch.setenv("XAI_DATA", str(data / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere/imagenet/val is missing: put there ImageNet"):
        find("imagenet/val")


@pytest.mark.needs_data("imagenet/val")
def test_a_real_network_recognises_real_photographs():
    from xai_lib.models import load_model

    photographs = load_imagenet(64)
    predicted = load_model("squeezenet1_1")(photographs.images).argmax(1)
    assert (predicted == photographs.labels).double().mean() > 0.5  # 0.64 on all 600 of them
