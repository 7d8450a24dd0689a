"""The inpainter of spectra of paper 5 (Table 3): magnitude and phase at 1024 frequencies."""

import torch
from torch import Tensor, nn

BINS = 1024
LATENT = (16, 112)  # channels and positions of the deepest features
NOISE_CHANNELS = 3
NOISE = NOISE_CHANNELS * BINS + LATENT[0] * LATENT[1]  # normal numbers that one inpainting takes


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
            nn.Conv1d(64 + 32 + 4 + NOISE_CHANNELS, 128, 7, padding=3), nn.ReLU(), nn.Conv1d(128, 2, 7, padding=3)
        )

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
