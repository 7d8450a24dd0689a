"""Perturbation curves against a plain loop and curves known in closed form."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st

from xai_lib.metrics import deletion, insertion, mean_blur, negative_perturbation, replace_by_rank

ROUNDING = 1e-12


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


IMAGES = rand(3, 2, 4, 5)
MAPS = rand(3, 4, 5, seed=1)
WEIGHTS = rand(3, 40, seed=2) - 0.5


def linear(z):
    return z.flatten(1) @ WEIGHTS.T


def seen(pixel):
    """Two logits whose softmax is 1 for class 0 while the pixel is as bright as at first, and 1/2 without it."""

    def forward(z):
        there = (z.flatten(2)[:, :, pixel] == 1).all(1)
        return torch.where(there, torch.inf, 0.0)[:, None].clamp(max=1e3) * torch.tensor([1.0, 0.0])

    return forward


def test_deletion_and_insertion_are_the_plain_loop():
    got_out = deletion(linear, IMAGES, MAPS, n_steps=7, fill=0.25)
    got_in = insertion(linear, IMAGES, MAPS, n_steps=7, fill=0.25)
    for b, (image, scores) in enumerate(zip(IMAGES, MAPS, strict=True)):
        order = scores.flatten().argsort(descending=True)
        for k in range(8):
            chosen = order[: round(20 * k / 7)]
            without, only = image.flatten(1).clone(), torch.full_like(image.flatten(1), 0.25)
            without[:, chosen], only[:, chosen] = 0.25, image.flatten(1)[:, chosen]
            torch.testing.assert_close(got_out.outputs[b, k], linear(without[None])[0], rtol=0, atol=ROUNDING)
            torch.testing.assert_close(got_in.outputs[b, k], linear(only[None])[0], rtol=0, atol=ROUNDING)
            assert got_out.changed[b, k] == got_in.changed[b, k] == len(chosen) / 20
    assert torch.equal(got_out.predicted, linear(IMAGES).argmax(1)) and torch.equal(got_in.predicted, got_out.predicted)


@pytest.mark.parametrize("rank", [0, 7, 19])
def test_areas_of_a_model_that_sees_one_pixel(rank):
    """The curve steps between 1 and 1/2 when that pixel's turn comes; with one pixel a step the areas are exact."""
    scores = torch.arange(20.0).flip(0).view(1, 4, 5)  # pixel i is the i-th to go
    forward, white = seen(rank), torch.ones(1, 2, 4, 5)
    out = deletion(forward, white, scores, n_steps=20, fill=0.0)
    assert out.probability()[0].tolist() == [1.0] * (rank + 1) + [0.5] * (20 - rank)
    assert out.area().item() == pytest.approx(0.5 + 0.5 * (rank + 0.5) / 20, abs=1e-6)
    back = insertion(forward, white, scores, n_steps=20, fill=0.0)
    assert back.area().item() == pytest.approx(1 - 0.5 * (rank + 0.5) / 20, abs=1e-6)
    assert out.accuracy(torch.tensor([1])).sum() == 0 and out.predicted.tolist() == back.predicted.tolist() == [0]


def test_insertion_is_deletion_of_the_opposite_map_backwards():
    forwards = insertion(linear, IMAGES, MAPS, fill=mean_blur)
    backwards = deletion(linear, IMAGES, -MAPS, fill=mean_blur)
    torch.testing.assert_close(forwards.outputs, backwards.outputs.flip(1), rtol=0, atol=ROUNDING)
    torch.testing.assert_close(forwards.area(), backwards.area(), rtol=0, atol=ROUNDING)


def test_equal_scores_go_together_and_the_area_knows():
    flat = deletion(linear, IMAGES, torch.zeros_like(MAPS), n_steps=5, fill=0.0)
    assert flat.changed.tolist() == [[0, 0, 0, 0, 0, 1]] * 3
    torch.testing.assert_close(flat.area(), flat.probability()[:, [0, -1]].mean(1), rtol=0, atol=ROUNDING)
    two = (MAPS > 0.5).double()
    steps = deletion(linear, IMAGES, two, n_steps=20, fill=0.0).changed
    assert all(set(row.tolist()) == {0.0, float(m), 1.0} for row, m in zip(steps, two.mean((1, 2)), strict=True))


