"""What the filter costs beside what it filters, and the choice of the cut-off beside its forward passes."""

from functools import partial

import captum.attr
import torch

from tests.benchmarks.conftest import interleaved, median_ratio
from xai_lib.forgrad import FORGrad, low_pass, optimal_cutoff
from xai_lib.metrics import faithfulness, mean_blur
from xai_lib.outputs import batch_size

SIGMAS = (1, 2, 4, 6, 9, 13, 20, 31, 47, 73, 90, 112)


def test_filtering_is_cheap(model, images, report):
    saliency = captum.attr.Saliency(model)
    maps = saliency.attribute(images, target=0, abs=False)

    def filter_ten_times():  # one after the other: ten results at once would measure the allocation of their memory
        for _ in range(10):
            low_pass(maps, 15)

    filtered, plain = interleaved(filter_ten_times, lambda: saliency.attribute(images, target=0, abs=False))
    cost = median_ratio(filtered, plain) / 10
    report("FORGrad, time of the filter over the saliency it filters (SqueezeNet, 224)", f"{cost:.4f}", "<= 0.02")
    assert FORGrad(saliency, 15).attribute(images[:1], 0).shape == (1, 3, 224, 224)


def test_the_cut_off_costs_its_forward_passes(model, images, report):
    n_images, n_steps = 2, 5
    metric = partial(faithfulness, fill=mean_blur, n_steps=n_steps)
    x = images[:n_images]

    def forward_passes():
        rows = len(SIGMAS) * n_images * 2 * (n_steps + 1)
        with torch.no_grad():
            for batch in images[0].expand(rows, -1, -1, -1).split(batch_size((images,), None)):  # as the metric
                model(batch.contiguous())

    search, raw = interleaved(
        lambda: optimal_cutoff(captum.attr.Saliency(model), model, x, 0, metric=metric, sigmas=SIGMAS), forward_passes
    )
    report("optimal_cutoff, 12 cut-offs: share of forward passes", f"{median_ratio(raw, search):.3f}", ">= 0.85")
