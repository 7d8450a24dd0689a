"""M5, a convolutional network on raw waveforms: (batch, 1, samples) in [-1, 1] at 8 kHz -> logits (batch, classes)."""

from collections.abc import Callable

from torch import nn


def _block(inside: int, outside: int, size: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv1d(inside, outside, size, stride, bias=False)
    return [convolution, nn.BatchNorm1d(outside), nn.ReLU(), nn.MaxPool1d(4)]


def m5(classes: int, channels: int = 32) -> nn.Module:
    """Dai et al.'s M5 in the size of the papers' audio experiments: four pooled convolutions, a mean over time."""
    return nn.Sequential(
        *_block(1, channels, 80, 16),
        *_block(channels, channels, 3),
        *_block(channels, 2 * channels, 3),
        *_block(2 * channels, 2 * channels, 3),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(2 * channels, classes),
    )


def words_m5() -> nn.Module:
    """M5 (Dai et al. 2017): pooled convolutions of 32, 32, 64, 64 channels, mean over time; 0.03 M parameters."""
    return m5(10)


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {"words_m5": words_m5}