@given(st.floats(0.01, 100), st.floats(-5, 5), st.sampled_from(["cube", "exponential", "linear"]))
def test_only_the_order_of_the_scores_counts(scale, shift, shape):
    rising = {"cube": lambda m: m**3, "exponential": torch.exp, "linear": lambda m: m}[shape]
    plain = deletion(linear, IMAGES, MAPS, n_steps=6, fill=0.0)
    other = deletion(linear, IMAGES, scale * rising(MAPS) + shift, n_steps=6, fill=0.0)
    assert torch.equal(plain.changed, other.changed) and torch.equal(plain.outputs, other.outputs)


def test_many_maps_of_the_same_inputs():
    many = torch.stack([MAPS, -MAPS, MAPS**2 - MAPS])
    together = deletion(linear, IMAGES, many, fill=0.0)
    assert together.outputs.shape == (3, 3, 21, 3) and together.area().shape == (3, 3)
    for maps, area, outputs in zip(many, together.area(), together.outputs, strict=True):
        alone = deletion(linear, IMAGES, maps, fill=0.0)
        torch.testing.assert_close(alone.area(), area, rtol=0, atol=ROUNDING)
        torch.testing.assert_close(alone.outputs, outputs, rtol=0, atol=ROUNDING)
        assert torch.equal(alone.predicted, together.predicted)
    target = torch.tensor([2, 0, 1])
    expected = linear(IMAGES).softmax(1)[torch.arange(3), target]
    torch.testing.assert_close(together.probability(target)[:, :, 0], expected.expand(3, 3))


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_chunks_do_not_matter(rows):
    expected = insertion(linear, IMAGES, MAPS, fill=0.0)
    got = insertion(linear, IMAGES, MAPS, fill=0.0, internal_batch_size=rows)
    torch.testing.assert_close(got.outputs, expected.outputs, rtol=0, atol=ROUNDING)
    assert torch.equal(got.changed, expected.changed)


def test_rows_fill_the_batches():
    batches = []
    deletion(lambda z: (batches.append(len(z)), linear(z))[1], IMAGES, MAPS, n_steps=9, fill=0.0, internal_batch_size=8)
    assert batches == [8, 8, 8, 6]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_erosion_of_what_is_kept(size):
    images, maps = rand(2, 1, 9, 11), rand(2, 9, 11, seed=3)
    shares = torch.linspace(0, 1, 6)
    changed, outputs = replace_by_rank(lambda z: z.flatten(1), images, -1.0, maps, shares, erosion=size)
    for b in range(2):
        order = maps[b].flatten().argsort(descending=True).numpy()
        for k, share in enumerate(shares.tolist()):
            keep = np.ones(99, bool)
            keep[order[: round(99 * share)]] = False
            eroded = scipy.ndimage.binary_erosion(keep.reshape(9, 11), np.ones((size, size)), border_value=1)
            np.testing.assert_array_equal(outputs[b, k].view(9, 11) >= 0, eroded)
            assert changed[b, k] == pytest.approx((~eroded).mean())


def test_tokens_with_padding():
    """Least important first, as negative perturbation wants it: the scores change sign, padding never goes."""
    tokens = torch.tensor([[5, 6, 7, 8], [9, 4, 0, 0]])
    importance = torch.tensor([[0.3, 0.1, 0.2, 0.4], [0.1, 0.2, 9.0, 9.0]])
    scores = (-importance).masked_fill(tokens == 0, -torch.inf)
    shares = torch.tensor([0.0, 0.5, 1.0])
    changed, outputs = replace_by_rank(lambda z: z.float(), tokens, 1, scores, shares)
    assert outputs.int().tolist() == [
        [[5, 6, 7, 8], [5, 1, 1, 8], [1, 1, 1, 1]],
        [[9, 4, 0, 0], [1, 4, 0, 0], [1, 1, 0, 0]],
    ]
    assert changed.tolist() == [[0.0, 0.5, 1.0]] * 2


