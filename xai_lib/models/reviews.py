"""Four networks for reviews, with one vocabulary and one embedding: word indices (batch, T) -> logits (batch, 2).

Every network is a `TextClassifier`: `model.embedding` maps words to vectors, and `model.classify(vectors, mask)` is
what gradients are taken of. Padding (index 0) is masked, so that neither its vector nor noise on it matters.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from xai_lib.datasets.reviews import VOCABULARY


class TextClassifier(nn.Module):
    """An embedding of words and a network on it."""

    def __init__(self, words: int, dimensions: int, body: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, dimensions)
        self.body = body

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, classes) of word indices (B, T)."""
        return self.classify(self.embedding(tokens), tokens != 0)

    def classify(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, classes) of vectors (B, T, d), of which those outside `mask`, (B, T) bool, do not count."""
        return self.body(embedded, mask)


class Recurrent(nn.Module):
    """LSTM layers; the last state of the upper one, in one or both directions, is classified."""

    def __init__(self, dimensions: int, hidden: int, classes: int, bidirectional: bool) -> None:
        super().__init__()
        settings = {"num_layers": 2, "dropout": 0.1, "batch_first": True, "bidirectional": bidirectional}
        self.lstm = nn.LSTM(dimensions, hidden, **settings)
        self.head = nn.Linear(hidden * (1 + bidirectional), classes)

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        packed = pack_padded_sequence(embedded, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN has no gradient in eval mode
            state = self.lstm(packed)[1][0]  # (layers * directions, B, hidden)
        directions = 1 + self.lstm.bidirectional
        return self.head(state[-directions:].movedim(0, 1).flatten(1))


class Convolutional(nn.Module):
    """Convolutions over 3, 4 and 5 words, each channel's maximum over time (Kim 2014, Zhang and Wallace 2015)."""

    def __init__(self, dimensions: int, channels: int, classes: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(dimensions, channels, k, padding=k - 1) for k in (3, 4, 5))
        self.relu, self.dropout = nn.ReLU(), nn.Dropout(0.3)
        self.head = nn.Linear(3 * channels, classes)

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        x = (embedded * mask[..., None]).mT
        features = torch.cat([self.relu(convolution(x)).amax(2) for convolution in self.convolutions], 1)
        return self.head(self.dropout(features))


DIMENSIONS = 32


def reviews_lstm() -> nn.Module:
    """LSTM of two layers of 64 units on word vectors of 32 dimensions; 0.06 M parameters."""
    return TextClassifier(len(VOCABULARY), DIMENSIONS, Recurrent(DIMENSIONS, 64, 2, bidirectional=False))


def reviews_bilstm() -> nn.Module:
    """LSTM of two layers of 48 units in both directions on word vectors of 32 dimensions; 0.09 M parameters."""
    return TextClassifier(len(VOCABULARY), DIMENSIONS, Recurrent(DIMENSIONS, 48, 2, bidirectional=True))


def reviews_cnn() -> nn.Module:
    """64 convolutions each over 3, 4 and 5 word vectors of 32 dimensions, maximum over time; 0.03 M parameters."""
    return TextClassifier(len(VOCABULARY), DIMENSIONS, Convolutional(DIMENSIONS, 64, 2))


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    build.__name__: build for build in (reviews_bilstm, reviews_lstm, reviews_cnn)
}
