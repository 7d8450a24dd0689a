"""Baselines on the engine are tested with it; here those that Captum computes."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.problems import PROBLEMS, X
from xai_lib.baselines import (
    BASELINES,
    RISE,
    XRAI,
    GradCAM,
    IntegratedGradients,
    KernelSHAP,
    Occlusion,
    contrast_map,
)
from xai_lib.blur_ig import BlurIG

ROUNDING = 1e-5  # Captum casts its integration weights to float32


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


IMAGES = rand(3, 3, 4, 5)
WEIGHTS = rand(2, 60) - 0.5


def linear(z):
    return z.flatten(1) @ WEIGHTS.T


@pytest.mark.parametrize("baseline", BASELINES)
def test_linear_is_weight_times_difference(baseline):
    method = IntegratedGradients(linear, baseline, output="score")
    starts = torch.stack(method.baselines(IMAGES)).mean(0)
    attribution, delta = method.attribute(IMAGES, 1, n_steps=3, return_convergence_delta=True)
    torch.testing.assert_close(attribution, WEIGHTS[1].view(3, 4, 5) * (IMAGES - starts), rtol=ROUNDING, atol=ROUNDING)
    assert delta.abs().max() < ROUNDING


def test_completeness_of_the_probability():
    _, delta = IntegratedGradients(linear, "black+white").attribute(IMAGES, n_steps=200, return_convergence_delta=True)
    assert delta.abs().max() < ROUNDING


def test_grey_baseline_attributes_colour_only():
    grey = IMAGES.mean(1, keepdim=True).expand_as(IMAGES)
    got = IntegratedGradients(linear, "grey").attribute(grey, 0)
    assert got.abs().max() < 1e-15


def test_random_baselines_follow_the_seed_and_serve_every_input():
    method = IntegratedGradients(linear, "random")
    first, again, other = (method.baselines(IMAGES, 4, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)) and not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1]) and torch.equal(first[0][0], first[0][2])
    assert min(b.min() for b in first) >= 0 and max(b.max() for b in first) <= 1


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_integrated_gradients_of_known_functions(problem):
    nodes, weights = np.polynomial.legendre.leggauss(40)  # exact to rounding for these smooth integrands
    share = torch.from_numpy((nodes + 1) / 2)
    exact = X * sum(w / 2 * problem.gradient(s * X) for s, w in zip(share, weights, strict=True))
    got = IntegratedGradients(problem.forward, output="score").attribute(X, n_steps=400)
    torch.testing.assert_close(got, exact, rtol=0, atol=5e-6)  # midpoint rule: of order 1 / 400^2


@pytest.mark.parametrize("baseline", BASELINES)
def test_grouping_does_not_matter(baseline):
    explain = IntegratedGradients(linear, baseline).attribute
    together = explain(IMAGES, [0, 1, 0])
    alone = torch.cat([explain(IMAGES[i : i + 1], [0, 1, 0][i]) for i in range(3)])
    small = explain(IMAGES, [0, 1, 0], internal_batch_size=2)
    for other in (alone, small):
        torch.testing.assert_close(other, together, rtol=1e-10, atol=1e-12)


def cam_network():
    """One positive feature map, the red channel, read by global average pooling."""
    convolution = nn.Conv2d(3, 1, 1, bias=False)
    convolution.weight.data = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    head = nn.Linear(1, 2, bias=False)
    head.weight.data = torch.tensor([[2.0], [-2.0]])
    return nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).double().eval()


@pytest.mark.parametrize("layer", ["0", 0, None])
def test_grad_cam_weights_the_map_by_its_mean_gradient(layer):
    model = cam_network()
    cam = GradCAM(model, model[layer] if isinstance(layer, int) else layer)  # the pooled map is not the last one
    expected = (2 / 20) * IMAGES[:, :1]  # gradient of the mean over 20 positions, times 2
    got = cam.attribute(IMAGES, 0, internal_batch_size=2)
    torch.testing.assert_close(got.sum(1, keepdim=True), expected)
    assert got.shape == IMAGES.shape and not got.requires_grad
    assert (cam.attribute(IMAGES, 1) == 0).all()
    assert not any(m._forward_hooks for m in model.modules())


def test_grad_cam_enlarges_a_coarse_map():
    model = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), *cam_network()).double()
    got = GradCAM(model, "0").attribute(IMAGES, 0)
    assert got.shape == IMAGES.shape and len(got[0, 0].unique()) > 6


def test_occlusion_of_a_linear_model_is_the_mean_loss_of_the_patches():
    got = Occlusion(linear, output="score").attribute(IMAGES, 1, patch=2, stride=2, value=0.5, internal_batch_size=3)
    loss = (WEIGHTS[1].view(3, 4, 5) * (IMAGES - 0.5)).sum(1)
    patches = [loss[:, r : r + 2, c : c + 2].sum((1, 2)) for r in (0, 2) for c in (0, 2, 4)]
    expected = torch.stack(patches, 1).view(3, 2, 3).repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :, :5]
    torch.testing.assert_close(got.sum(1), expected, rtol=ROUNDING, atol=ROUNDING)
    assert got.shape == IMAGES.shape


class Given:
    """A method whose attribution is known."""

    def __init__(self, attribution):
        self.attribution = attribution

    def attribute(self, inputs, target=None, **settings):
        return self.attribution.expand_as(inputs)


def two_halves():
    """A dark and a bright half, 64 pixels a side, and an attribution that favours the right one."""
    image = torch.zeros(1, 3, 64, 64)
    image[..., 32:] = 1
    attribution = torch.linspace(0, 1, 64).expand(1, 1, 64, 64) + torch.tensor([0.0, 0.5]).repeat_interleave(32)
    return image, attribution


def test_xrai_ranks_the_segment_that_holds_more():
    image, attribution = two_halves()
    got = XRAI(Given(attribution)).attribute(image).sum(1)[0]
    assert got.shape == (64, 64)
    left, right = got[:, :28], got[:, 36:]  # clear of the dilated borders
    assert right.min() > left.max()
    assert len(got.unique()) < 16  # regions, not pixels, are ranked


def test_xrai_ranks_regions_by_any_method():
    """Of a network that looks at the right half only, BlurIG is zero at the left; so are the regions there."""
    image, attribution = two_halves()
    image = image * 0.5 + attribution / 4  # something to blur on either side
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2, bias=False))
    with torch.no_grad():
        network[1].weight.zero_()[0].view(3, 64, 64)[:, :, 36:] = 1
    got = XRAI(BlurIG(network, "score")).attribute(image, 0, n_steps=2, max_sigma=4.0).sum(1)[0]
    base = BlurIG(network, "score").attribute(image, 0, n_steps=2, max_sigma=4.0)
    assert torch.equal(XRAI(None).rank(image, base).sum(1)[0], got)
    assert (got[:, :28] == 0).all() and got[:, 40:].abs().max() > 0


def test_xrai_covers_the_image_and_ranks_maps_alone_as_together():
    image = rand(1, 3, 48, 40).float()
    got = XRAI(Given(rand(1, 1, 48, 40).float())).attribute(image).sum(1)[0]
    assert got.isfinite().all() and len(got.unique()) > 1
    both = XRAI(None).rank(
        image, torch.stack([rand(1, 1, 48, 40).float(), -rand(1, 1, 48, 40).float()]).expand(2, 1, 3, -1, -1)
    )
    assert torch.equal(both[0].sum(1)[0], got) and not torch.equal(both[1], both[0])
    masks = XRAI(Given(None)).segments(image[0])
    assert masks.shape[1:] == (48, 40) and masks.any(0).all()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"patch": 0}, "patch is 0"),
        ({"patch": 2.5}, "patch is 2.5"),
        ({"patch": 6}, "patch is 6 and stride 3"),
        ({"patch": 2, "stride": 3}, "patch is 2 and stride 3"),
        ({"patch": 2, "stride": 0}, "stride is 0"),
        ({"patch": 2, "value": float("nan")}, "value is nan"),
    ],
)
def test_occlusion_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        Occlusion(linear).attribute(IMAGES, 0, **settings)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n_steps": 0}, "n_steps is 0"),
        ({"n_steps": 1}, "expected at least 2"),
        ({"n_steps": 2.5}, "n_steps is"),
        ({"n_random": 0}, "n_random"),
    ],
)
def test_integrated_gradients_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        IntegratedGradients(linear, "random").attribute(IMAGES, 0, **settings)


def test_errors():
    with pytest.raises(TypeError, match="inputs is a tuple"):
        IntegratedGradients(linear).attribute((IMAGES, IMAGES), 0)
    with pytest.raises(ValueError, match="layer gives a map of shape"):
        GradCAM(cam_network(), "3").attribute(IMAGES, 0)
    with pytest.raises(ValueError, match="baseline is 'blue'"):
        IntegratedGradients(linear, "blue")
    with pytest.raises(ValueError, match="layer is 'features'"):
        GradCAM(cam_network(), "features")
    with pytest.raises(ValueError, match="layer is None, expected a module of the model"):
        GradCAM(nn.Sequential(nn.Flatten(), nn.Linear(60, 2)).double()).attribute(IMAGES, 0)
    with pytest.raises(TypeError, match=r"forward_func is a function, expected an nn\.Module"):
        GradCAM(linear)


@pytest.mark.parametrize("method", [Occlusion, RISE, KernelSHAP])
def test_what_hides_parts_of_images_takes_images(method):
    with pytest.raises(ValueError, match=r"inputs has shape \(3, 60\), expected images"):
        method(linear).attribute(IMAGES.flatten(1), 0)
    with pytest.raises(TypeError, match="inputs is a tuple, expected images"):
        method(linear).attribute((IMAGES,), 0)


def test_contrast_is_the_distance_from_the_mean_colour():
    image = torch.zeros(1, 3, 2, 2)
    image[0, :, 0, 0] = torch.tensor([0.4, 0.8, 0.8])  # 1.2 from black
    got = contrast_map(image)
    assert got.shape == image.shape
    expected = torch.full((2, 2), 0.3)  # the mean lies a quarter of the way
    expected[0, 0] = 0.9
    assert torch.allclose(got.sum(1)[0], expected)


def rise_masks(n, grid=3, keep=0.4, seed=5):
    return torch.stack([RISE.mask(IMAGES, grid, keep, seed, k) for k in range(n)])


def test_rise_is_the_mean_output_weighted_by_the_masks():
    masks = rise_masks(50)
    values = torch.stack([linear(0.3 + m * (IMAGES - 0.3)).softmax(1)[:, 1] for m in masks])
    expected = (values[:, :, None, None] * masks[:, None]).sum(0) / masks.sum(0)
    got = RISE(linear).attribute(IMAGES, 1, n_samples=50, grid=3, keep=0.4, value=0.3, seed=5, internal_batch_size=7)
    torch.testing.assert_close(got.sum(1), expected, rtol=1e-12, atol=0)
    assert got.shape == IMAGES.shape


def test_rise_of_a_constant_is_constant():
    got = RISE(lambda z: torch.full((len(z), 2), 0.7, dtype=z.dtype), "score").attribute(IMAGES, 0, n_samples=20)
    torch.testing.assert_close(got.sum(1), torch.full_like(got[:, 0], 0.7))


def test_rise_finds_the_only_pixel_that_counts():
    """f = z at one pixel: the map is E[m_0 m_i] / E[m_i], largest where the masks are that of the pixel itself."""
    white = torch.ones(1, 1, 12, 12, dtype=torch.float64)
    got = RISE(lambda z: z[:, 0, 8, 3], "score").attribute(white, n_samples=2000, grid=4)[0, 0]
    row, column = divmod(int(got.argmax()), 12)
    assert abs(row - 8) <= 1 and abs(column - 3) <= 1
    assert got[0, 11] == pytest.approx(0.5, abs=0.06)  # independent cells: E[m_0], 4 standard errors at 2000 masks


def test_rise_masks_show_what_they_should():
    masks = rise_masks(4000)
    assert masks.min() >= 0 and masks.max() <= 1 and masks.shape == (4000, 4, 5)
    error = (0.4 * 0.6 / 4000) ** 0.5  # of a Bernoulli mean; bilinear masks vary less
    assert (masks.mean(0) - 0.4).abs().max() < 4.5 * error


@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_rise_does_not_depend_on_grouping(rows):
    together = RISE(linear).attribute(IMAGES, [0, 1, 0], n_samples=30)
    small = RISE(linear).attribute(IMAGES, [0, 1, 0], n_samples=30, internal_batch_size=rows)
    alone = RISE(linear).attribute(IMAGES[1:2], 1, n_samples=30)
    torch.testing.assert_close(small, together, rtol=1e-12, atol=0)
    torch.testing.assert_close(alone, together[1:2], rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "settings, message",
    [({"n_samples": 0}, "n_samples is 0"), ({"grid": 0}, "grid is 0"), ({"keep": 1.0}, "keep is 1.0")],
)
def test_rise_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        RISE(linear).attribute(IMAGES, 0, **settings)


@pytest.mark.parametrize("grid", [1, 5])
def test_kernel_shap_errors(grid):
    with pytest.raises(ValueError, match=f"grid is {grid}, expected at least 2"):
        KernelSHAP(linear).attribute(IMAGES, 0, grid=grid)


def test_kernel_shap_of_a_linear_model_is_what_each_patch_adds():
    state = torch.get_rng_state()
    got = KernelSHAP(linear, "score").attribute(IMAGES, 1, grid=3, n_samples=60, value=0.3)
    assert torch.equal(torch.get_rng_state(), state)
    alone = torch.cat(
        [KernelSHAP(linear, "score").attribute(i[None], 1, grid=3, n_samples=60, value=0.3) for i in IMAGES]
    )
    torch.testing.assert_close(got, alone, rtol=0, atol=1e-12)
    gain = (WEIGHTS[1].view(3, 4, 5) * (IMAGES - 0.3)).sum(1)
    patch = torch.arange(9.0).view(1, 1, 3, 3)
    patch = torch.nn.functional.interpolate(patch, IMAGES.shape[2:], mode="nearest")[0, 0]
    for k in range(9):
        expected = gain[:, patch == k].sum(1, keepdim=True).expand(-1, int((patch == k).sum()))
        torch.testing.assert_close(got.sum(1)[:, patch == k], expected, rtol=1e-3, atol=1e-4)  # fitted in float32
