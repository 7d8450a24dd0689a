"""Networks that estimate radio maps: inputs (batch, 2 or 3, H, W) in [0, 1] -> signal strength (batch, 1, H, W)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

SMALL = (8, 16, 24, 32, 32)
FULL = (40, 80, 160, 320, 480, 480)  # near the size of the paper's RadioUNet (13.3 M parameters)


class RadioUNet(nn.Module):
    """U-Net with one 3 x 3 convolution per level and direction.

    It first looks for the transmitter (the brightest pixel of channel 0) and adds two maps: the logarithm of the
    distance from it and, scaled down, the distance itself.

    Args:
        n_inputs: 3 for transmitter, city and measurements, 2 without measurements.
        widths: channels per level, fine to coarse; each side must be a multiple of 2^(levels - 1).
    """

    def __init__(self, n_inputs: int = 3, widths: tuple[int, ...] = SMALL) -> None:
        super().__init__()
        before = (n_inputs + 2, *widths[:-1])
        self.down = nn.ModuleList(_block(a, b) for a, b in zip(before, widths, strict=True))
        self.up = nn.ModuleList(_block(a + b, a) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.last = nn.Conv2d(widths[0] + n_inputs + 2, 1, 3, padding=1)
        self.n_inputs, self.multiple = n_inputs, 2 ** (len(widths) - 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.n_inputs or x.shape[-2] % self.multiple or x.shape[-1] % self.multiple:
            raise ValueError(
                f"inputs has shape {tuple(x.shape)}, expected (B, {self.n_inputs}, H, W) with sides that are multiples "
                f"of {self.multiple}."
            )
        x = z = torch.cat([x, _distance(x[:, 0])], 1)
        skips = []
        for i, block in enumerate(self.down):
            z = block(z if i == 0 else nn.functional.max_pool2d(z, 2))
            skips.append(z)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            z = block(torch.cat([skip, interpolate(z, scale_factor=2.0, mode="nearest")], 1))
        return self.last(torch.cat([z, x], 1))


def _block(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU())


def _distance(transmitter: Tensor) -> Tensor:
    """Distance maps (B, 2, H, W) from the brightest pixel of each of (B, H, W)."""
    height, width = transmitter.shape[1:]
    at = transmitter.flatten(1).argmax(1)[:, None, None]
    rows = torch.arange(height, device=at.device)[:, None] - torch.div(at, width, rounding_mode="floor")
    columns = torch.arange(width, device=at.device) - at % width
    distance = torch.hypot(rows.to(transmitter.dtype), columns.to(transmitter.dtype))
    return torch.stack([torch.log1p(distance) / 4, distance / 64], 1)


def radio_phi() -> nn.Module:
    """Small RadioUNet that sees the transmitter, a city with buildings missing, and measurements."""
    return RadioUNet(3)


def radio_phi_int() -> nn.Module:
    """As radio_phi, trained with the interpretation loss too."""
    return RadioUNet(3)


def radio_phi0() -> nn.Module:
    """Small RadioUNet that sees the transmitter and the whole city."""
    return RadioUNet(2)


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    build.__name__: build for build in (radio_phi, radio_phi_int, radio_phi0)
}
