"""What the engine costs beside the gradients themselves, and beside Captum."""

import captum.attr
import pytest
import torch
import torchvision

from tests.benchmarks.conftest import (
    interleaved,
    median_ratio,
    needs_gpu,
    peak_memory,
    raw_gradients,
    squeezenet,
)
from xai_lib.baselines import SmoothGrad
from xai_lib.blur_ig import BlurIG
from xai_lib.spectral_lens import XIG

BATCH, SAMPLES = 8, 4


def smooth_grad(model, images):
    return SmoothGrad(model).attribute(images, 0, n_samples=20, stdev=0.1, internal_batch_size=BATCH)


def noise_tunnel(model, images):
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(model))
    return tunnel.attribute(images, target=0, nt_samples=20, nt_samples_batch_size=1, stdevs=0.1, abs=False)


def blur_ig(model, images):
    return BlurIG(model, output="score").attribute(images, 0, n_steps=20, internal_batch_size=BATCH)


def integrated_gradients(model, images):
    captum_ig = captum.attr.IntegratedGradients(model)
    return captum_ig.attribute(images, target=0, n_steps=20, internal_batch_size=BATCH)


def our_integrated_gradients(model, images):
    return XIG(model, "score").attribute(images, 0, n_steps=20, internal_batch_size=BATCH)


PAIRS = [
    (our_integrated_gradients, integrated_gradients, "Integrated gradients, {} of ours over Captum's"),
    (smooth_grad, noise_tunnel, "SmoothGrad, {} over Captum's NoiseTunnel"),
    (blur_ig, integrated_gradients, "BlurIG, {} over Captum's integrated gradients"),
]


def test_engine_efficiency(model, images, report):
    """Gradients a second over the raw rate; the forward pass that validates the model is counted as engine."""
    explain = SmoothGrad(model).attribute
    engine, raw = interleaved(
        lambda: explain(images, 0, n_samples=10 * SAMPLES, internal_batch_size=BATCH),
        lambda: raw_gradients(model, images, 10 * SAMPLES),
    )
    report(
        "SmoothGrad, gradients a second over the raw rate (SqueezeNet, 224)",
        f"{median_ratio(raw, engine):.3f}",
        ">= 0.95",
    )


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_engine_efficiency_on_a_gpu(precision, report):
    network, x = torchvision.models.resnet50(num_classes=10).eval().cuda(), torch.rand(64, 3, 224, 224, device="cuda")

    def model(z):
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
            return network(z)

    def finished(work):
        work()
        torch.cuda.synchronize()

    explain = SmoothGrad(model).attribute
    engine, raw = interleaved(
        lambda: finished(lambda: explain(x, 0, n_samples=10 * SAMPLES, internal_batch_size=len(x))),
        lambda: finished(lambda: raw_gradients(model, x, 10 * SAMPLES)),
    )
    what = f"SmoothGrad, gradients a second over the raw rate (ResNet-50, 224, {precision} on a GPU)"
    report(what, f"{median_ratio(raw, engine):.3f}", ">= 0.95")


def test_blur_ig_efficiency(model, images, report):
    explain = BlurIG(model, output="score").attribute
    engine, raw = interleaved(
        lambda: explain(images, 0, n_steps=5 * SAMPLES, internal_batch_size=BATCH),
        lambda: raw_gradients(model, images, 5 * SAMPLES),
    )
    report("BlurIG, gradients a second over the raw rate (SqueezeNet, 224)", f"{median_ratio(raw, engine):.3f}", "")


def as_built():
    """SqueezeNet in the layout in which torchvision builds it, as Captum's users have it."""
    return squeezenet().to(memory_format=torch.contiguous_format)


@pytest.mark.parametrize(("build", "layout"), [(as_built, ""), (squeezenet, ", channels-last network")])
@pytest.mark.parametrize(("ours", "theirs", "what"), PAIRS)
def test_time_against_captum(ours, theirs, what, build, layout, images, report):
    network = build()
    seconds = interleaved(lambda: ours(network, images), lambda: theirs(network, images))
    report(what.format("time") + layout, f"{median_ratio(*seconds):.3f}", "<= 1")


@pytest.mark.parametrize(("build", "layout"), [(as_built, ""), (squeezenet, ", channels-last network")])
@pytest.mark.parametrize(("ours", "theirs", "what"), PAIRS)
def test_memory_against_captum(ours, theirs, what, build, layout, images, report):
    network = build()
    peaks = [peak_memory(explain, network, images) for explain in (ours, theirs)]
    report(what.format("peak memory") + layout, f"{peaks[0] / peaks[1]:.3f}", "<= 1")
