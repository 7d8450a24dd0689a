"""Scenes: what the seed fixes, what masks, boxes and labels promise, and that a linear model stays weak."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from xai_lib.datasets.scenes import CLASSES, COARSE, FINE, make_scenes, tree_distance


@pytest.fixture(scope="module", params=[1, 2], ids=["one object", "two objects"])
def scenes(request):
    return make_scenes(60, seed=7, objects=request.param)


def test_shapes_types_and_range(scenes):
    n, objects = scenes.labels.shape
    assert scenes.images.shape == (n, 3, 64, 64) and scenes.images.dtype == torch.float32
    assert scenes.masks.shape == (n, objects, 64, 64) and scenes.masks.dtype == torch.bool
    assert scenes.boxes.shape == (n, objects, 4) and scenes.boxes.dtype == torch.int64
    assert scenes.colour_labels.shape == (n, objects) and scenes.colour_labels.dtype == torch.int64
    assert scenes.images.min() >= 0 and scenes.images.max() <= 1
    assert scenes.images.flatten(1).std(1).min() > 0.03


def test_the_seed_and_the_index_fix_a_scene(scenes):
    objects = scenes.labels.shape[1]
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    again = make_scenes(13, seed=7, objects=objects)
    assert torch.equal(state[0], torch.random.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])
    for first, second in zip(scenes, again, strict=True):
        assert torch.equal(first[:13], second)
    assert not torch.equal(make_scenes(1, 8, objects).images, again.images[:1])


def test_every_ten_scenes_hold_each_class_equally_often(scenes):
    for block in scenes.labels.split(10):
        assert torch.equal(block.flatten().bincount(minlength=10), torch.full((10,), block.shape[1]))
    assert scenes.labels.shape[1] == 1 or (scenes.labels[:, 0] != scenes.labels[:, 1]).all()


def test_masks_are_disjoint_and_boxes_enclose_them(scenes):
    assert scenes.masks.sum(1).max() == 1
    for mask, (x0, y0, x1, y1) in zip(scenes.masks.flatten(0, 1), scenes.boxes.flatten(0, 1), strict=True):
        rows, columns = mask.nonzero().T
        assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_objects_stand_out_and_leave_the_centre(scenes):
    for image, masks in zip(scenes.images, scenes.masks, strict=True):
        for mask in masks:
            inside, outside = image[:, mask].mean(1), image[:, ~masks.any(0)].mean(1)
            assert (image[:, mask] - outside[:, None]).norm(dim=0).median() > 0.15, inside
    x0, y0, x1, y1 = scenes.boxes.unbind(-1)
    at_the_border = (x0 == 0) | (y0 == 0) | (x1 == 64) | (y1 == 64)
    assert 0.05 < at_the_border.float().mean() < 0.6


def test_half_of_the_coarse_objects_wear_their_typical_hue(scenes):
    coarse = scenes.labels < len(COARSE)
    assert (scenes.colour_labels[~coarse] == -1).all()
    assert scenes.colour_labels.min() >= -1 and scenes.colour_labels.max() < len(COARSE)
    own = (scenes.colour_labels == scenes.labels)[coarse].float().mean()
    expected, count = 0.5 + 0.5 / 13, coarse.sum()  # one of 13 palette colours in the other half
    assert abs(own - expected) < 4 * (expected * (1 - expected) / count) ** 0.5  # 4 binomial standard errors


def test_conflicting_scenes_wear_another_class_typical_hue():
    scenes = make_scenes(50, seed=3, conflict=True)
    assert torch.equal(scenes.labels.flatten().bincount(), torch.full((5,), 10))
    assert (scenes.colour_labels != scenes.labels).all()
    assert set(scenes.colour_labels.flatten().tolist()) == set(COARSE)
    red = scenes.colour_labels[:, 0] == 0
    for image, mask in zip(scenes.images[red], scenes.masks[red, 0], strict=True):
        colour = image[:, mask].mean(1)
        assert colour.argmax() == 0 and colour[0] > 1.3 * colour[1:].max()


@pytest.mark.parametrize("arguments", [{"objects": 3}, {"objects": 2, "conflict": True}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="objects must be 1 or 2"):
        make_scenes(1, 0, **arguments)


def test_tree_distances():
    index = {name: i for i, name in enumerate(CLASSES)}
    steps = {("disk", "disk"): 0, ("disk", "crescent"): 2, ("dots", "grain"): 2, ("disk", "square"): 4}
    steps |= {("stripes", "rings"): 4, ("cross", "stripes"): 6}
    for (a, b), expected in steps.items():
        assert tree_distance(index[a], index[b]) == tree_distance(index[b], index[a]) == expected
    labels = torch.arange(10)
    table = tree_distance(labels[:, None], labels)
    assert table.shape == (10, 10) and (table[: len(COARSE), FINE[0] :] == 6).all()
    assert torch.equal(table, tree_distance(labels.numpy()[:, None], labels.numpy()))
    with pytest.raises(ValueError, match="negative"):
        tree_distance(torch.tensor([0, -1]), 3)


def test_a_linear_model_on_pixels_stays_below_sixty_percent():
    scenes = make_scenes(1200, seed=11)
    x, y = scenes.images[:, :, ::2, ::2].flatten(1).numpy(), scenes.labels[:, 0].numpy()
    accuracy = RidgeClassifier(alpha=100).fit(x[:900], y[:900]).score(x[900:], y[900:])
    assert accuracy < 0.6
