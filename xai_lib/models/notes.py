"""Small network for log-mel patches of notes: (batch, 1, 96, 64) -> logits (batch, 17), one per label.

Labels exclude each other only within their level, so each logit goes through a sigmoid of its own.
"""

from collections.abc import Callable

from torch import Tensor, nn

from xai_lib.models.scenes import Normalize, Residual

FRAMES, MEL_BINS, LABELS = 96, 64, 17


class NormalizePatches(Normalize):
    """Normalisation of log-mel patches (batch, 1, 96, 64).

    Raises:
        ValueError: the patches have another shape.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (1, FRAMES, MEL_BINS):
            raise ValueError(
                f"patches has shape {tuple(x.shape)}, expected (n, 1, {FRAMES}, {MEL_BINS}): one channel, frames, "
                "mel bins."
            )
        return super().forward(x)


def notes_resnet(labels: int = LABELS) -> nn.Module:
    """Residual network of 24-48-64 channels behind a pooled 5 x 5 convolution of 16; 0.12 M parameters."""
    return nn.Sequential(
        NormalizePatches((-2.0,), (1.9,)),  # of the notes, rounded
        nn.Conv2d(1, 16, 5, padding=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Residual(16, 24, 1),
        Residual(24, 48, 2),
        Residual(48, 64, 2),
        nn.AdaptiveAvgPool2d((1, 8)),  # keeps the pitch of what was found
        nn.Flatten(),
        nn.Linear(64 * 8, labels),
    )


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {build.__name__: build for build in (notes_resnet,)}
