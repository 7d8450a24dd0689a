"""The registry: networks by name; images come in [0, 1], sounds in [-1, 1], texts as word indices; logits go out."""

import difflib
import hashlib
import importlib
import os
from collections import OrderedDict
from pathlib import Path
from unittest.mock import patch

import torch
import torchvision
import yaml
from safetensors.torch import load
from torch import nn

from xai_lib.datasets.folders import data_folder
from xai_lib.models import digits, fundus, notes, paper, radio, reviews, sample, scenes, spectra, words
from xai_lib.models.scenes import Normalize

ARCHITECTURES = (
    scenes.ARCHITECTURES
    | digits.ARCHITECTURES
    | radio.ARCHITECTURES
    | notes.ARCHITECTURES
    | spectra.ARCHITECTURES
    | fundus.ARCHITECTURES
    | words.ARCHITECTURES
    | reviews.ARCHITECTURES
)
REAL = sample.ARCHITECTURES | paper.ARCHITECTURES  # for real data, with weights under XAI_DATA/models
OURS = ARCHITECTURES | REAL
SIDES = {"scenes": 64, "digits": 32, "fundus": 128, "radio": 64, "cifar10": 32, "animals": 224}  # of the images, pixels
DATA = Path(__file__).resolve().parents[2] / "data"


def model_names(data: str = "") -> list[str]:
    """Names of the networks whose weights come with this repository, or of those for one data set ("scenes")."""
    return [name for name in ARCHITECTURES if name.startswith(data)]


def pick_device() -> str:
    """The GPU, set to repeat itself (no TF32, deterministic kernels where there are any), or else the CPU."""
    if not torch.cuda.is_available():
        return "cpu"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    return "cuda"


def load_model(name: str, *, pretrained: bool = True, device: str | torch.device = "cpu") -> nn.Module:
    """A network in eval mode, whose first layer normalises: images (batch, 3, H, W) in [0, 1] -> logits.

    `name` is one of `model_names()`, of which some take sounds or word indices instead; one of those that
    `make models` trains with PROFILE=sample or paper ("cifar10_cnn", its weights under XAI_DATA/models); a torchvision
    classification model ("squeezenet1_1"), whose ImageNet weights torchvision finds or downloads (under TORCH_HOME,
    else XAI_DATA); or "package.module:function", a function that returns a network when called without arguments.
    `pretrained=False` gives the untrained copy, drawn from a fixed seed; the global random state stays as it was.

    Raises ValueError for a name that is none of these, a function that returns no network, or weights that
    differ from their card; FileNotFoundError where weights are missing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # torch.manual_seed would also seed the accelerators
        if name in OURS:
            model = OURS[name]()
            if pretrained:
                model.load_state_dict(_weights(name))
        elif ":" in name:
            model = _imported(name)
            if not pretrained:
                _reset(model)
        elif _of_torchvision(name):
            model = _torchvision(name, pretrained)
        else:
            known = [*OURS, *torchvision.models.list_models(module=torchvision.models)]
            near = ", ".join(difflib.get_close_matches(name, known, 3, 0.3) or ARCHITECTURES)
            raise ValueError(f"no model is called {name!r}; the nearest names are {near}")
        for module in model.modules():  # a ViT starts with a head of zeros: all its gradients would be zero
            if not pretrained and isinstance(module, nn.Linear) and not module.weight.any():
                module.reset_parameters()
    if ":" not in name:  # halves the time of convolutions on the CPU; but a network of yours may `view` its features
        model = model.to(memory_format=torch.channels_last)
    return model.to(device).eval()


def input_size(name: str) -> int:
    """The side in pixels of the square images that a network expects; 224 where nothing is known of it.

    Raises:
        ValueError: the network takes other inputs.
    """
    if name in OURS:
        data = name.partition("_")[0]
        if data not in SIDES:
            raise ValueError(f"name is {name!r}, expected a network that takes square images.")
        return SIDES[data]
    return _transforms(name).crop_size[0] if _of_torchvision(name) else 224


def class_names(name: str, n_classes: int) -> list[str]:
    """Names of the classes of a network of `n_classes` outputs.

    Those on its card; those of torchvision's weights, also for other networks of 1,000 outputs, which are taken for
    ImageNet's in the standard order; otherwise numbers.
    """
    if name in OURS:
        return yaml.safe_load((card_folder(name) / f"{name}.yaml").read_text())["classes"]
    names = torchvision.models.get_model_weights(name if _of_torchvision(name) else "resnet50").DEFAULT.meta
    return names["categories"] if len(names["categories"]) == n_classes else [f"class {i}" for i in range(n_classes)]


def _of_torchvision(name: str) -> bool:
    return name in torchvision.models.list_models(module=torchvision.models)


def _transforms(name: str) -> torch.nn.Module:
    """What the default weights of a torchvision classifier expect to be done to its inputs."""
    return torchvision.models.get_model_weights(name).DEFAULT.transforms()


def card_folder(name: str) -> Path:
    """Where the weights and the card of one of our networks lie."""
    return DATA if name in ARCHITECTURES else data_folder() / "models"


def _weights(name: str) -> dict[str, torch.Tensor]:
    """The state of one of our networks, as float16, checked against its card."""
    path, card = card_folder(name) / f"{name}.safetensors", card_folder(name) / f"{name}.yaml"
    if not (path.exists() and card.exists()):
        raise FileNotFoundError(f"{path} or its card is missing; python -m xai_lib.models.train {name} makes both")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != yaml.safe_load(card.read_text())["weights"]["sha256"]:
        raise ValueError(f"{path} does not have the sha256 that its card {card.name} gives")
    return load(content)


def _torchvision(name: str, pretrained: bool) -> nn.Module:
    """A torchvision classifier behind the normalisation that its default weights expect."""
    weights, transforms = torchvision.models.get_model_weights(name).DEFAULT, _transforms(name)
    environment = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}  # torchvision itself would unpickle anything
    if "XAI_DATA" in os.environ:
        environment["TORCH_HOME"] = os.environ.get("TORCH_HOME", os.environ["XAI_DATA"])
    with patch.dict(os.environ, environment):
        try:
            model = torchvision.models.get_model(
                name, weights=weights if pretrained else None, progress="XAI_HEADLESS" not in os.environ
            )
        except OSError as error:
            path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
            raise FileNotFoundError(f"{path} is missing and could not be downloaded ({error})") from error
    normalize = Normalize(tuple(transforms.mean), tuple(transforms.std))
    return nn.Sequential(OrderedDict(normalize=normalize, classifier=model))


def _imported(name: str) -> nn.Module:
    """What the function "package.module:function" returns."""
    module, _, function = name.partition(":")
    try:
        build = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{name!r} is no importable package.module:function ({error})") from error
    model = build()
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name!r} must return a torch.nn.Module, it returned {type(model).__name__}")
    return model


def _reset(model: nn.Module) -> None:
    """Draw all parameters anew by each layer's own initialisation; those that have none are shuffled."""
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if reset:
            reset()
            continue
        for parameter in module.parameters(recurse=False):
            values = parameter.data.flatten()
            parameter.data = values[torch.randperm(len(values))].view_as(parameter)
