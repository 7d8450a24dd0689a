import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from xai_lib.plots import (
    attribution_grid,
    blur_axis,
    method_grid,
    show_attribution,
    show_image,
    show_intervals,
    show_patch,
    show_words,
    use_style,
)


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


def test_attribution_is_the_signed_sum_over_channels_on_a_symmetric_scale():
    attribution = torch.stack([torch.linspace(-1, 3, 100).view(10, 10), torch.ones(10, 10)])
    shown = show_attribution(plt.figure().gca(), attribution)
    np.testing.assert_allclose(shown.get_array(), attribution.sum(0).numpy())
    low, high = shown.get_clim()
    assert low == -high and high == pytest.approx(np.percentile(attribution.sum(0).abs().numpy(), 99.5))


def test_an_attribution_of_zero_is_white():
    shown = show_attribution(plt.figure().gca(), torch.zeros(3, 5, 5), outline=torch.eye(5, dtype=torch.bool))
    assert shown.get_clim() == (-1, 1)


def test_images_are_shown_channels_last_and_grey_ones_too():
    image = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
    assert show_image(plt.figure().gca(), image).get_array().shape == (4, 6, 3)
    assert show_image(plt.figure().gca(), image[:1]).get_array().shape == (4, 6)


def test_grid_has_a_row_per_method_and_a_column_per_image():
    maps = {"a": torch.zeros(4, 3, 8, 8), "b": torch.ones(4, 3, 8, 8)}
    figure = attribution_grid(torch.zeros(4, 3, 8, 8), maps, titles=list("wxyz"))
    assert len(figure.axes) == 3 * 4 + 1  # and the colour bar
    assert [ax.get_title() for ax in figure.axes[:4]] == list("wxyz")


def test_blur_axis_runs_from_coarse_to_fine():
    ax = plt.figure().gca()
    blur_axis(ax, 64.0)
    assert ax.get_xlim() == (64.0, 0.0) and [t.get_text() for t in ax.get_xticklabels()] == ["0", "1", "3", "10", "30"]


def test_intervals_reach_from_low_to_high():
    ax = plt.figure().gca()
    table = pd.DataFrame({"auc": [0.5, 0.8], "auc low": [0.4, 0.75], "auc high": [0.7, 0.9]})
    show_intervals(ax, [1, 0], table, "auc")
    drawn = [line[:, 0].tolist() for line in ax.collections[0].get_segments()]
    np.testing.assert_allclose(drawn, table[["auc low", "auc high"]])


def test_methods_stand_side_by_side():
    figure = method_grid(torch.rand(3, 6, 8), {f"method {i}": torch.rand(3, 6, 8) for i in range(6)}, "cat", columns=4)
    shown = [ax for ax in figure.axes if ax.images and ax.get_title()]
    assert [ax.get_title() for ax in shown] == ["cat", *(f"method {i}" for i in range(6))]
    assert len(figure.axes) == 8 + 1  # with the colour bar


def test_a_patch_has_time_to_the_right_and_low_pitch_below():
    patch = torch.arange(12.0).view(1, 4, 3)  # four frames, three bins
    shown = show_patch(plt.figure().gca(), patch, [250, 1000, 4000])
    assert shown.get_array().shape == (3, 4) and shown.get_extent() == [0, 0.04, 0, 3] and shown.origin == "lower"
    low, high = show_patch(plt.figure().gca(), patch - 5, [250, 1000, 4000], signed=True).get_clim()
    assert low == -high


def test_boxes_of_words_fit_them_however_high_the_axes_are():
    figure, axes = plt.subplots(2, 1, figsize=(8, 6))
    for ax, words in zip(axes, (["not", "dull"], ["not", "dull", "at", "all"] * 4), strict=True):
        show_words(ax, words, torch.linspace(-1, 1, len(words)), columns=20)
    figure.canvas.draw()
    boxes = [[text.get_bbox_patch().get_window_extent() for text in ax.texts] for ax in axes]
    heights = [box.height for some in boxes for box in some]
    assert max(heights) < 1.3 * min(heights)
    assert all(not a.overlaps(b) for some in boxes for i, a in enumerate(some) for b in some[:i])
