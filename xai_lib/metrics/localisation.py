"""How well attribution maps find what is known to be right."""

import numpy as np
import pandas as pd
import scipy.ndimage
import scipy.stats
import torch
from numpy.typing import ArrayLike
from torch import Tensor

RUN = 2**22  # pixels that are sorted at once


def outline_concentration(maps: ArrayLike, masks: ArrayLike, width: int = 2, margin: int = 6) -> np.ndarray:
    """How strongly non-negative maps (B, H, W) lie on the outlines of the objects `masks`, (B, H, W) bool: (B,).

    The share of the map around the object (mask and `margin` pixels) that lies within `width` pixels of the outline,
    over the share of the area that does: 1 for a map without preference.
    """
    maps, masks = np.asarray(maps, dtype=float), np.asarray(masks, dtype=bool)
    structure = scipy.ndimage.generate_binary_structure(2, 1)[None]  # images do not touch each other
    grown, around = (scipy.ndimage.binary_dilation(masks, structure, n) for n in (width, margin))
    shrunk = scipy.ndimage.binary_erosion(masks, structure, width, border_value=1)
    outline = grown & ~shrunk

    def share(x: np.ndarray) -> np.ndarray:
        return (x * outline).sum((1, 2)) / (x * around).sum((1, 2))

    return share(maps) / share(np.ones_like(maps))


def localisation(maps: ArrayLike, masks: ArrayLike) -> pd.DataFrame:
    """How well maps (..., B, H, W) find the pixels of `masks`, (B, H, W) bool: a row per map, for Table 1 of paper 3.

    Pixels inside the mask are positive, those outside negative. "auc" is the area under the ROC curve of the map as a
    score; "f1" the largest F1 and "mae" the least mean absolute error of the map binarised at any threshold; "hit"
    the share of the map's highest pixels that lie inside (the pointing game; one pixel, unless there are ties).
    Rows come in the order of the maps: the last of the leading axes, the images, runs fastest.

    Raises:
        ValueError: the shapes do not fit, a map is not finite, or a mask is empty or full.
    """
    maps, masks = (np.asarray(a) for a in (maps, masks))
    if masks.ndim != 3 or maps.shape[-3:] != masks.shape:
        raise ValueError(f"maps has shape {maps.shape} and masks {masks.shape}, expected (..., B, H, W) and (B, H, W).")
    if not np.isfinite(maps).all():
        raise ValueError("maps contains NaN or infinity, expected finite values.")
    n = masks.shape[1] * masks.shape[2]
    score, inside = maps.reshape(-1, n), masks.reshape(-1, n).astype(bool)
    if not inside.any(1).all() or inside.all(1).any():
        raise ValueError("masks has an empty or a full mask, expected pixels inside and outside.")
    runs = np.array_split(np.arange(len(score)), -(-score.size // RUN))
    measures = [_measures(score[run].astype(float), inside[run % len(inside)]) for run in runs]
    return pd.DataFrame(np.concatenate(measures), columns=["auc", "f1", "mae", "hit"])


def _measures(score: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The four columns of `localisation` for scores (m, n) of pixels that lie inside or not, (m, n) bool: (m, 4)."""
    n, positive = score.shape[1], inside.sum(1, keepdims=True)
    ranks = scipy.stats.rankdata(score, axis=1)
    auc = ((ranks * inside).sum(1, keepdims=True) - positive * (positive + 1) / 2) / (positive * (n - positive))
    order = np.argsort(-score, axis=1, kind="stable")
    sorted_score = np.take_along_axis(score, order, 1)
    hits = np.take_along_axis(inside, order, 1).cumsum(1)  # true positives among the k highest
    k = np.arange(1, n + 1)
    cut = np.diff(sorted_score, axis=1, append=-np.inf) != 0  # a threshold cannot part equal scores
    f1 = np.where(cut, 2 * hits / (k + positive), 0).max(1)
    errors = np.where(cut, k + positive - 2 * hits, n).min(1)
    errors = np.minimum(errors, positive[:, 0])  # of marking nothing
    highest = score == score.max(1, keepdims=True)
    hit = (highest & inside).sum(1) / highest.sum(1)
    return np.stack([auc[:, 0], f1, errors / n, hit], 1)


def box_masks(boxes: Tensor, height: int, width: int) -> Tensor:
    """The pixels inside any box of an image, (n, height, width) bool.

    `boxes`, (n, k, 4), are k half-open boxes per image, x0, y0, x1, y1 in pixels; an empty one adds nothing.
    """
    x0, y0, x1, y1 = boxes[..., None, None].unbind(2)
    y, x = torch.arange(height)[:, None], torch.arange(width)
    return ((x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)).any(1)


def mass_inside(maps: ArrayLike, masks: ArrayLike) -> np.ndarray:
    """Share of the positive values of maps (B, ...) that lies inside `masks`, (B, ...) bool: (B,); NaN without any."""
    positive = np.clip(np.asarray(maps, dtype=float), 0, None).reshape(len(maps), -1)
    inside = np.asarray(masks, dtype=bool).reshape(len(maps), -1)
    with np.errstate(invalid="ignore"):
        return (positive * inside).sum(1) / positive.sum(1)


def effective_share(maps: ArrayLike, masks: ArrayLike) -> np.ndarray:
    """Over how large a share of the features in `masks`, (B, ...) bool, the absolute values of maps spread: (B,).

    `exp(H) / n` with the entropy H of the absolute values as a distribution over the n features: 1 if all are equal,
    1 / n if one has all.
    """
    inside = np.asarray(masks, dtype=bool).reshape(len(maps), -1)
    size = np.abs(np.asarray(maps, dtype=float)).reshape(len(maps), -1) * inside
    share = size / size.sum(1, keepdims=True)
    return np.exp(scipy.stats.entropy(share, axis=1)) / inside.sum(1)
