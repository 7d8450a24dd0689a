"""The networks of papers 1 and 5 on their own data; the weights lie beside the data, under XAI_DATA/models.

`make models PROFILE=paper` trains them.
"""

from collections import OrderedDict
from collections.abc import Callable

import torchvision
from torch import nn

from xai_lib.models.radio import FULL, RadioUNet
from xai_lib.models.sample import cifar10_cnn, sentences_bilstm
from xai_lib.models.scenes import Normalize
from xai_lib.models.spectra import spectra_inpainter, spectra_resnet
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


def radiomapseer_phi() -> nn.Module:
    """RadioUNet at full width that sees the transmitter, a city with buildings missing, and measurements."""
    return RadioUNet(3, FULL)


def radiomapseer_phi_int() -> nn.Module:
    """As radiomapseer_phi, trained with the interpretation loss too."""
    return RadioUNet(3, FULL)


def radiomapseer_phi0() -> nn.Module:
    """RadioUNet at full width that sees the transmitter and the whole city."""
    return RadioUNet(2, FULL)


def nsynth_resnet() -> nn.Module:
    """As spectra_resnet, for the ten families of NSynth."""
    return spectra_resnet()


def nsynth_inpainter() -> nn.Module:
    """As spectra_inpainter, on NSynth's notes."""
    return spectra_inpainter()


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    build.__name__: build
    for build in (
        cifar10_batches_cnn,
        commands_m5,
        imdb_bilstm,
        animals_resnet50,
        radiomapseer_phi0,
        radiomapseer_phi,
        radiomapseer_phi_int,
        nsynth_resnet,
        nsynth_inpainter,
    )
}
