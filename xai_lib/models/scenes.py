"""Small networks for 64 x 64 scenes: images (batch, 3, 64, 64) in [0, 1] -> logits (batch, 10).

All of them normalise in their first layer, use every ReLU once and never in place (guided methods hook them),
and cost a few milliseconds per input gradient.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.vision_transformer import VisionTransformer

CLASSES = 10
_MEAN, _STD = (0.49, 0.41, 0.31), (0.20, 0.19, 0.19)  # of the scenes, rounded


class Normalize(nn.Module):
    """(x - mean) / std per channel, for images (batch, channels, height, width)."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def _convolution(inside: int, outside: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution that keeps the extent (or divides it by the stride), then batch norm."""
    return nn.Sequential(nn.Conv2d(inside, outside, size, stride, size // 2, bias=False), nn.BatchNorm2d(outside))


class Residual(nn.Module):
    """relu(x + f(x)) with two 3 x 3 convolutions in f; a 1 x 1 convolution on x where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(inside, outside, stride=stride), nn.ReLU(), _convolution(outside, outside)
        )
        self.skip = nn.Identity() if inside == outside else _convolution(inside, outside, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.skip(x) + self.body(x))


def _head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


def scenes_resnet() -> nn.Module:
    """Residual network of 32-64-128 channels behind a pooled 3 x 3 convolution of 16; 0.31 M parameters."""
    return nn.Sequential(
        Normalize(_MEAN, _STD),
        _convolution(3, 16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Residual(16, 32, 1),
        Residual(32, 64, 2),
        Residual(64, 128, 2),
        *_head(128),
    )


def scenes_vgg() -> nn.Module:
    """VGG-like network with batch norm: 16, pool, 32, pool, 64, pool, 128, 128; 0.25 M parameters."""
    layers: list[nn.Module] = [Normalize(_MEAN, _STD)]
    channels = 3
    for width in (16, "pool", 32, "pool", 64, "pool", 128, 128):
        if width == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [_convolution(channels, width), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers, *_head(channels))


def _stem() -> nn.Sequential:
    """(3, 64, 64) -> (64, 8, 8); pooled, since strided convolutions mistake the finest checks for dots."""
    layers: list[nn.Module] = []
    for inside, outside in ((3, 16), (16, 32), (32, 64)):
        layers += [_convolution(inside, outside), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def scenes_vit() -> nn.Module:
    """torchvision's ViT with 4 layers of width 64 on the 8 x 8 tokens of a convolutional stem; 0.17 M parameters."""
    model = VisionTransformer(
        image_size=64, patch_size=8, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=CLASSES
    )
    model.conv_proj = _stem()
    return nn.Sequential(Normalize(_MEAN, _STD), model)


def scenes_convnext() -> nn.Module:
    """torchvision's ConvNeXt with blocks of 64, 64 and 128 channels behind a convolutional stem; 0.27 M parameters."""
    model = ConvNeXt(
        [CNBlockConfig(64, 128, 2), CNBlockConfig(128, None, 1)],
        layer_scale=0.1,  # torchvision's 1e-6 is meant for deep networks and long training
        num_classes=CLASSES,
    )
    model.features[0] = _stem()
    return nn.Sequential(Normalize(_MEAN, _STD), model)


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    build.__name__: build for build in (scenes_resnet, scenes_vgg, scenes_vit, scenes_convnext)
}
