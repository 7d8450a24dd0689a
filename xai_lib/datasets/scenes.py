"""Scenes: 64 x 64 colour images of one or two lit objects on real textures, with masks and boxes.

Ten classes under a label tree. Five coarse classes (disk, square, triangle, cross, crescent) are told apart
only by their silhouette; their surface is plain, a gradient or mottled. Five fine classes (stripes, checks,
dots, rings, grain) are told apart only by the pattern on a random blob. Every coarse class has a typical hue,
worn by half of its objects; the other half take any palette colour: colour is a cue, silhouette decides.

The backgrounds are photographs that scikit-image installs with itself (brick, grass, gravel, and the table of
`coffee`), so nothing is downloaded. Ridge classification of the raw pixels, trained on 8,000 scenes, is right on
22 % of 1,000 others (chance: 10 %).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from skimage import data
from torch import Tensor

SIZE = 64  # pixels per side
CLASSES = ("disk", "square", "triangle", "cross", "crescent", "stripes", "checks", "dots", "rings", "grain")
COARSE = (0, 1, 2, 3, 4)
FINE = (5, 6, 7, 8, 9)
TREE = {
    "object": {
        "silhouette": {"round": ("disk", "crescent"), "angular": ("square", "triangle", "cross")},
        "pattern": {"lattice": ("stripes", "checks"), "spotted": ("dots", "rings", "grain")},
    }
}

PALETTE = {  # sRGB; the first five are the typical hues of the coarse classes, in their order
    "red": (0.85, 0.20, 0.20),
    "blue": (0.18, 0.40, 0.86),
    "gold": (0.97, 0.76, 0.14),
    "green": (0.16, 0.62, 0.32),
    "violet": (0.55, 0.30, 0.74),
    "orange": (0.95, 0.52, 0.18),
    "pink": (0.96, 0.64, 0.76),
    "teal": (0.14, 0.60, 0.64),
    "sky": (0.62, 0.82, 0.96),
    "lime": (0.68, 0.82, 0.28),
    "cream": (0.97, 0.93, 0.84),
    "silver": (0.72, 0.74, 0.78),
    "charcoal": (0.22, 0.23, 0.26),
}
_PALETTE = np.array(list(PALETTE.values()), np.float32)

# texture, source pixels per scene pixel, colours of its dark, middle and light parts
_BACKGROUNDS = (
    ("brick", (1.3, 2.0), ((0.22, 0.10, 0.09), (0.45, 0.22, 0.18), (0.78, 0.64, 0.56))),
    ("brick", (1.3, 2.0), ((0.12, 0.13, 0.14), (0.30, 0.31, 0.33), (0.62, 0.62, 0.61))),
    ("grass", (1.0, 1.7), ((0.10, 0.17, 0.04), (0.36, 0.47, 0.17), (0.74, 0.80, 0.47))),
    ("grass", (1.0, 1.7), ((0.25, 0.19, 0.08), (0.60, 0.51, 0.31), (0.92, 0.86, 0.66))),
    ("gravel", (1.3, 2.2), ((0.14, 0.14, 0.15), (0.46, 0.46, 0.48), (0.82, 0.82, 0.82))),
    ("gravel", (1.3, 2.2), ((0.36, 0.27, 0.18), (0.69, 0.59, 0.46), (0.94, 0.88, 0.77))),
    ("wood", (0.6, 0.9), ((0.34, 0.14, 0.05), (0.68, 0.37, 0.17), (0.96, 0.74, 0.52))),
    ("wood", (0.6, 0.9), ((0.10, 0.06, 0.04), (0.29, 0.18, 0.12), (0.52, 0.39, 0.29))),
)

_SUPERSAMPLING = 3
_HEIGHT = 0.75**0.5  # of an equilateral triangle of side 1


class Scenes(NamedTuple):
    """n scenes of `objects` objects each; coordinates are pixels, x to the right and y downwards."""

    images: Tensor  # (n, 3, 64, 64) float32 in [0, 1]
    labels: Tensor  # (n, objects) int64, indices into CLASSES
    colour_labels: Tensor  # (n, objects) int64: the coarse class whose typical hue it wears, or -1
    masks: Tensor  # (n, objects, 64, 64) bool: the visible pixels of each object, without shadows; disjoint
    boxes: Tensor  # (n, objects, 4) int64: x0, y0, x1, y1 of the mask, half-open


def make_scenes(n: int, seed: int, objects: int = 1, conflict: bool = False) -> Scenes:
    """Draw n scenes of 1 or 2 objects (of different classes); every ten scenes hold each class equally often.

    Scene i depends on (seed, objects, conflict, i) alone. With `conflict` every scene shows one coarse object
    in the typical hue of another coarse class. Patterned objects have two colours, hence colour label -1.
    Raises ValueError when `objects` is neither 1 nor 2, or is 2 with `conflict`.
    """
    if objects not in (1, 2) or (conflict and objects == 2):
        raise ValueError(f"objects must be 1 or 2, and 1 with conflict=True; got {objects=}, {conflict=}")
    drawn = [_scene(seed, i, objects, conflict) for i in range(n)]
    images, labels, colour_labels, masks = (torch.from_numpy(np.stack(p)) for p in zip(*drawn, strict=True))
    return Scenes(images, labels, colour_labels, masks, _boxes(masks))


def tree_distance(a: int | np.ndarray | Tensor, b: int | np.ndarray | Tensor) -> Tensor:
    """Steps up from both labels to their lowest common ancestor in TREE, summed: 0, 2, 4 or 6 (int64)."""
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    if (a < 0).any() or (b < 0).any():
        raise ValueError("labels must be indices into CLASSES, got a negative one")
    return _TREE_DISTANCES.to(a.device)[a, b.to(a.device)]


_PATHS = {
    leaf: (leaf, group, kind)
    for kind, groups in TREE["object"].items()
    for group, leaves in groups.items()
    for leaf in leaves
}
_TREE_DISTANCES = torch.tensor(
    [[2 * sum(p != q for p, q in zip(_PATHS[a], _PATHS[b], strict=True)) for b in CLASSES] for a in CLASSES]
)


def _boxes(masks: Tensor) -> Tensor:
    """(..., H, W) bool, none empty -> (..., 4) int64 half-open boxes."""
    columns, rows = masks.any(-2).int(), masks.any(-1).int()
    first = [line.argmax(-1) for line in (columns, rows)]
    last = [line.shape[-1] - line.flip(-1).argmax(-1) for line in (columns, rows)]
    return torch.stack([*first, *last], -1)


def _scene(seed: int, i: int, objects: int, conflict: bool) -> tuple[np.ndarray, ...]:
    """Image (3, 64, 64), labels, colour labels and masks of scene i, redrawn until all objects stand out."""
    block = np.random.default_rng([seed, objects, conflict, 0, i // 10])
    order = block.permutation(np.tile(COARSE, 2) if conflict else len(CLASSES))
    labels = order[(i + block.integers(1, 10) * np.arange(objects)) % 10]
    rng = np.random.default_rng([seed, objects, conflict, 1, i])
    colours = [_colour(label, conflict, rng) for label in labels]
    colour_labels = np.where(np.maximum(labels, colours) < len(COARSE), colours, -1)
    while (rendered := _render(labels, colours, rng)) is None:
        pass
    image, masks = rendered
    return image, labels, colour_labels, masks


def _colour(label: int, conflict: bool, rng: np.random.Generator) -> int:
    """Index into the palette of the object's main colour."""
    if conflict:
        return (label + rng.integers(1, 5)) % 5
    return label if label in COARSE and rng.random() < 0.5 else rng.integers(len(_PALETTE))


