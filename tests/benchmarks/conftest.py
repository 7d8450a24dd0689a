"""Benchmarks report ratios measured in one run; `make bench` writes them to a Markdown table."""

import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from itertools import accumulate
from pathlib import Path

import pytest
import torch
import torchvision
from torch.profiler import ProfilerActivity, profile

from xai_lib.reproduce.runner import cores

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
TABLE = Path(__file__).with_name("RESULTS.md")
HEAD = "| what | measured | wanted | day |"
ROUNDS = 7


def interleaved(*functions: Callable[[], object]) -> list[list[float]]:
    """Seconds of each function in `ROUNDS` rounds, taken in turn so that drift of the machine hits all alike."""
    for function in functions:
        function()
    seconds = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, taken in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return seconds


def median_ratio(a: list[float], b: list[float]) -> float:
    """Median over the rounds of a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def squeezenet():
    """With random weights, in the layout in which it is fastest on a CPU."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.squeezenet1_1(num_classes=10).eval()
    return model.to(memory_format=torch.channels_last)


def eight_images():
    return torch.rand(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def raw_gradients(model, images, n, log_probability=False):
    """Gradients at the images, `n` times each, of a logit or log-probability: nothing around them but a copy."""
    for _ in range(n):
        x = images.clone().requires_grad_()
        logits = model(x)
        torch.autograd.grad((logits.log_softmax(1) if log_probability else logits)[:, 0].sum(), x)


def peak_memory(explain, model, images) -> int:
    """Bytes of tensors at most, beyond those there are before.

    What the process holds differs from run to run by more than this does between methods.
    """
    explain(model, images)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        explain(model, images)
    changes = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())))


model, images = pytest.fixture(scope="module")(squeezenet), pytest.fixture(scope="module")(eight_images)


@pytest.fixture(scope="session")
def report():
    """Collects rows (what, measured, wanted); at the end they take the place of their predecessors in the table."""
    torch.set_num_threads(cores())
    rows: dict[str, tuple[str, ...]] = {}
    day = date.today().isoformat()
    yield lambda *row: (rows.update({row[0]: (*row, day)}), print(" | ".join(row)))
    lines = TABLE.read_text().splitlines() if TABLE.exists() else []
    before = (line[2:-2].split(" | ") for line in lines if line.startswith("| ") and line != HEAD)
    earlier = {row[0]: row for row in before}
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    header = f"# Benchmarks\n\nEach row is of one run, ratios of times are medians of {ROUNDS} rounds; {machine}.\n"
    body = (f"| {' | '.join(row)} |" for _, row in sorted((earlier | rows).items()))
    TABLE.write_text("\n".join([header, HEAD, "|---|---|---|---|", *body]) + "\n")
