"""What the engine costs beside the gradients themselves, and beside Captum."""

import captum.attr
import pytest
import torch
import torchvision

from tests.benchmarks.conftest import interleaved, median_ratio
from xai_lib.baselines import SmoothGrad
from xai_lib.blur_ig import BlurIG

BATCH, SAMPLES = 8, 4


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.squeezenet1_1(num_classes=10).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def raw_gradients(model, images):
    for _ in range(SAMPLES):
        x = images.clone().requires_grad_()
        torch.autograd.grad(model(x)[:, 0].sum(), x)


def test_engine_efficiency(model, images, report):
    """Gradients a second over the raw rate; the forward pass that validates the model is counted as engine."""
    explain = SmoothGrad(model).attribute
    engine, raw = interleaved(
        lambda: explain(images, 0, n_samples=10 * SAMPLES, internal_batch_size=BATCH),
        lambda: [raw_gradients(model, images) for _ in range(10)],
    )
    report(
        "SmoothGrad, gradients a second over the raw rate (SqueezeNet, 224)",
        f"{median_ratio(raw, engine):.3f}",
        ">= 0.95",
    )


def test_blur_ig_efficiency(model, images, report):
    explain = BlurIG(model, output="score").attribute
    engine, raw = interleaved(
        lambda: explain(images, 0, n_steps=5 * SAMPLES, internal_batch_size=BATCH),
        lambda: [raw_gradients(model, images) for _ in range(5)],
    )
    report("BlurIG, gradients a second over the raw rate (SqueezeNet, 224)", f"{median_ratio(raw, engine):.3f}", "")


def test_against_captums_noise_tunnel(model, images, report):
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    ours, theirs = interleaved(
        lambda: SmoothGrad(model).attribute(images, 0, n_samples=20, stdev=0.1, internal_batch_size=BATCH),
        lambda: tunnel.attribute(images, target=0, nt_samples=20, nt_samples_batch_size=1, stdevs=0.1, abs=False),
    )
    report("SmoothGrad, time over Captum's NoiseTunnel", f"{median_ratio(ours, theirs):.3f}", "<= 1")


def test_against_captums_integrated_gradients(model, images, report):
    captum_ig = captum.attr.IntegratedGradients(model)
    ours, theirs = interleaved(
        lambda: BlurIG(model, output="score").attribute(images, 0, n_steps=20, internal_batch_size=BATCH),
        lambda: captum_ig.attribute(images, target=0, n_steps=20, internal_batch_size=BATCH),
    )
    report("BlurIG, time over Captum's integrated gradients", f"{median_ratio(ours, theirs):.3f}", "<= 1")