def _render(labels: np.ndarray, colours: list[int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """One attempt at a scene: image and masks, or None when objects overlap or blend into the background."""
    azimuth, elevation = np.deg2rad(rng.uniform((-150, 38), (-30, 60)))  # from above, as the eye expects
    light = np.array([np.cos(azimuth), np.sin(azimuth), np.tan(elevation)], np.float32)
    light /= np.linalg.norm(light)

    radius = rng.uniform(*((9.5, 12.5) if len(labels) == 2 else (11.5, 18.5)), len(labels)).astype(np.float32)
    margin = 0.6 * radius  # so that some objects reach over the border
    centre = rng.uniform(margin, SIZE - margin, (2, len(labels))).T.astype(np.float32)
    if len(labels) == 2 and np.linalg.norm(centre[0] - centre[1]) < 1.05 * radius.sum():
        return None

    background = image = _background(rng)
    masks = []
    for label, colour, r, c in zip(labels, colours, radius, centre, strict=True):
        rgb, alpha = _object(label, colour, r, c, light, rng)
        mask = alpha > 0.5
        around = ndimage.binary_dilation(mask, iterations=4) & ~mask
        contrast = np.linalg.norm(rgb[:, mask] - background[:, around].mean(1, keepdims=True), axis=0)
        if np.quantile(contrast, 0.25) < 0.25:  # the quartile, so that neither colour of a pattern blends in
            return None
        image = image * _shadow(alpha, r, light) * (1 - alpha) + rgb
        masks.append(mask)

    y, x = np.indices((SIZE, SIZE)) / SIZE - 0.5
    image = image * (1 + 0.25 * (light[0] * x + light[1] * y))  # the light falls off across the scene
    image = image + rng.normal(0, 0.012, (1, SIZE, SIZE)) + rng.normal(0, 0.008, image.shape)  # sensor noise
    return np.clip(image, 0, 1).astype(np.float32), np.stack(masks)


@lru_cache
def _texture(name: str, blur: float) -> np.ndarray:
    """A grey photograph (H, W) of mean 0 and standard deviation 1, smoothed by `blur` px against aliasing."""
    grey = data.coffee()[190:400, 492:600].mean(-1) if name == "wood" else getattr(data, name)()
    smooth = ndimage.gaussian_filter(grey.astype(np.float32), blur)
    if name == "wood":
        smooth -= ndimage.gaussian_filter(smooth, 24)  # the table's own light and shade
    return (smooth - smooth.mean()) / smooth.std()


def _background(rng: np.random.Generator) -> np.ndarray:
    """(3, 64, 64): a turned, scaled, tinted and slightly defocused piece of a texture."""
    name, scales, tint = _BACKGROUNDS[rng.integers(len(_BACKGROUNDS))]
    scale, angle = rng.uniform(*scales), rng.uniform(0, 2 * np.pi)
    texture = _texture(name, 0.4 * scales[0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    reach = 0.71 * SIZE * scale
    middle = rng.uniform(reach, np.array(texture.shape) - reach)
    offset = middle - turn @ np.full(2, SIZE / 2)
    piece = ndimage.affine_transform(texture, turn, offset, (SIZE, SIZE), order=1)
    piece = ndimage.gaussian_filter(piece, rng.uniform(0.3, 0.7))
    tone = rng.uniform(0.6, 1.0) * piece + rng.uniform(-0.25, 0.25)
    image = np.stack([np.interp(tone, (-2, 0, 2), channel) for channel in zip(*tint, strict=True)])
    return rng.uniform(0.9, 1.1) * image


def _shadow(alpha: np.ndarray, radius: float, light: np.ndarray) -> np.ndarray:
    """(64, 64) factor by which an object of coverage `alpha` darkens what lies under and behind it."""
    away = -0.3 * radius * light[1::-1] / light[2]  # (y, x)
    cast = ndimage.gaussian_filter(ndimage.shift(alpha, away, order=1, mode="nearest"), 0.12 * radius)
    contact = ndimage.gaussian_filter(alpha, 1.0)
    return (1 - 0.5 * cast) * (1 - 0.45 * contact)


def _object(
    label: int, colour: int, radius: float, centre: np.ndarray, light: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Colour times coverage (3, 64, 64) and coverage (64, 64) of a lit object; `centre` is (x, y)."""
    columns, rows = (slice(max(0, int(c - radius) - 1), int(c + radius) + 2) for c in centre)
    x, y = _subpixels(columns) - centre[0], _subpixels(rows)[:, None] - centre[1]
    angle = np.float32(rng.uniform(0, 2 * np.pi))
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    depth = _depth(label, u, v, radius, rng)
    coverage = np.clip(_SUPERSAMPLING * depth + 0.5, 0, 1)
    mix = _pattern(CLASSES[label], u, v, rng) if label in FINE else _surface(u / radius, rng)

    first = np.clip(_PALETTE[colour] + rng.normal(0, 0.025, 3), 0, 1).astype(np.float32)
    second = _partner(first, rng) if label in FINE else _shade(first, rng)
    albedo = first[:, None, None] + mix * (second - first)[:, None, None]

    bevel = radius * rng.uniform(0.2, 0.7)
    height = bevel * rng.uniform(0.5, 0.8) * np.sqrt(1.05 - np.clip(1 - depth / bevel, 0, 1) ** 2)
    slope_y, slope_x = np.gradient(height, 1 / _SUPERSAMPLING)
    diffuse, glint = (
        np.maximum(d[2] - slope_x * d[0] - slope_y * d[1], 0) / np.sqrt(1 + slope_x**2 + slope_y**2)
        for d in (light, _halfway(light))
    )
    lit = albedo * (0.4 + 0.6 * diffuse / light[2]) + rng.uniform(0.1, 0.5) * glint ** rng.uniform(15, 50)

    rgb, alpha = np.zeros((3, SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), np.float32)
    rgb[:, rows, columns], alpha[rows, columns] = _shrink(np.clip(lit, 0, 1) * coverage), _shrink(coverage)
    return rgb, alpha


def _subpixels(pixels: slice) -> np.ndarray:
    """Centres of the subpixels of a range of pixels within the frame, in px."""
    start, stop = _SUPERSAMPLING * pixels.start, _SUPERSAMPLING * min(pixels.stop, SIZE)
    return (np.arange(start, stop, dtype=np.float32) + 0.5) / _SUPERSAMPLING


def _shrink(fine: np.ndarray) -> np.ndarray:
    """(..., H, W) -> (..., H / 3, W / 3), by averaging."""
    *batch, height, width = fine.shape
    k = _SUPERSAMPLING
    return fine.reshape(*batch, height // k, k, width // k, k).mean((-3, -1))


def _halfway(light: np.ndarray) -> np.ndarray:
    """Unit vector halfway between the light and the eye, which looks straight down."""
    half = light + np.array([0, 0, 1], np.float32)
    return half / np.linalg.norm(half)


def _depth(label: int, u: np.ndarray, v: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Distance in px to the outline, positive inside; no silhouette reaches further than `radius`."""
    r = np.hypot(u, v)
    match CLASSES[label]:
        case "disk":
            return 0.88 * radius - r
        case "square":
            return 0.7 * radius - np.maximum(abs(u), abs(v))
        case "triangle":
            return 0.5 * radius - np.maximum(-v, 0.5 * v + _HEIGHT * abs(u))
        case "cross":
            arm, length = rng.uniform(0.26, 0.34) * radius, 0.93 * radius
            long, short = np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
            return np.minimum(length - long, arm - short)
        case "crescent":
            bite = np.hypot(u - rng.uniform(0.4, 0.55) * radius, v) - 0.74 * radius
            return np.minimum(0.95 * radius - r, bite)
    lobes = [0.64 * radius - r]
    for direction in (np.float32(2.1) * np.arange(3) + rng.uniform(-0.6, 0.6, 3)).astype(np.float32):
        size, out = rng.uniform(0.35, 0.5) * radius, np.float32(0.45) * radius
        lobes.append(size - np.hypot(u - out * np.cos(direction), v - out * np.sin(direction)))
    soft = np.float32(0.08) * radius
    return soft * np.log(np.exp(np.array(lobes) / soft).sum(0))


def _pattern(name: str, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In [0, 1]: how much of the second colour the pattern shows where; periods of 3.8 to 7.2 px."""
    period = rng.uniform(3.8, 7.2)
    k = 2 * np.pi / period
    pu, pv = k * u + rng.uniform(0, 2 * np.pi), k * v + rng.uniform(0, 2 * np.pi)
    match name:
        case "stripes":
            wave = np.cos(pu)
        case "checks":
            wave = np.cos(0.75 * pu) * np.cos(0.75 * pv)
        case "dots":  # three plane waves make a triangular lattice of round spots
            wave = np.cos(pv) + np.cos(0.5 * pv + _HEIGHT * pu) + np.cos(0.5 * pv - _HEIGHT * pu) - 0.4
        case "rings":
            wave = np.cos(k * np.hypot(u - rng.uniform(-3, 3), v - rng.uniform(-3, 3)))
        case "grain":
            wave = _noise(u.shape, 0.25 * period, rng)
    return np.clip(0.5 + 2.0 * wave, 0, 1)


def _surface(across: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In [0, 1]: plain, a gradient along `across` (in units of the radius), or mottled."""
    match rng.integers(3):
        case 0:
            return np.zeros_like(across)
        case 1:
            return np.clip(0.5 + 0.6 * across, 0, 1)
        case _:
            return np.clip(0.35 + 0.3 * _noise(across.shape, rng.uniform(0.8, 2.0), rng), 0, 1)


def _noise(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Noise on subpixels of standard deviation 1, with periods around four times `scale` px."""
    white = rng.standard_normal([side // _SUPERSAMPLING for side in shape], np.float32)
    narrow, wide = (ndimage.gaussian_filter(white, s, mode="wrap") for s in (scale, 2 * scale))
    band = narrow - wide
    return ndimage.zoom(band / band.std(), _SUPERSAMPLING, order=1)


def _luminance(rgb: np.ndarray) -> np.ndarray:
    return rgb @ np.array([0.3, 0.59, 0.11])


def _partner(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A palette colour that differs enough in luminance for a pattern of the two to be seen."""
    distinct = _PALETTE[abs(_luminance(_PALETTE) - _luminance(colour)) > 0.25]
    return distinct[rng.integers(len(distinct))]


def _shade(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A lighter or darker shade of the colour, so that its hue stays."""
    return colour + rng.uniform(0.35, 0.55) * (rng.integers(2) - colour)
