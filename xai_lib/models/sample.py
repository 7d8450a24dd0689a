"""The paper's networks for real data that a laptop holds; their weights lie beside the data, under XAI_DATA/models.

`make models PROFILE=sample` trains them.
"""

from collections.abc import Callable

from torch import nn

from xai_lib.models.reviews import Recurrent, TextClassifier
from xai_lib.models.scenes import Normalize
from xai_lib.models.words import m5

WORDS, WORD_DIMENSIONS, REVIEW_LENGTH = 6_000, 64, 40  # vocabulary, its two special words included; tokens


def cifar10_cnn() -> nn.Module:
    """Two 5 x 5 convolutions (6 and 16 channels) with max-pooling, then three linear layers; 0.06 M parameters."""
    return nn.Sequential(
        Normalize((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
        nn.Conv2d(3, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def speech_m5() -> nn.Module:
    """M5 (Dai et al. 2017) on one second at 8 kHz: ten spoken digits; 0.03 M parameters."""
    return m5(10)


def sentences_bilstm() -> nn.Module:
    """LSTM of two layers of 128 units in both directions, dropout 0.1, on word vectors of 64 dimensions."""
    return TextClassifier(WORDS, WORD_DIMENSIONS, Recurrent(WORD_DIMENSIONS, 128, 2, bidirectional=True))


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    build.__name__: build for build in (cifar10_cnn, speech_m5, sentences_bilstm)
}
