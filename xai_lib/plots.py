"""One style for all figures, and one way to show an attribution."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from torch import Tensor

SIGNED = "RdBu_r"  # red speaks for the class, blue against it
COLOURS = sns.color_palette("colorblind")
CLIP = 99.5  # percentile of |attribution| at which colours saturate


def use_style() -> None:
    """Set the style of all figures of a notebook."""
    sns.set_theme(context="notebook", style="ticks", palette=COLOURS)
    plt.rcParams.update(
        {
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "figure.constrained_layout.use": True,
            "figure.dpi": 72,  # of the copies inside the notebook
            "image.interpolation": "bicubic",
            "legend.frameon": False,
            "svg.hashsalt": "xai_lib",
        }
    )


def show_image(ax: Axes, image: Tensor, title: str = "") -> AxesImage:
    """Show an image (C, H, W) in [0, 1] without axes."""
    pixels = image.detach().cpu().clamp(0, 1).movedim(0, -1).squeeze(-1).numpy()
    shown = ax.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    return _finish(ax, shown, title)


def show_attribution(ax: Axes, attribution: Tensor, title: str = "", outline: Tensor | None = None) -> AxesImage:
    """Show an attribution (C, H, W), summed over channels: red for the class, blue against it, white at zero.

    Colours saturate at the 99.5th percentile of the absolute values. `outline`, (H, W) bool, is drawn as a thin line.
    """
    values = attribution.detach().cpu().sum(0).numpy()
    limit = float(np.percentile(np.abs(values), CLIP)) or 1.0
    shown = ax.imshow(values, cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest")
    if outline is not None:
        ax.contour(outline.cpu().numpy(), levels=[0.5], colors="0.45", linewidths=0.7)
    return _finish(ax, shown, title)


def show_patch(
    ax: Axes, patch: Tensor, frequencies: Sequence[float], title: str = "", signed: bool = False
) -> AxesImage:
    """Show a log-mel patch (1, frames, bins), or with `signed` its attribution, time to the right and pitch upwards.

    `frequencies` are the bins' in Hz, and label the axis in kHz. Frames are 10 ms.
    """
    values = patch.detach().cpu().sum(0).T.numpy()
    limit = float(np.percentile(np.abs(values), CLIP)) or 1.0
    colours = {"cmap": SIGNED, "vmin": -limit, "vmax": limit} if signed else {"cmap": "magma"}
    shown = ax.imshow(
        values, origin="lower", aspect="auto", extent=(0, values.shape[1] / 100, 0, len(values)), **colours
    )
    ticks = (250, 500, 1000, 2000, 4000)
    ax.set_yticks(np.interp(ticks, frequencies, np.arange(len(frequencies)) + 0.5), [f"{t / 1000:g}" for t in ticks])
    ax.set_xticks((0, 0.5))
    ax.set_title(title)
    return shown


def words_as_html(words: Sequence[str], scores: Tensor) -> HTML:
    """Words on a background that is coloured by their scores, (n,): red for the class, blue against it."""
    spans = (
        f'<span style="background:{to_hex(colour)};padding:0 0.2em;border-radius:0.2em">{escape(word)}</span>'
        for word, colour in zip(words, _word_colours(scores), strict=True)
    )
    return HTML(f'<p style="line-height:1.9;color:black">{" ".join(spans)}</p>')


def show_words(ax: Axes, words: Sequence[str], scores: Tensor, title: str = "", columns: int = 64) -> None:
    """Draw words like `words_as_html`, broken into lines of at most `columns` letters of a typewriter face."""
    size = 148 * ax.figure.get_figwidth() * ax.get_position().width / columns  # points; a letter is 0.6 of it wide
    line, column = 0, 0
    for word, colour in zip(words, _word_colours(scores), strict=True):
        if column and column + len(word) > columns:
            line, column = line + 1, 0
        ax.annotate(
            word,
            (column + len(word) / 2, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, -2.2 * size * (line + 0.5)),  # lines are equally far apart, however high the axes are
            textcoords="offset points",
            family="monospace",
            fontsize=size,
            ha="center",
            va="center_baseline",
            color="black",
            bbox={"boxstyle": "square,pad=0.2", "facecolor": colour, "linewidth": 0},
        )
        column += len(word) + 1
    ax.set_xlim(-0.5, columns + 0.5)
    ax.set_title(title, loc="left")
    ax.set_axis_off()


def word_colour_key(figure: Figure, red: str, blue: str) -> None:
    """Say under words drawn by `show_words` what their colours stand for."""
    strongest = zip(plt.get_cmap(SIGNED)([0.8, 0.2]), (red, blue), strict=True)
    figure.legend(handles=[Patch(color=c, label=meant) for c, meant in strongest], loc="outside lower center", ncols=2)


def _word_colours(scores: Tensor) -> np.ndarray:
    values = scores.detach().cpu().double().numpy()
    return plt.get_cmap(SIGNED)(0.5 + 0.3 * values / (np.abs(values).max() or 1.0))  # not 0.5: black stays readable


def image_grid(rows: int, columns: int, size: float = 1.8, row_labels: Sequence[str] = ()) -> tuple[Figure, np.ndarray]:
    """A grid of square axes without frames, (rows, columns), with a label at the left of each row."""
    figure, axes = plt.subplots(rows, columns, figsize=(columns * size, rows * size), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, label in zip(axes[:, 0], row_labels, strict=False):
        ax.text(-0.06, 0.5, label, transform=ax.transAxes, rotation=90, ha="right", va="center", fontsize=11)
    return figure, axes


def signed_colour_bar(
    figure: Figure, axes: np.ndarray, shown: AxesImage, ends: tuple[str, str] = ("against\nthe class", "for\nthe class")
) -> None:
    """One colour bar for maps that are each scaled to their own range; `ends` say what blue and red stand for."""
    bar = figure.colorbar(shown, ax=axes, shrink=min(1.0, 1.2 / len(axes) ** 0.5), aspect=25, pad=0.01)
    low, high = shown.get_clim()
    bar.set_ticks([low, 0, high], labels=[ends[0], "0", ends[1]])
    bar.outline.set_visible(False)


def attribution_grid(
    images: Tensor,
    attributions: Mapping[str, Tensor],
    titles: Sequence[str] = (),
    outlines: Tensor | None = None,
    size: float = 1.8,
) -> Figure:
    """A column per image (B, C, H, W), a row per method's attributions (B, C, H, W), each map on its own scale."""
    figure, axes = image_grid(len(attributions) + 1, len(images), size, ["input", *attributions])
    for column, image in enumerate(images):
        show_image(axes[0, column], image, titles[column] if titles else "")
        for ax, maps in zip(axes[1:, column], attributions.values(), strict=True):
            shown = show_attribution(ax, maps[column], outline=None if outlines is None else outlines[column])
    signed_colour_bar(figure, axes[1:], shown)
    return figure


