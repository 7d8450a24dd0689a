"""BlurIG beside the one its authors published (PyPI's `saliency`), on real photographs and a real network."""

import numpy as np
import pytest
import torch
from saliency.core import INPUT_OUTPUT_GRADIENTS
from saliency.core import BlurIG as TheirBlurIG
from saliency.core.blur_ig import gaussian_blur

from tests.benchmarks.conftest import interleaved, median_ratio
from xai_lib.blur_ig import BlurIG
from xai_lib.datasets.folders import load_imagenet
from xai_lib.models import load_model

pytestmark = pytest.mark.needs_data("imagenet/val")
MAX_SIGMA = 50.0  # the default of the package
BATCH = 8


@pytest.fixture(scope="module")
def model():
    return load_model("squeezenet1_1")


@pytest.fixture(scope="module")
def images():
    return load_imagenet(16).images


def theirs(model, image, steps):
    """Their attribution of the predicted class's probability, (H, W, C), and its completeness gap.

    Eight steps share a forward pass; on this uniform grid that does not touch the package's fault with batches.
    """
    pixels = image.movedim(0, -1).numpy()
    target = int(probabilities(model, pixels).argmax())

    def gradients(batch, call_model_args, expected_keys):
        x = torch.from_numpy(batch).movedim(-1, 1).requires_grad_()
        score = model(x).softmax(1)[:, target].sum()
        return {INPUT_OUTPUT_GRADIENTS: torch.autograd.grad(score, x)[0].movedim(1, -1).numpy()}

    mask = TheirBlurIG().GetMask(pixels, gradients, max_sigma=MAX_SIGMA, steps=steps, batch_size=BATCH)
    gained = (probabilities(model, p)[target] for p in (pixels, gaussian_blur(pixels, MAX_SIGMA)))
    return mask, float(mask.sum() - np.subtract(*gained))


def probabilities(model, pixels):
    with torch.no_grad():
        return model(torch.from_numpy(pixels).movedim(-1, 0)[None]).softmax(1)[0].numpy()


def test_completeness(model, images, report):
    """Each path is complete up to its own blurred end: ours has reflecting borders, theirs black ones."""
    _, ours = BlurIG(model).attribute(images, n_steps=20, max_sigma=MAX_SIGMA, return_convergence_delta=True)
    gaps = {steps: np.median([abs(theirs(model, image, steps)[1]) for image in images]) for steps in (20, 100)}
    median = ours.abs().median()
    what = f"BlurIG, median completeness gap of {len(images)} photographs: ours at 20 steps over saliency's at"
    report(f"{what} 100", f"{median:.3f} / {gaps[100]:.3f} = {median / gaps[100]:.2f}", "<= 1")
    report(f"{what} 20", f"{median:.3f} / {gaps[20]:.3f} = {median / gaps[20]:.2f}", "")


def test_speed(model, images, report):
    steps, images = 10, images[:BATCH]
    slow, fast = interleaved(
        lambda: [theirs(model, image, steps) for image in images],
        lambda: BlurIG(model).attribute(images, n_steps=steps, max_sigma=MAX_SIGMA),
    )
    what = f"BlurIG, time of saliency's over ours, {BATCH} photographs, {steps} steps (SqueezeNet, 224)"
    report(what, f"{median_ratio(slow, fast):.1f}", ">= 2")
