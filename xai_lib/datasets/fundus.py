"""Fundus photographs of 128 x 128 pixels: generated retinas with and without lesions, whose pixels are known.

A retina has an optic disc, the macula, arteries and veins that leave the disc in arcades and branch, uneven light
and sensor noise. A diseased one also has lesions of one to three kinds: microaneurysms (dark red dots),
haemorrhages (dark red blots) and hard exudates (clusters of small yellow spots). On half of the retinas, diseased or
not, the camera has oversaturated part of the optic disc: a bright artefact that says nothing about the disease, as in
figure 8 of paper 3.

Lengths are in units of the radius of the field of view unless said otherwise; x points to the right, y downwards.
"""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import ndimage
from torch import Tensor

SIZE = 128  # pixels per side
CLASSES = ("healthy", "retinopathy")
LESIONS = ("microaneurysms", "haemorrhages", "hard exudates")

_RADIUS = 61.0  # of the field of view, in pixels
_SUPERSAMPLING = 4  # of the vessels
_DISC = 0.16  # radius
_STEP = 0.02  # of a growing vessel


class Fundus(NamedTuple):
    """n photographs; every four hold each combination of lesions and artefact once."""

    images: Tensor  # (n, 3, 128, 128) float32 in [0, 1]
    labels: Tensor  # (n,) int64, indices into CLASSES
    lesions: Tensor  # (n, 3, 128, 128) bool, the pixels of each of LESIONS
    artefacts: Tensor  # (n, 128, 128) bool, the oversaturated pixels
    discs: Tensor  # (n, 128, 128) bool, the optic disc


class _Eye(NamedTuple):
    """What does not depend on disease or camera."""

    x: np.ndarray  # (128, 128) coordinates of the pixels
    y: np.ndarray
    disc: tuple[float, float]  # centre
    fovea: tuple[float, float]


