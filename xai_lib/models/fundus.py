"""Small network for 128 x 128 fundus photographs: images (batch, 3, 128, 128) in [0, 1] -> logits (batch, 2)."""

from collections.abc import Callable

from torch import nn

from xai_lib.models.scenes import Normalize, Residual

CLASSES = 2


def fundus_resnet() -> nn.Module:
    """Residual network of 24-48-64 channels behind a strided, pooled 5 x 5 convolution of 16; 0.11 M parameters."""
    return nn.Sequential(
        Normalize((0.51, 0.26, 0.17), (0.30, 0.17, 0.12)),  # of the photographs, rounded
        nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Residual(16, 24, 1),
        Residual(24, 48, 2),
        Residual(48, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {build.__name__: build for build in (fundus_resnet,)}
