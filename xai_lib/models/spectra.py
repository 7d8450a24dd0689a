"""Networks on spectra: magnitude and phase at 1024 frequencies, (batch, 2, 1024).

One names the instrument of a note, the other is the inpainter of paper 5 (Table 3).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

BINS = 1024
INSTRUMENTS = 10
FLOOR = 0.03  # of magnitudes, whose mean square is 1: what is far below it looks alike
LATENT = (16, 112)  # channels and positions of the deepest features
NOISE_CHANNELS = 3
NOISE = NOISE_CHANNELS * BINS + LATENT[0] * LATENT[1]  # normal numbers that one inpainting takes


class Perceived(nn.Module):
    """Spectra (B, 2, 1024) as logarithm of the magnitude, cosine and sine of the phase: (B, 3, 1024).

    Raises:
        ValueError: the spectra have another shape.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (2, BINS):
            raise ValueError(f"spectra has shape {tuple(x.shape)}, expected (B, 2, {BINS}): magnitude and phase.")
        magnitude, phase = x.unbind(1)
        return torch.stack([(magnitude.clamp(min=0) + FLOOR).log(), phase.cos(), phase.sin()], 1)


class Residual(nn.Module):
    """relu(x + f(x)) with two convolutions of size 9 in f, the first of stride 2; x goes through one of size 1."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_normalised(inside, outside, 9, 2), nn.ReLU(), *_normalised(outside, outside, 9))
        self.skip = nn.Sequential(*_normalised(inside, outside, 1, 2))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.skip(x) + self.body(x))


def _normalised(inside: int, outside: int, size: int, stride: int = 1) -> tuple[nn.Module, ...]:
    """Convolution that keeps the extent (or divides it by the stride), and batch norm."""
    return nn.Conv1d(inside, outside, size, stride, size // 2, bias=False), nn.BatchNorm1d(outside)


class SpectrumInpainter(nn.Module):
    """Residual convolution network G(h, s, z) of Table 3, with 737,266 parameters.

    It sees masked magnitude and phase, both masks and three channels of noise, and 16 more channels of noise beside its
    16 deepest ones; decoded features, those of the first layer and the input are joined by the skip connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(4 + NOISE_CHANNELS, 32, 21, padding=10), nn.ReLU())
        self.encoder = nn.Sequential(
            *_layer(nn.Conv1d(32, 64, 21, stride=2)),
            *_layer(nn.Conv1d(64, 128, 21, stride=2)),
            *_layer(nn.Conv1d(128, LATENT[0], 21, stride=2, padding=1)),
        )
        self.decoder = nn.Sequential(
            *_layer(nn.ConvTranspose1d(2 * LATENT[0], 64, 21, stride=2)),
            *_layer(nn.ConvTranspose1d(64, 128, 21, stride=2)),
            *_layer(nn.ConvTranspose1d(128, 64, 20, stride=2, padding=2)),
        )
        self.last = nn.Sequential(
            nn.Conv1d(64 + 32 + 4 + NOISE_CHANNELS, 128, 7, padding=3),
            nn.ReLU(),
            nn.Conv1d(128, 2, 7, padding=3),
            nn.ReLU(),  # phases are 0 or more, too: they count modulo 2 pi
        )
        with torch.no_grad():  # above 0, where the last ReLU passes gradients
            self.last[2].bias.copy_(torch.tensor([0.1, torch.pi]))

    def forward(self, h: Tensor, s: Tensor, z: Tensor) -> Tensor:
        """Inpaint spectra h (B, 2, 1024) under masks s shaped alike, with noise z (B, 4864): (B, 2, 1024).

        Raises:
            ValueError: a shape is another.
        """
        if h.shape[1:] != (2, BINS) or s.shape != h.shape or z.shape != (len(h), NOISE):
            raise ValueError(
                f"h, s and z have shapes {tuple(h.shape)}, {tuple(s.shape)} and {tuple(z.shape)}, expected "
                f"(B, 2, {BINS}) twice and (B, {NOISE})."
            )
        shallow, deep = z.split([NOISE_CHANNELS * BINS, LATENT[0] * LATENT[1]], 1)
        x = torch.cat([s * h, s, shallow.unflatten(1, (NOISE_CHANNELS, BINS))], 1)
        first = self.first(x)
        decoded = self.decoder(torch.cat([self.encoder(first), deep.unflatten(1, LATENT)], 1))
        return self.last(torch.cat([decoded, first, x], 1))


def _layer(convolution: nn.Module) -> tuple[nn.Module, ...]:
    return convolution, nn.ReLU(), nn.BatchNorm1d(convolution.out_channels)


def spectra_resnet(instruments: int = INSTRUMENTS) -> nn.Module:
    """Residual network of 24-32-48-64 channels on log-magnitude, cosine and sine of the phase; 0.14 M parameters."""
    return nn.Sequential(
        Perceived(),
        *_normalised(3, 16, 9),
        nn.ReLU(),
        nn.MaxPool1d(2),
        Residual(16, 24),
        Residual(24, 32),
        Residual(32, 48),
        Residual(48, 64),
        nn.AdaptiveAvgPool1d(8),  # keeps the pitch of what was found
        nn.Flatten(),
        nn.Linear(64 * 8, instruments),
    )


def spectra_inpainter() -> nn.Module:
    """Residual convolution network G(h, s, z) of Table 3."""
    return SpectrumInpainter()


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    build.__name__: build for build in (spectra_resnet, spectra_inpainter)
}