def make_fundus(n: int, seed: int, artefact: bool | None = None) -> Fundus:
    """Draw n photographs; number i depends on (seed, i) alone.

    `artefact=True` or `False` puts the artefact on every photograph or on none and leaves the rest as it is, so that
    its effect on a network can be measured.

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}, expected at least 1.")
    drawn = [_photograph(seed, i, artefact) for i in range(n)]
    return Fundus(*(torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True)))


def _photograph(seed: int, i: int, artefact: bool | None) -> tuple[np.ndarray, ...]:
    """Image, label, masks of lesions, of the artefact and of the disc."""
    combination = np.random.default_rng([seed, 0, i // 4]).permutation(4)[i % 4]
    diseased, saturated = combination % 2, combination > 1 if artefact is None else artefact
    anatomy, disease, camera = (np.random.default_rng([seed, part, i]) for part in (1, 2, 3))
    eye, image = _retina(anatomy)
    lesions = np.zeros((len(LESIONS), SIZE, SIZE))
    if diseased:
        image, lesions = _with_lesions(image, eye, disease)
    image, glare = _photographed(image, eye, saturated, camera)
    on_disc = np.hypot(eye.x - eye.disc[0], eye.y - eye.disc[1]) < _DISC
    return image.astype(np.float32), np.int64(diseased), lesions > 0.4, glare, on_disc


def _retina(rng: np.random.Generator) -> tuple[_Eye, np.ndarray]:
    """A healthy retina under even light, (3, 128, 128)."""
    middle = SIZE / 2 - 0.5 + rng.uniform(-1.5, 1.5, 2)
    y, x = (np.indices((SIZE, SIZE)) - middle[:, None, None]) / _RADIUS
    side = rng.choice((-1, 1))  # a left or a right eye
    disc = (side * rng.uniform(0.50, 0.68), rng.uniform(-0.16, 0.10))
    fovea = (disc[0] - side * rng.uniform(0.66, 0.74), disc[1] + rng.uniform(0.02, 0.12))
    eye = _Eye(x, y, disc, fovea)

    skin = np.array((0.88, 0.40, 0.25)) * np.exp(rng.normal(0, (0.04, 0.12, 0.12)))
    texture = ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)), (5, 3)) * 10
    texture = 0.04 * texture + 0.02 * ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)), 1.2) * 4
    image = skin[:, None, None] * (1 + texture * np.array((0.6, 1.0, 1.2))[:, None, None])

    r = np.hypot(x - fovea[0], y - fovea[1])
    shade = 0.26 * np.exp(-((r / rng.uniform(0.2, 0.28)) ** 2)) + 0.16 * np.exp(-((r / 0.07) ** 2))
    image = image * (1 - shade * np.array((0.55, 1.0, 0.9))[:, None, None])

    image = _with_disc(image, eye, rng)
    for tint, coverage in _vessels(eye, rng):
        image = image * (1 - coverage * (1 - np.array(tint)[:, None, None]))
    return eye, image


def _with_disc(image: np.ndarray, eye: _Eye, rng: np.random.Generator) -> np.ndarray:
    """The optic disc: pale, with a brighter cup, and a soft halo around it."""
    stretch, tilt = rng.uniform(1.0, 1.15), rng.uniform(0, np.pi)
    dx, dy = eye.x - eye.disc[0], eye.y - eye.disc[1]
    u, v = np.cos(tilt) * dx + np.sin(tilt) * dy, np.cos(tilt) * dy - np.sin(tilt) * dx
    r = np.hypot(u * stretch, v) / _DISC
    halo = 0.14 * np.exp(-((r / 1.9) ** 2))
    rim, cup = (1 / (1 + np.exp((r - edge) / soft)) for edge, soft in ((0.95, 0.07), (rng.uniform(0.35, 0.55), 0.09)))
    image = image * (1 + halo)
    for share, colour in ((0.9 * rim, (0.99, 0.76, 0.50)), (0.75 * cup, (1.0, 0.93, 0.74))):
        image = image + share * (np.array(colour)[:, None, None] - image)
    return image


def _vessels(eye: _Eye, rng: np.random.Generator) -> list[tuple[tuple[float, ...], np.ndarray]]:
    """Tints by which light is multiplied where covered, and coverages (128, 128): arteries, veins, reflexes."""
    pieces: list[_Piece] = []
    for vein in (False, True):
        width = rng.uniform(0.028, 0.037) if vein else rng.uniform(0.020, 0.027)
        for up in (-1, 1):
            arcade = np.pi / 2 - rng.uniform(0.0, 0.3), -rng.uniform(1.0, 1.7)  # heading and its change per length
            nasal = np.pi / 2 + rng.uniform(0.3, 1.0), rng.uniform(-0.4, 0.6)
            for (heading, bend), share, length in ((arcade, 1.0, 2.1), (nasal, 0.7, 1.2)):
                start = 0.02 * rng.standard_normal(2)
                pieces += _grow(start, up * heading, up * bend, share * width, length, vein, eye, rng)
    for heading in rng.uniform(-1, 1, 4) + np.pi * np.array((0, 0, 1, 1)):  # small ones straight from the disc
        pieces += _grow(np.zeros(2), heading, 0.0, 0.013, rng.uniform(0.3, 0.6), rng.random() < 0.5, eye, rng)

    k = _SUPERSAMPLING
    arteries, veins, reflexes = layers = [Image.new("L", (k * SIZE, k * SIZE)) for _ in range(3)]
    side = np.sign(eye.fovea[0] - eye.disc[0])
    origin = np.array(eye.disc) - (eye.x[0, 0], eye.y[0, 0])
    for points, width, vein in sorted(pieces, key=lambda piece: piece.width):  # the wide ones on top
        line = (k * (_RADIUS * (points * (side, 1) + origin) + 0.5)).ravel().tolist()
        pixels = k * _RADIUS * width
        shade = int(255 * min(1.0, 0.4 + 0.15 * pixels))
        ImageDraw.Draw(veins if vein else arteries).line(line, shade, max(1, round(pixels)), joint="curve")
        if not vein and pixels > 5:
            ImageDraw.Draw(reflexes).line(line, 255, round(0.3 * pixels), joint="curve")
    coverages = [np.asarray(layer, float).reshape(SIZE, k, SIZE, k).mean((1, 3)) / 255 for layer in layers]
    tints = (0.84, 0.55, 0.60), (0.70, 0.38, 0.48), (1.15, 1.35, 1.25)
    return list(zip(tints, coverages, strict=True))


class _Piece(NamedTuple):
    """A short stretch of a vessel: points (m, 2) from the disc, x towards the fovea."""

    points: np.ndarray
    width: float
    vein: bool


def _grow(
    start: np.ndarray,
    heading: float,
    bend: float,
    width: float,
    length: float,
    vein: bool,
    eye: _Eye,
    rng: np.random.Generator,
) -> list[_Piece]:
    """A vessel that starts with that heading, which changes by `bend` per length at first, and all its branches."""
    t = np.arange(0, length, _STEP)
    wobble = ndimage.gaussian_filter1d(rng.standard_normal(len(t)), 5, mode="constant") * 0.9
    headings = heading + bend * np.minimum(t, 0.8) + np.cumsum(wobble * _STEP * 4)
    points = start + np.cumsum(_STEP * np.stack([np.cos(headings), np.sin(headings)], 1), 0)
    side = np.sign(eye.fovea[0] - eye.disc[0])
    fovea = np.array((abs(eye.fovea[0] - eye.disc[0]), eye.fovea[1] - eye.disc[1]))
    outside = np.hypot(side * points[:, 0] + eye.disc[0], points[:, 1] + eye.disc[1]) > 1.1
    stop = np.append(outside | (np.linalg.norm(points - fovea, axis=1) < 0.15), True).argmax()
    taper = width * (1 - 0.55 * t / length)

    pieces = [_Piece(points[i : i + 6], taper[i], vein) for i in range(0, stop - 1, 5)]
    if width < 0.007:
        return pieces
    for at in np.flatnonzero(rng.random(stop) < 3.6 * _STEP):
        turn = rng.choice((-1, 1)) * rng.uniform(0.4, 0.9)
        share, reach = rng.uniform(0.45, 0.7), rng.uniform(0.25, 0.5)
        branch = headings[at] + turn, -0.8 * turn, share * taper[at], reach * length
        pieces += _grow(points[at], *branch, vein, eye, rng)
    return pieces


def _with_lesions(image: np.ndarray, eye: _Eye, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The retina with lesions of one to three kinds, and the coverage of each kind, (3, 128, 128)."""
    kinds = rng.permutation(3)[: rng.integers(1, 4)]
    coverage = np.zeros((3, SIZE, SIZE))
    if 0 in kinds:
        for _ in range(rng.integers(5, 13)):
            coverage[0] = np.maximum(coverage[0], _blot(eye, _place(eye, rng), rng.uniform(0.019, 0.027), 0.1, rng))
    if 1 in kinds:
        for _ in range(rng.integers(2, 6)):
            coverage[1] = np.maximum(coverage[1], _blot(eye, _place(eye, rng), rng.uniform(0.035, 0.075), 0.9, rng))
    if 2 in kinds:
        for _ in range(rng.integers(1, 4)):
            centre, spread = _place(eye, rng), rng.uniform(0.05, 0.11)
            for _ in range(rng.integers(4, 14)):
                spot = centre + spread * rng.standard_normal(2)
                coverage[2] = np.maximum(coverage[2], _blot(eye, spot, rng.uniform(0.014, 0.032), 0.5, rng))
    blood = rng.uniform((0.55, 0.28, 0.30), (0.75, 0.50, 0.52))[:, None, None]
    fat = np.array((0.99, 0.88, 0.52))[:, None, None]
    image = image * (1 - np.maximum(coverage[0], coverage[1]) * (1 - blood))
    return image + rng.uniform(0.5, 0.9) * coverage[2] * (fat - image), coverage