def method_grid(image: Tensor, attributions: Mapping[str, Tensor], title: str = "", columns: int = 6) -> Figure:
    """An image (C, H, W) and its attributions (C, H, W) by method side by side, each map on its own scale."""
    rows = -(-(len(attributions) + 1) // columns)
    figure, axes = image_grid(rows, columns, 2.0)
    show_image(axes.flat[0], image, title)
    for ax, (name, attribution) in zip(axes.flat[1:], attributions.items(), strict=False):
        shown = show_attribution(ax, attribution, name)
    signed_colour_bar(figure, axes, shown, ends=("negative", "positive"))  # not all methods know for and against
    return figure


def show_intervals(ax: Axes, y: Sequence[float], table: pd.DataFrame, what: str, **style: Any) -> None:
    """Draw a table's column `what` as points at the heights `y`, with its intervals "`what` low" to "`what` high"."""
    error = np.abs(table[[f"{what} low", f"{what} high"]].to_numpy().T - table[what].to_numpy())
    ax.errorbar(table[what], y, xerr=error, linestyle="", **{"marker": "o"} | style)


def blur_axis(ax: Axes, max_sigma: float) -> None:
    """Make the x axis a blur in pixels that falls from left to right, as the image comes into focus."""
    ticks = [t for t in (0, 1, 3, 10, 30, 100) if t <= max_sigma]
    ax.set(xscale="symlog", xlim=(max_sigma, 0), xlabel="blur $\\sigma$ (pixels)")
    ax.set_xticks(ticks, labels=[str(t) for t in ticks])
    ax.minorticks_off()


def _finish(ax: Axes, shown: AxesImage, title: str) -> AxesImage:
    ax.set_title(title)
    ax.set_axis_off()
    return shown
