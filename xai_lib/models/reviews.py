"""Four networks for reviews, with one vocabulary and one embedding: word indices (batch, T) -> logits (batch, 2).

Every network is a `TextClassifier`: `model.embedding` maps words to vectors, and `model.classify(vectors, mask)` is
what gradients are taken of. Padding (index 0) is masked, so that neither its vector nor noise on it matters.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pack_padded_sequence

from xai_lib.datasets.reviews import LENGTH, VOCABULARY


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


class EncoderLayer(nn.Module):
    """Self-attention, then two linear layers per word, each normalised first and added to what came in.

    Attention has a learned bias per head and distance, which starts as ALiBi's (Press et al. 2022).
    """

    def __init__(self, dimensions: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads, self.length, self.dropout = heads, length, nn.Dropout(0.1)
        self.norms = nn.ModuleList([nn.LayerNorm(dimensions), nn.LayerNorm(dimensions)])
        self.queries_keys_values, self.gather = nn.Linear(dimensions, 3 * dimensions), nn.Linear(dimensions, dimensions)
        distance = torch.arange(1 - length, length)
        self.bias = nn.Parameter(-distance.abs() * 2.0 ** -torch.arange(heads)[:, None])  # (heads, 2 length - 1)
        hidden = 2 * dimensions
        self.think = nn.Sequential(nn.Linear(dimensions, hidden), nn.ReLU(), nn.Linear(hidden, dimensions))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.attend(self.norms[0](x), mask))
        return x + self.dropout(self.think(self.norms[1](x)))

    def attend(self, x: Tensor, mask: Tensor) -> Tensor:
        """What each word gathers from the others, (B, T, d)."""
        queries, keys, values = self.queries_keys_values(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        position = torch.arange(x.shape[1], device=x.device)
        bias = self.bias[:, position - position[:, None] + self.length - 1].where(mask[:, None, None], -torch.inf)
        gathered = scaled_dot_product_attention(queries, keys, values, bias)  # (B, heads, T, d / heads)
        return self.gather(gathered.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Encoder layers on widened word vectors; the mean over words is classified."""

    def __init__(self, inside: int, dimensions: int, layers: int, heads: int, classes: int, length: int) -> None:
        super().__init__()
        self.widen = nn.Linear(inside, dimensions)
        self.layers = nn.ModuleList(EncoderLayer(dimensions, heads, length) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(dimensions), nn.Linear(dimensions, classes)

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        x = self.widen(embedded)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head((self.norm(x) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


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


def reviews_transformer() -> nn.Module:
    """Transformer of two layers of width 64 with 4 heads on word vectors of 32 dimensions; 0.07 M parameters."""
    return TextClassifier(len(VOCABULARY), DIMENSIONS, Transformer(DIMENSIONS, 64, 2, 4, 2, LENGTH))


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    build.__name__: build for build in (reviews_bilstm, reviews_lstm, reviews_cnn, reviews_transformer)
}