def test_waves_and_additional_arguments():
    waves = rand(2, 1, 10)
    gain = torch.tensor([1.0, 2.0])
    _, outputs = replace_by_rank(
        lambda z, g: z.sum(2) * g[:, None],
        waves,
        lambda z: z.mean(2, keepdim=True),
        waves[:, 0],
        torch.tensor([0.0, 1.0]),
        additional_forward_args=gain,
        internal_batch_size=1,
    )
    torch.testing.assert_close(outputs[:, 0, 0], outputs[:, 1, 0])
    torch.testing.assert_close(outputs[:, 0, 0], waves.sum((1, 2)) * gain)


def test_mean_blur():
    """Each pixel is the mean over the part of its window inside the image."""
    got = mean_blur(IMAGES, 3)
    for r, c in ((0, 0), (2, 3), (3, 1)):
        window = IMAGES[:, :, max(0, r - 1) : r + 2, max(0, c - 1) : c + 2]
        torch.testing.assert_close(got[:, :, r, c], window.mean((2, 3)))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(mean_blur(torch.full((1, 3, 64, 64), 0.3)), torch.full((1, 3, 64, 64), 0.3))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"maps": MAPS[:2]}, "scores has shape \\(2, 4, 5\\), expected \\(3, 4, 5\\)"),
        ({"maps": IMAGES}, "scores has shape"),
        ({"maps": MAPS * torch.nan}, "scores contains NaN"),
        ({"maps": MAPS + torch.inf}, "scores contains NaN"),
        ({"n_steps": 0}, "n_steps is 0"),
        ({"erosion": 2}, "erosion is 2"),
        ({"erosion": -1}, "erosion is -1"),
        ({"internal_batch_size": 0}, "internal_batch_size is 0"),
    ],
)
def test_bad_arguments_stop_before_any_pass(change, message):
    calls = []
    with pytest.raises(ValueError, match=message):
        deletion(calls.append, **{"inputs": IMAGES, "maps": MAPS, "fill": 0.0, **change})
    assert calls == []


def test_other_errors():
    with pytest.raises(ValueError, match="shares is"):
        replace_by_rank(linear, IMAGES, 0.0, MAPS, torch.tensor([1.5]))
    with pytest.raises(ValueError, match="erosion is 3"):
        replace_by_rank(linear, rand(2, 1, 10), 0.0, rand(2, 10), torch.tensor([1.0]), erosion=3)
    with pytest.raises(ValueError, match="expected \\(classes,\\)"):
        deletion(lambda z: z, IMAGES, MAPS, fill=0.0)


def test_negative_perturbation_takes_the_least_important_first():
    maps = torch.stack([MAPS, -MAPS])
    curves = negative_perturbation(linear, IMAGES, maps, fill=0.0)
    reference = deletion(linear, IMAGES, -maps, n_steps=10, fill=0.0)
    torch.testing.assert_close(curves.outputs, reference.outputs[:, :, 1:10])
    torch.testing.assert_close(curves.changed, torch.arange(1, 10).double().div(10).expand(2, 3, 9))
    labels = torch.tensor([0, 1, 2])
    correct = (reference.outputs[:, :, 1:10].argmax(3) == labels[:, None]).double()
    expected = torch.trapezoid(correct, dx=1 / 8)  # one where the class always stays
    torch.testing.assert_close(curves.area(curves.accuracy(labels)), expected, rtol=0, atol=ROUNDING)
    assert torch.equal(curves.predicted, linear(IMAGES).argmax(1))


def test_negative_perturbation_of_tokens_leaves_padding_alone():
    """Twelve words of which the last two are padding; unknown words (1) take the places of the least important."""
    tokens, scores = torch.arange(2, 14).view(1, 12), torch.arange(12.0).view(1, 12)
    tokens[:, 10:], scores[:, 10:] = 0, -torch.inf
    seen = []

    def counting(t):
        seen.append(t.clone())
        return torch.nn.functional.one_hot(t, 16).sum(1).float()

    curves = negative_perturbation(counting, tokens, scores, fill=1)
    unknown = (torch.cat(seen) == 1).sum(1)
    assert unknown.tolist() == list(range(10)) and (torch.cat(seen)[:, 10:] == 0).all()
    assert (torch.cat(seen)[5, :5] == 1).all() and curves.changed[0, 4] == 0.5
