"""What SpectralLens, RISE and the perturbation curves cost beside the gradients and forward passes themselves."""

import pytest
import torch

from tests.benchmarks.conftest import interleaved, median_ratio, peak_memory, raw_gradients
from xai_lib.baselines import RISE
from xai_lib.datasets.digits import make_digits
from xai_lib.metrics import deletion, insertion, mean_blur
from xai_lib.models import load_model
from xai_lib.spectral_lens import SG2, ArgLens, SpectralLens

BATCH = 8
N_DIGITS = 3


def raw_passes(model, images, n):
    with torch.no_grad():
        for _ in range(n // len(images)):
            model(images)


def test_smoothgrad_squared(model, images, report):
    settings = {"sigma_max": 0.3, "n_samples": 32, "internal_batch_size": BATCH}
    ours, raw = interleaved(
        lambda: SG2(model).attribute(images, 0, **settings),
        lambda: raw_gradients(model, images, 32, log_probability=True),
    )
    what = "SG2, gradients a second over the raw rate (SqueezeNet, 224)"
    report(what, f"{median_ratio(raw, ours):.3f}", ">= 0.95")


def test_spectral_lens(model, images, report):
    """By default 128 gradients per input; inputs share the noise of a sample, as in the other benchmarks."""
    some = images[:4]
    settings = {"sigma_max": 0.3, "n_samples": 128, "internal_batch_size": BATCH}
    ours, raw = interleaved(
        lambda: SpectralLens(model).attribute(some, 0, **settings),
        lambda: raw_gradients(model, images, 4 * 128 // BATCH, log_probability=True),
    )
    what = "SpectralLens, gradients a second over the raw rate (SqueezeNet, 224)"
    report(what, f"{median_ratio(raw, ours):.3f}", ">= 0.95")


def test_rise(model, images, report):
    ours, raw = interleaved(
        lambda: RISE(model).attribute(images, 0, n_samples=64, internal_batch_size=BATCH),
        lambda: raw_passes(model, images, 64 * BATCH),
    )
    what = "RISE, forward passes a second over the raw rate (SqueezeNet, 224)"
    report(what, f"{median_ratio(raw, ours):.3f}", ">= 0.90")


@pytest.mark.parametrize("curve", [insertion, deletion])
def test_curves(model, images, report, curve):
    """Two maps of each image in steps of 5 %."""
    maps = torch.rand(2, BATCH, 224, 224, generator=torch.Generator().manual_seed(0))
    ours, raw = interleaved(
        lambda: curve(model, images, maps, fill=mean_blur, internal_batch_size=BATCH),
        lambda: raw_passes(model, images, 2 * 21 * BATCH),
    )
    what = f"{curve.__name__}, forward passes a second over the raw rate (SqueezeNet, 224)"
    report(what, f"{median_ratio(raw, ours):.3f}", ">= 0.90")


@pytest.mark.parametrize("method", [SG2, SpectralLens])
def test_memory_against_samples(model, images, report, method):
    """From where every batch is full, the pilot's too; 64 samples need 1.2 % less."""

    def explain(n):
        settings = {"sigma_max": 0.3, "n_samples": n, "internal_batch_size": BATCH}
        return lambda network, x: method(network).attribute(x, 0, **settings)

    few, many = (peak_memory(explain(n), model, images[:1]) for n in (128, 1024))
    what = f"{method.__name__}, peak memory with 1024 samples over that with 128 (SqueezeNet, 224)"
    report(what, f"{many / few:.3f}", "<= 1.01")


def test_lens_against_the_papers_grid(report):
    """Root mean square error over that of equal numbers per scale; the reference has 20,000 samples per scale.

    On a network of 32 x 32 pixels, where the reference's 600,000 gradients take minutes; on SqueezeNet, hours.
    """
    network, digits, seeds = load_model("digits_cnn"), make_digits(N_DIGITS, seed=3000).images, range(8)
    grid, settings = 11 * 64, {"sigma_max": 0.3}

    def mean_of_the_grid(n, seed):
        stack = ArgLens(network).attribute(digits, n_samples=n, seed=seed, return_stack=True, **settings)[1]
        return stack.squares.mean(1)

    def lens(n, seed):
        return SpectralLens(network).attribute(digits, n_samples=n, seed=seed, **settings)

    exact = mean_of_the_grid(1 + 10 * 20_000, 10**6)

    def error(estimate, n):
        square = torch.stack([(estimate(n, seed) - exact).square().flatten(1).sum(1) for seed in seeds])
        return square.mean(0).sqrt()

    of_the_grid = error(mean_of_the_grid, grid)
    for share, wanted in ((2, "<= 1"), (4, "")):
        ratio = error(lens, grid // share) / of_the_grid
        what = f"SpectralLens, error with 1/{share} of the gradients over the grid's (digits, worst of {N_DIGITS})"
        report(what, f"{ratio.max():.3f}", wanted)
