"""The fundus photographs: what is where, and what the artefact changes."""

import pytest
import torch

from xai_lib.datasets.fundus import LESIONS, SIZE, make_fundus


@pytest.fixture(scope="module")
def photographs():
    return make_fundus(12, 0)


def test_photograph_i_depends_on_the_seed_and_i_alone(photographs):
    again = make_fundus(3, 0)
    for a, b in zip(photographs, again, strict=True):
        assert torch.equal(a[:3], b)
    assert not torch.equal(make_fundus(3, 1).images, again.images)


def test_every_four_hold_each_combination(photographs):
    artefact = photographs.artefacts.flatten(1).any(1).long()
    assert (2 * artefact + photographs.labels).view(3, 4).sort(1).values.tolist() == 3 * [[0, 1, 2, 3]]
    assert photographs.images.shape == (12, 3, SIZE, SIZE) and photographs.images.dtype == torch.float32
    assert photographs.images.min() >= 0 and photographs.images.max() <= 1


def test_lesions_are_those_of_the_diseased_and_spare_the_disc(photographs):
    marked = photographs.lesions.flatten(2).any(2)
    assert torch.equal(marked.any(1).long(), photographs.labels) and photographs.lesions.shape[1] == len(LESIONS)
    assert not (photographs.lesions.any(1) & photographs.discs).any()
    share = photographs.lesions.any(1)[photographs.labels == 1].double().mean((1, 2))
    assert (share < 0.1).all()


def test_lesions_have_the_colours_of_blood_and_fat():
    """Red lesions are darker than what surrounds them in green light, exudates brighter."""
    photographs = make_fundus(24, 3)
    green = photographs.images[:, 1]
    for kind, sign in zip(range(3), (-1, -1, 1), strict=True):
        for image, mask in zip(green, photographs.lesions[:, kind], strict=True):
            if mask.any():
                near = torch.nn.functional.max_pool2d(mask[None].float(), 9, 1, 4)[0].bool() & ~mask
                assert sign * (image[mask].mean() - image[near].mean()) > 0.02


def test_the_artefact_is_bright_lies_on_the_disc_and_is_all_that_changes(photographs):
    with_it, without = make_fundus(8, 0, artefact=True), make_fundus(8, 0, artefact=False)
    assert torch.equal(with_it.labels, photographs.labels[:8]) and torch.equal(with_it.lesions, without.lesions)
    assert with_it.artefacts.flatten(1).any(1).all() and not without.artefacts.any()
    for image, plain, mask, disc in zip(with_it.images, without.images, with_it.artefacts, with_it.discs, strict=True):
        assert image[:, mask].mean() > 0.9 and (mask & disc).sum() > 0.5 * mask.sum()
        far = torch.nn.functional.max_pool2d((mask | disc)[None].float(), 25, 1, 12)[0] == 0
        assert torch.equal(image[:, far], plain[:, far])


def test_outside_the_field_of_view_it_is_dark(photographs):
    corners = photographs.images[:, :, :8, :8]
    assert corners.mean() < 0.02


def test_bad_arguments():
    with pytest.raises(ValueError, match="n is 0, expected at least 1"):
        make_fundus(0, 0)
