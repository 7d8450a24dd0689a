"""What the mask loop costs beside the gradients themselves, and how few gradients the faster solver needs."""

from functools import partial

import pytest
import torch

from tests.benchmarks.conftest import interleaved, median_ratio, needs_gpu, raw_gradients
from xai_lib.datasets.folders import load_cifar10, load_imagenet
from xai_lib.masks import L1, Clusters, Constant, MatchingPursuit, OutputChange
from xai_lib.models import load_model, pick_device
from xai_lib.rate_distortion import RDE, CartoonX, PixelRDE

BATCH, SAMPLES, STEPS = 8, 64, 2
PAPER = {"steps": 2000, "step": 0.003, "samples": 64}
METHODS = {PixelRDE: 0.6, CartoonX: 3.0}


@pytest.mark.parametrize("method", METHODS)
def test_mask_loop_efficiency(method, model, images, report):
    """Gradients a second over the raw rate; noise, transform, solver and the validation of the model are the engine."""
    explain = method(model, L1(1.0, STEPS, n_samples=SAMPLES)).attribute
    engine, raw = interleaved(
        lambda: explain(images[:1], 0, internal_batch_size=BATCH),
        lambda: raw_gradients(model, images[:1].expand(BATCH, -1, -1, -1), STEPS * SAMPLES // BATCH),
    )
    what = f"{method.__name__}, gradients a second over the raw rate (SqueezeNet, 224)"
    report(what, f"{median_ratio(raw, engine):.3f}", ">= 0.75")


@pytest.mark.parametrize("method", METHODS)
def test_many_images_at_once(method, model, images, report):
    explain, images = method(model, L1(1.0, STEPS, n_samples=16)).attribute, images[:4]
    alone, together = interleaved(
        lambda: [explain(x[None], 0, internal_batch_size=BATCH) for x in images],
        lambda: explain(images, 0, internal_batch_size=BATCH),
    )
    what = f"{method.__name__}, time of 4 images one by one over all at once"
    report(what, f"{median_ratio(alone, together):.3f}", ">= 1")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_matching_pursuit_in_one_batch(device, report):
    """40 candidates, a small convolution network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 5, padding=2), torch.nn.ReLU(), torch.nn.Conv2d(16, 1, 5))
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(device)
    labels = (torch.arange(64 * 64, device=device).view(1, 1, 64, 64) // 103 + 1).expand(1, 3, 64, 64)
    net = net.to(device)
    explain = RDE(net, Clusters(labels), Constant(), OutputChange(), MatchingPursuit(5)).attribute
    single, batch = interleaved(  # the choice of an entry waits for the device
        lambda: explain(x, internal_batch_size=1).sum().item(), lambda: explain(x, internal_batch_size=64).sum().item()
    )
    what = f"Matching pursuit, time one candidate at a time over one batch ({device})"
    report(what, f"{median_ratio(single, batch):.3f}", ">= 5" if device == "cuda" else ">= 1")


@pytest.mark.hours
@pytest.mark.needs_data("cifar10/test")
@pytest.mark.needs_data("models/cifar10_cnn.safetensors")
@pytest.mark.parametrize("factor", [1, 5])
@pytest.mark.parametrize("method", METHODS)
def test_fast_solver_against_the_papers(method, factor, report):
    """Objective on 512 fresh samples, over that of the paper's procedure; a larger step alone is the baseline."""
    price = factor * METHODS[method]
    net = load_model("cifar10_cnn")
    images = load_cifar10("test", 16).inputs
    paper = L1(price, PAPER["steps"], PAPER["step"], PAPER["samples"])
    n_gradients = paper.n_steps * paper.n_samples
    third = L1(price, paper.n_steps // 3, 3 * paper.step_size, paper.n_samples)
    solvers = {"paper": paper, "larger step": third, "fast": L1.fast(price), "fast, 800 steps": L1.fast(price, 800)}
    final = {}
    for name, solver in solvers.items():
        _, details = method(net, solver).attribute(images, return_details=True, internal_batch_size=128)
        final[name] = details.distortion + price * details.rate
    for name in list(solvers)[1:]:
        ratio = final[name] / final["paper"]
        share = solvers[name].n_steps * solvers[name].n_samples / n_gradients
        report(
            f"{method.__name__}, lambda {price:g}, {name}: final objective over the paper's, at {share:.2f} of its "
            "gradients (median, mean, worst of 16 images)",
            f"{ratio.median():.3f}, {ratio.mean():.3f}, {ratio.max():.3f}",
            "median <= 1" if name.startswith("fast") else "",
        )


@pytest.mark.hours
@pytest.mark.needs_data("imagenet/val")
@pytest.mark.parametrize("solver", [L1, partial(L1.fast, n_steps=800)], ids=["paper", "fast"])
@pytest.mark.parametrize("photograph", range(16 if torch.cuda.is_available() else 2))
@pytest.mark.parametrize("method", METHODS)
def test_photographs(method, photograph, solver, report):
    """A row each, which keeps its day: with the paper's settings it takes about an hour on a CPU core."""
    device = pick_device()
    network = load_model("squeezenet1_1", device=device)
    image = load_imagenet(32).images[[photograph]].to(device)
    price = METHODS[method]
    chosen = solver(price)
    _, details = method(network, chosen).attribute(image, return_details=True, show_progress=True)
    report(
        f"{method.__name__}, photograph {photograph} of 32 (SqueezeNet, 224), lambda {price:g}, "
        f"{'fast' if chosen.decay else 'paper'}, {chosen.n_steps * chosen.n_samples:,} gradients: objective, rate",
        f"{(details.distortion + price * details.rate).item():.3f}, {details.rate.item():.3f}",
        "",
    )
