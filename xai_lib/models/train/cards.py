"""Weights as float16 safetensors, each with a card that says how they were made and what they achieve."""

import hashlib
import inspect
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy
import skimage
import torch
import torchvision
import yaml
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from xai_lib.models import OURS, card_folder


def half(model: nn.Module) -> dict[str, Tensor]:
    """The model's state in float16."""
    state = model.state_dict().items()
    return {key: (value.half() if value.is_floating_point() else value).contiguous() for key, value in state}


def save(
    name: str,
    model: nn.Module,
    *,
    classes: Sequence[str],
    data: Mapping[str, Any],
    training: Mapping[str, Any],
    held_out: Mapping[str, Any],
) -> None:
    """Write the weights NAME.safetensors and their card NAME.yaml to the network's `card_folder`.

    `held_out` holds the numbers of the model as it is: round it by `model.load_state_dict(half(model))` first.
    """
    weights = to_bytes(half(model))
    card = {
        "name": name,
        "architecture": inspect.getdoc(OURS[name]),
        "parameters": sum(p.numel() for p in model.parameters()),
        "classes": list(classes),
        "data": dict(data),
        "training": dict(training),
        "held_out": dict(held_out),
        "weights": {
            "file": f"{name}.safetensors",
            "dtype": "float16",
            "bytes": len(weights),
            "sha256": hashlib.sha256(weights).hexdigest(),
        },
        "command": f"python -m xai_lib.models.train {name}",
        "versions": {"python": platform.python_version()}
        | {m.__name__: str(m.__version__) for m in (torch, torchvision, np, scipy, skimage)},
    }
    folder = card_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(weights)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(card, sort_keys=False))
    print(yaml.safe_dump(card["held_out"], sort_keys=False))
