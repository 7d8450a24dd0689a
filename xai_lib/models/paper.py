"""The networks of paper 1 on its own data; their weights lie beside the data, under XAI_DATA/models.

`make models PROFILE=paper` trains them.
"""

from collections import OrderedDict
from collections.abc import Callable

import torchvision
from torch import nn

from xai_lib.models.sample import cifar10_cnn, sentences_bilstm
from xai_lib.models.scenes import Normalize
from xai_lib.models.words import m5


def cifar10_batches_cnn() -> nn.Module:
    """Two 5 x 5 convolutions (6 and 16 channels) with max-pooling, then three linear layers; 0.06 M parameters."""
    return cifar10_cnn()


def commands_m5() -> nn.Module:
    """M5 (Dai et al. 2017) on one second at 8 kHz: 35 words; 0.03 M parameters."""
    return m5(35)


def imdb_bilstm() -> nn.Module:
    """LSTM of two layers of 128 units in both directions, dropout 0.1, on word vectors of 64 dimensions."""
    return sentences_bilstm()


def animals_resnet50() -> nn.Module:
    """ResNet-50 with 80 classes."""
    normalize = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # as torchvision's weights expect
    return nn.Sequential(OrderedDict(normalize=normalize, classifier=torchvision.models.resnet50(num_classes=80)))


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    build.__name__: build for build in (cifar10_batches_cnn, commands_m5, imdb_bilstm, animals_resnet50)
}