def _place(eye: _Eye, rng: np.random.Generator) -> np.ndarray:
    """A place for a lesion inside the field of view and clear of the optic disc."""
    while True:
        place = rng.uniform(-0.85, 0.85, 2)
        if np.hypot(*place) < 0.85 and np.hypot(*(place - eye.disc)) > 1.7 * _DISC:
            return place


def _blot(eye: _Eye, centre: np.ndarray, radius: float, ragged: float, rng: np.random.Generator) -> np.ndarray:
    """Coverage (128, 128) of a roundish spot whose outline wavers by `ragged`."""
    dx, dy = eye.x - centre[0], eye.y - centre[1]
    angle = np.arctan2(dy, dx)
    waves = sum(a * np.cos(m * angle + p) for m, (a, p) in enumerate(rng.uniform((-0.18, 0), (0.18, 6.3), (3, 2)), 2))
    depth = radius * (1 + ragged * waves) - np.hypot(dx, dy)
    return np.clip(0.5 + depth * _RADIUS, 0, 1)


def _photographed(
    image: np.ndarray, eye: _Eye, saturated: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """What the camera makes of a retina: uneven light, glare where asked for, the field of view, noise."""
    r, direction = np.hypot(eye.x, eye.y), rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0.05, 0.22) * (np.cos(direction) * eye.x + np.sin(direction) * eye.y)
    light = rng.uniform(0.85, 1.05) * (1.06 - 0.3 * r**2 + slope)
    image = image * np.maximum(light, 0)

    at, radius = eye.disc + _DISC * rng.uniform(-0.45, 0.45, 2), rng.uniform(0.055, 0.085)
    core = saturated * _blot(eye, at, radius, 0.8, rng)
    bloom = ndimage.gaussian_filter(core, 2.5)
    image = image + (core + 0.5 * bloom) * (1.0 - image)

    image = ndimage.gaussian_filter(image, (0, 0.45, 0.45)) * np.clip((1 - r) * _RADIUS, 0, 1)
    image = image + rng.normal(0, 0.010, (1, SIZE, SIZE)) + rng.normal(0, 0.008, image.shape)
    return np.clip(image, 0, 1), core > 0.5
