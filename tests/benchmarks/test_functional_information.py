"""Functional information under a full 3072 x 3072 covariance beside the gradients and products that it needs."""

import pytest
import torch
import torchvision
from torch import nn

from tests.benchmarks.conftest import interleaved, median_ratio, raw_gradients
from xai_lib.functional_information import FunctionalInformation
from xai_lib.metrics import negative_perturbation
from xai_lib.models.sample import cifar10_cnn

BATCH, SAMPLES = 64, 32  # rows of a pass; samples per input, of which the notebook takes 20 to 100
FEATURES = 3 * 32 * 32


def resnet18_with_cifar_stem() -> nn.Module:
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


@pytest.fixture(scope="module")
def images():
    return torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def sigma():
    samples = torch.rand(2 * FEATURES, FEATURES, generator=torch.Generator().manual_seed(0))
    return samples.T.cov()


def built(build) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval().to(memory_format=torch.channels_last)


def test_beside_gradients_and_products(images, sigma, report):
    """Each sample needs L eps, which one seed shares among the inputs, and Sigma g of every input."""
    model, method = built(cifar10_cnn), FunctionalInformation(built(cifar10_cnn), sigma)
    root, gradients, explained = torch.linalg.cholesky(sigma), images.flatten(1), images[:16]
    passes = len(explained) * SAMPLES // BATCH

    def needed():
        raw_gradients(model, images, passes, log_probability=True)
        for _ in range(passes):
            gradients @ sigma
        gradients[:SAMPLES] @ root

    ours, raw = interleaved(
        lambda: method.attribute(explained, 0, n_samples=SAMPLES, internal_batch_size=BATCH),
        needed,
    )
    what = "functional information, gradients and the two products over our time (paper's CNN, 3072 x 3072)"
    report(what, f"{median_ratio(raw, ours):.3f}", ">= 0.90")


def test_beside_the_gradients_of_a_resnet(images, sigma, report):
    model = built(resnet18_with_cifar_stem)
    explain = FunctionalInformation(model, sigma).attribute
    ours, raw = interleaved(
        lambda: explain(images[:4], 0, n_samples=SAMPLES, internal_batch_size=16),
        lambda: raw_gradients(model, images[:16], 4 * SAMPLES // 16, log_probability=True),
    )
    what = "functional information, gradients a second over the raw rate (ResNet-18, 3072 x 3072)"
    report(what, f"{median_ratio(raw, ours):.3f}", ">= 0.90")


def test_negative_perturbation(images, report):
    """Four maps of each image, ten steps each, over the forward passes alone."""
    model = built(resnet18_with_cifar_stem)
    maps = torch.rand(4, 16, 32, 32, generator=torch.Generator().manual_seed(0))

    def forwards():
        with torch.no_grad():
            for _ in range(4 * 16 * 10 // BATCH):
                model(images)

    ours, raw = interleaved(
        lambda: negative_perturbation(model, images[:16], maps, fill=0.0, internal_batch_size=BATCH), forwards
    )
    report(
        "negative perturbation, forward passes a second over the raw rate (ResNet-18)",
        f"{median_ratio(raw, ours):.3f}",
        ">= 0.90",
    )
