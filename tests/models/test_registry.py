"""The registry: every kind of name, the untrained copy, and one-sentence errors."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from xai_lib import models
from xai_lib.models import class_names, input_size, load_model, model_names
from xai_lib.models.scenes import Normalize


@pytest.fixture(scope="module", params=model_names("scenes"))
def model(request):
    return load_model(request.param)


def test_a_model_takes_images_and_returns_logits(model):
    assert not any(module.training for module in model.modules())
    assert isinstance(next(model.children()), Normalize)
    logits = model(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, 10) and logits.dtype == torch.float32 and logits.isfinite().all()


def test_relus_can_be_hooked(model):
    """Guided methods need every ReLU to be a module of its own that leaves its input alone."""
    calls = []
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    hooks = [relu.register_forward_hook(lambda *_: calls.append(1)) for relu in relus]
    model(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    assert len(calls) == len(relus) and not any(relu.inplace for relu in relus)


def test_the_weights_are_small():
    assert sum(path.stat().st_size for path in models.DATA.glob("*.safetensors")) < 10e6


@pytest.mark.parametrize("name", model_names())
def test_the_untrained_copy_is_fixed_and_leaves_the_random_state(name):
    state = torch.random.get_rng_state()
    first, second = load_model(name, pretrained=False), load_model(name, pretrained=False)
    assert torch.equal(state, torch.random.get_rng_state())
    trained = load_model(name).state_dict()
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])
    assert any(not torch.equal(value, trained[key]) for key, value in first.state_dict().items())


@pytest.mark.parametrize("name", ["scenes_restnet", "resnet51", "!"])
def test_an_unknown_name_is_answered_with_the_nearest(name):
    with pytest.raises(ValueError, match=r"no model is called .* nearest names are .*(scenes_resnet|resnet50)"):
        load_model(name)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A copy of one network's files, in place of the repository's."""
    monkeypatch.setattr(models, "DATA", tmp_path)
    for suffix in ("safetensors", "yaml"):
        shutil.copy(Path(models.__file__).parents[2] / "data" / f"scenes_resnet.{suffix}", tmp_path)
    return tmp_path


def test_altered_weights_are_refused(data):
    weights = bytearray((data / "scenes_resnet.safetensors").read_bytes())
    weights[-1] ^= 1
    (data / "scenes_resnet.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match=r"does not have the sha256 that its card scenes_resnet.yaml gives"):
        load_model("scenes_resnet")


def test_missing_weights_name_the_command(data):
    (data / "scenes_resnet.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"python -m xai_lib.models.train scenes_resnet"):
        load_model("scenes_resnet")


def test_a_function_by_its_import_path():
    model = load_model("xai_lib.models.scenes:scenes_vgg")
    assert not model.training and model(torch.zeros(1, 3, 64, 64)).shape == (1, 10)
    copies = [load_model("xai_lib.models.scenes:scenes_vit", pretrained=False) for _ in range(2)]
    for first, second in zip(*(copy.parameters() for copy in copies), strict=True):
        assert torch.equal(first, second)


def views_its_features():
    return nn.Sequential(nn.Conv2d(3, 4, 3), View(), nn.Linear(4 * 6 * 6, 2))


class View(nn.Module):
    """As many networks do before their linear layers: fails on features of another layout."""

    def forward(self, x):
        return x.view(len(x), -1)


def test_a_network_that_views_its_features():
    assert load_model(f"{__name__}:views_its_features")(torch.zeros(2, 3, 8, 8)).shape == (2, 2)


@pytest.mark.parametrize("name", ["no_such_package:f", "os:no_such_function", ":f", "os:getcwd"])
def test_a_bad_import_path(name):
    with pytest.raises(ValueError, match=r"importable package.module:function|must return a torch.nn.Module"):
        load_model(name)


@pytest.mark.needs_data("hub/checkpoints/squeezenet1_1-b8a52dc0.pth")
def test_a_torchvision_model_from_the_data_folder(monkeypatch):
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    model = load_model("squeezenet1_1")
    assert "TORCH_HOME" not in os.environ
    assert torch.allclose(model[0].mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    assert model(torch.rand(1, 3, 224, 224)).shape == (1, 1000)


def test_an_untrained_torchvision_model_is_fixed():
    first, second = (load_model("squeezenet1_1", pretrained=False).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_torchvision_weights_that_cannot_be_had(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    with pytest.raises(FileNotFoundError, match=r"resnet18-.*\.pth is missing and could not be downloaded"):
        load_model("resnet18")


@pytest.mark.parametrize(
    ("name", "size", "n_classes", "first"),
    [
        ("scenes_vgg", 64, 10, "disk"),
        ("digits_cnn", 32, 10, "0"),
        ("fundus_resnet", 128, 2, "healthy"),
        ("inception_v3", 299, 1000, "tench"),
        ("package.module:function", 224, 1000, "tench"),
        ("package.module:function", 224, 7, "class 0"),
    ],
)
def test_what_is_known_of_a_network(name, size, n_classes, first):
    names = class_names(name, n_classes)
    assert input_size(name) == size and len(names) == n_classes and names[0] == first


@pytest.mark.parametrize("name", ["scenes_vit", "digits_cnn", "fundus_resnet", "cifar10_cnn", "cifar10_batches_cnn"])
def test_a_network_takes_images_of_its_size(name):
    images = torch.zeros(1, 3, input_size(name), input_size(name))
    assert load_model(name, pretrained=False)(images).isfinite().all()


@pytest.mark.parametrize("name", ["words_m5", "reviews_cnn", "notes_resnet", "commands_m5"])
def test_a_network_that_takes_no_square_images_has_no_side(name):
    with pytest.raises(ValueError, match=f"name is '{name}', expected a network that takes square images"):
        input_size(name)


def test_an_untrained_vit_has_gradients():
    """Although torchvision starts its head with zeros."""
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(load_model("scenes_vit", pretrained=False)(x)[0, 0], x)
    assert gradient.any()
