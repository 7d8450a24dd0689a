"""FORGrad: the filter's algebra, its laws under noise, and where the high frequencies of known networks come from."""

import captum.attr
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.problems import Logged
from xai_lib.baselines import IntegratedGradients, SmoothGrad
from xai_lib.blur_ig import BlurIG
from xai_lib.forgrad import (
    FORGrad,
    bernstein_bound,
    control_gradients,
    default_cutoffs,
    first_order_residual,
    kept_energy_law,
    kept_frequencies,
    layer_profile,
    low_pass,
    optimal_cutoff,
    with_average_pooling,
)
from xai_lib.metrics import deletion, high_frequency_power, insertion, mean_blur

ROUNDING = 1e-12
SIZES = [(8, 8), (9, 9), (8, 12), (7, 10), (16, 5)]


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, tolerance=ROUNDING):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def by_definition(maps, sigma, disk=False):
    """The mask of section A on the centred spectrum, entry by entry, and the transforms of numpy."""
    height, width = maps.shape[-2:]
    i, j = np.arange(height)[:, None] - height // 2, np.arange(width) - width // 2
    mask = np.hypot(i, j) <= sigma if disk else (abs(i) <= sigma) & (abs(j) <= sigma)
    spectrum = np.fft.fftshift(np.fft.fft2(maps.numpy()), axes=(-2, -1)) * mask
    filtered = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(-2, -1)))
    assert abs(filtered.imag).max() < ROUNDING
    return torch.from_numpy(filtered.real)


@pytest.mark.parametrize("disk", [False, True], ids=["square", "disk"])
@pytest.mark.parametrize("sigma", [0, 0.5, 1, 2, 3, 3.9, 4, 5])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_low_pass_is_its_definition(size, sigma, disk):
    maps = rand(3, 2, *size)
    close(low_pass(maps, sigma, disk), by_definition(maps, sigma, disk))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_ends_of_the_cut_off(size):
    maps = rand(2, *size)
    close(low_pass(maps, 0), maps.mean((1, 2), keepdim=True).expand_as(maps))
    close(low_pass(maps, max(size) / 2), maps)
    close(low_pass(maps, 1e6), maps)


@pytest.mark.parametrize("disk", [False, True])
def test_a_filter_that_keeps_everything_changes_nothing(disk):
    """Not even by rounding: equal scores stay equal."""
    maps = rand(2, 3, 13, 50).float().relu()
    for layout in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(low_pass(maps.contiguous(memory_format=layout), (3, 26), disk)[1], maps)


def test_the_mean_alone_is_the_same_number_everywhere():
    """Not up to rounding: equal scores go together in a perturbation."""
    flat = low_pass(rand(2, 13, 50).float(), (0, 3))[0].flatten(1)
    assert torch.equal(flat, flat[:, :1].expand_as(flat))


def test_formats_and_precision():
    maps = rand(2, 3, 9, 12).float()
    expected = low_pass(maps.double(), 2).float()
    close(low_pass(maps.to(memory_format=torch.channels_last), 2), expected, 1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        close(low_pass(maps, 2), expected, 1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_low_pass_is_an_orthogonal_projection(size):
    a, b = rand(2, *size), rand(2, *size, seed=1)
    for sigma in (0, 1, 2, 4):
        once = low_pass(a, sigma)
        close(low_pass(once, sigma), once)
        close(low_pass(once, sigma + 1), once)
        close((low_pass(a, sigma) * b).sum(), (a * low_pass(b, sigma)).sum(), 1e-10)
        close(low_pass(2 * a - 3 * b, sigma), 2 * once - 3 * low_pass(b, sigma))
        close(once.square().sum() + (a - once).square().sum(), a.square().sum(), 1e-10)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_parseval(size):
    maps = rand(1, *size)
    spectrum = torch.fft.fft2(low_pass(maps, 2))
    close(spectrum.abs().square().sum() / maps.numel(), low_pass(maps, 2).square().sum(), 1e-10)


@settings(max_examples=40)
@given(st.integers(-9, 9), st.integers(-9, 9), st.sampled_from(SIZES), st.integers(0, 6))
def test_commutes_with_circular_shifts(down, right, size, sigma):
    maps = rand(1, *size)
    shifted = low_pass(maps.roll((down, right), (1, 2)), sigma)
    close(shifted, low_pass(maps, sigma).roll((down, right), (1, 2)))


@pytest.mark.parametrize("frequency", [(0, 3), (3, 0), (3, 3), (-3, 2), (1, 3)])
def test_sinusoids_pass_or_vanish(frequency):
    rows, columns = torch.arange(15).double()[:, None], torch.arange(18).double()
    wave = torch.cos(2 * torch.pi * (frequency[0] * rows / 15 + frequency[1] * columns / 18) + 0.4)[None]
    top = max(abs(f) for f in frequency)
    close(low_pass(wave, top), wave)
    close(low_pass(wave, top - 1), torch.zeros_like(wave))


def test_many_cut_offs_from_one_transform():
    maps, sigmas = rand(2, 3, 9, 12), (0, 2, 5.5, 1)
    together = low_pass(maps, sigmas)
    assert together.shape == (4, 2, 3, 9, 12)
    for one, sigma in zip(together, sigmas, strict=True):
        close(one, low_pass(maps, sigma))


# The method.


class Convolution(nn.Module):
    """Two layers and a class score per output channel, differentiable everywhere."""

    def __init__(self, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Softplus(), nn.Conv2d(4, classes, 3, padding=1))
        self.double()

    def forward(self, x):
        return self.net(x).square().mean((2, 3))


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        return Convolution().eval()


IMAGES = rand(4, 2, 12, 10, seed=3)


@pytest.mark.parametrize(
    "method",
    [
        lambda f: captum.attr.InputXGradient(f),
        lambda f: captum.attr.IntegratedGradients(f),
        lambda f: SmoothGrad(f),
        lambda f: BlurIG(f, output="score"),
    ],
)
def test_forgrad_filters_any_method(model, method):
    plain, filtered = method(model), FORGrad(method(model), 2)
    expected = low_pass(plain.attribute(IMAGES, target=1), 2)
    close(filtered.attribute(IMAGES, target=1), expected)
    close(FORGrad(method(model), 6).attribute(IMAGES, 1), plain.attribute(IMAGES, target=1))
    close(expected.sum(1), low_pass(plain.attribute(IMAGES, target=1).sum(1), 2))


def test_completeness_survives(model):
    plain = BlurIG(model, output="score").attribute(IMAGES, 0)
    filtered, delta = FORGrad(BlurIG(model, output="score"), 1).attribute(IMAGES, 0, return_convergence_delta=True)
    close(filtered.sum((1, 2, 3)), plain.sum((1, 2, 3)))
    assert delta.shape == (4,)


def test_tuples_in_tuples_out(model):
    pair = (IMAGES, IMAGES.flip(2))
    method = captum.attr.IntegratedGradients(lambda a, b: model(a) + model(b))
    plain, filtered = (m.attribute(pair, target=0) for m in (method, FORGrad(method, 2)))
    for a, b in zip(plain, filtered, strict=True):
        close(b, low_pass(a, 2))
    filtered, delta = FORGrad(method, 2).attribute(pair, target=0, return_convergence_delta=True)
    close(filtered[1], low_pass(plain[1], 2))
    assert delta.shape == (4,)


def test_xplique_variant(model):
    method = captum.attr.Saliency(model)
    plain = method.attribute(IMAGES, target=0, abs=False)
    got = FORGrad(method, 3, variant="xplique").attribute(IMAGES, 0, abs=False)
    close(got.sum(1), by_definition(plain.mean(1).abs(), 3, disk=True).abs())
    assert got.shape == plain.shape


class Fixed:
    """A method that returns given maps (B, C, H, W), and counts how often it is asked."""

    def __init__(self, maps):
        self.maps, self.asked = maps, 0

    def attribute(self, inputs, target=None):
        self.asked += 1
        return self.maps


def test_optimal_cutoff_finds_the_band_of_the_signal(model):
    """The metric is the correlation with a band-limited map; the method returns that map under white noise."""
    signal = low_pass(rand(6, 32, 32), 5)
    noisy = Fixed((signal + 0.5 * signal.std() * rand(6, 32, 32, seed=1))[:, None])

    def metric(model, images, maps, target):
        return (maps * signal).sum((-2, -1)) / (maps.flatten(-2).norm(dim=-1) * signal.flatten(1).norm(dim=1))

    images = rand(6, 2, 32, 32)
    found = optimal_cutoff(noisy, model, images, metric=metric, sigmas=(16, 3, 4, 5, 6, 8))
    assert found.sigma == 5 and found.sigmas == (3, 4, 5, 6, 8, 16) and found.scores.shape == (6, 6)
    assert noisy.asked == 1
    close(found.scores[-1], metric(model, images, noisy.maps[:, 0], None))


def test_default_metric_is_insertion_minus_deletion(model):
    maps = rand(4, 1, 12, 10)
    found = optimal_cutoff(Fixed(maps), model, IMAGES, [0, 1, 2, 0], sigmas=(2, 6))
    curves = [f(model, IMAGES, maps[:, 0], fill=mean_blur) for f in (insertion, deletion)]
    inserted, deleted = (c.area(c.probability(torch.tensor([0, 1, 2, 0]))) for c in curves)
    close(found.scores[1], inserted - deleted)


def test_equal_faithfulness_filters_least(model):
    flat = optimal_cutoff(
        Fixed(IMAGES), model, IMAGES, metric=lambda model, images, maps, target: torch.ones(len(maps), 4)
    )
    assert flat.sigma == 6 and flat.sigmas == default_cutoffs(IMAGES)


def test_default_cutoffs_end_without_a_filter():
    assert default_cutoffs(torch.zeros(1, 3, 224, 200)) == (1, 2, 4, 6, 9, 13, 20, 31, 47, 73, 112)
    assert default_cutoffs(torch.zeros(1, 3, 8, 9), 5) == (1, 2, 3, 4)


# Propositions.


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_proposition_a2(size):
    """A band-limited gradient under noise: the error after filtering is the filtered noise, and smaller than it."""
    clean, noise = low_pass(rand(5, *size), 2), rand(5, *size, seed=1)
    error = low_pass(clean + noise, 2) - clean
    close(error, low_pass(noise, 2))
    assert (error.flatten(1).norm(dim=1) <= noise.flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("sigma", [0, 1, 2, 2.5, 3, 4, 5, 8])
def test_number_of_kept_frequencies(size, sigma):
    """The trace of the projection: each unit map's own share in its filtered copy, summed."""
    units = torch.eye(size[0] * size[1], dtype=torch.float64).view(-1, *size)
    trace = (low_pass(units, sigma) * units).sum()
    assert kept_frequencies(*size, sigma) == pytest.approx(float(trace), abs=1e-9)


@pytest.mark.parametrize("size, sigma", [((16, 16), 3), ((15, 12), 2), ((9, 9), 0), ((8, 6), 3)])
def test_kept_energy_of_white_noise_is_beta(size, sigma):
    noise = rand(4000, *size)
    share = (low_pass(noise, sigma).square().sum((1, 2)) / noise.square().sum((1, 2))).numpy()
    assert scipy.stats.kstest(share, kept_energy_law(*size, sigma).cdf).pvalue > 1e-6


def test_law_of_a_4_is_a_bound_where_the_printed_one_is_not():
    """Scalar signs: P(|mean| >= t) is a binomial tail; H = W = 1, L = 1, V = 1/n."""
    n = 100
    for t in (0.1, 0.2, 0.3, 0.4):
        k = np.arange(n + 1)
        exact = scipy.stats.binom.pmf(k, n, 0.5)[np.abs(2 * k / n - 1) >= t - 1e-12].sum()
        assert exact <= bernstein_bound(t, 1 / n, 1, n, 1, 1)
        assert exact > 2 * np.exp(-(t**2) * n**2 / 2 / (1 / n + 2 * t / 3))
    assert bernstein_bound(0.3, 1 / n, 1, n, 1, 1) == pytest.approx(0.0470, abs=1e-4)


def test_bernstein_bound_holds_for_matrices():
    """Rademacher sums of one matrix A: the mean is A times a scalar mean, so the tail is exact."""
    a = rand(4, 6).numpy()
    n, norm = 60, scipy.linalg.norm(a, 2)
    k = np.arange(n + 1)
    for t in (0.1, 0.3, 0.5):
        exact = scipy.stats.binom.pmf(k, n, 0.5)[np.abs(2 * k / n - 1) >= t - 1e-12].sum()
        assert exact <= bernstein_bound(t * norm, norm**2 / n, norm, n, 4, 6)


# Where the high frequencies come from.


def named(model, x, **settings):
    return layer_profile(model, x, 0, lambda maps: maps.flatten(1).norm(dim=1), **settings)


def small_network(inplace):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        relu = nn.ReLU(inplace)
        first, second, last = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 16)
        return nn.Sequential(first, relu, nn.MaxPool2d(2), second, relu, last, nn.Flatten()).double().eval()


def test_profile_is_the_gradient_at_every_layer():
    net, x = small_network(False), rand(3, 2, 32, 32)
    profile = named(net, x)
    assert list(profile) == ["input", "0", "1", "2", "3", "1 (2)"]
    value = x
    expected = {}
    for i, name in enumerate(("input", "0", "1", "2", "3", "1 (2)")):
        value = value.detach().requires_grad_()
        gradient = torch.autograd.grad(net[i:](value)[:, 0].sum(), value)[0]
        expected[name] = gradient.sum(1).flatten(1).norm(dim=1)
        value = net[i](value)
    for name, value in profile.items():
        close(value, expected[name])


def test_in_place_activations_change_nothing_and_hooks_are_removed():
    x = rand(3, 2, 32, 32)
    plain, in_place = (small_network(flag) for flag in (False, True))
    for name, value in named(plain, x).items():
        close(named(in_place, x)[name], value)
    assert not any(module._forward_hooks or module._backward_hooks for module in in_place.modules())
    assert all(p.grad is None for p in in_place.parameters())


def test_profile_does_not_depend_on_chunks():
    net, x = small_network(False), rand(5, 2, 32, 32)
    for name, value in named(net, x, internal_batch_size=2).items():
        close(named(net, x)[name], value)


def test_profile_of_tokens():
    """Tokens on a grid, with a class token in front, are read as maps: a linear model has its weights as gradient."""
    weights = rand(1 + 64, 5)

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Identity()

        def forward(self, x):
            grid = x[:, :5, :8, :8].flatten(2).mT
            tokens = self.tokens(torch.cat([torch.zeros_like(grid[:, :1]), grid], 1))
            return (tokens * weights).sum((1, 2))[:, None].expand(-1, 2)

    profile = layer_profile(Tokens(), rand(2, 5, 9, 9), 0, lambda maps: maps)
    close(profile["tokens"], weights[1:].sum(1).view(8, 8).expand(2, 8, 8))


def test_layers_without_a_gradient_are_left_out():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused, self.ignored = nn.Identity(), nn.Identity(), nn.Identity()

        def forward(self, x):
            self.unused(2 * x)
            return self.used(3 * x).flatten(1) @ torch.ones(x[0].numel(), 2).double() + 0 * self.ignored(4 * x).sum()

    assert list(named(Unused(), rand(2, 1, 8, 8))) == ["input", "used"]


def test_average_pooling_keeps_sizes_weights_and_the_model():
    net = nn.Sequential(
        nn.Conv2d(2, 3, 7, 2, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(3, 3, 1, 2), nn.Conv2d(3, 4, 4, 4)
    ).double()  # fmt: skip
    swapped = with_average_pooling(net)
    kinds = [type(module) for module in swapped.modules()]
    assert nn.MaxPool2d not in kinds and kinds.count(nn.AvgPool2d) == 4
    assert all(m.stride == (1, 1) for m in swapped.modules() if isinstance(m, nn.Conv2d))
    for size in ((64, 64), (61, 75)):
        assert swapped(rand(1, 2, *size)).shape == net(rand(1, 2, *size)).shape
    for a, b in zip(net.parameters(), swapped.parameters(), strict=True):
        assert torch.equal(a, b) and a is not b
    assert isinstance(net[1], nn.MaxPool2d) and net[0].stride == (2, 2)


def test_average_pooling_replaces_a_module_everywhere_it_serves():
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(2), nn.Sequential(nn.ReLU())).double()
    net[2].add_module("again", net[1])
    net.append(net[1])
    swapped = with_average_pooling(net)
    assert swapped[1] is swapped[2].again is swapped[3] and isinstance(swapped[1], nn.AvgPool2d)
    assert isinstance(with_average_pooling(nn.MaxPool2d(2)), nn.AvgPool2d)


def test_average_pooling_needs_something_to_replace():
    with pytest.raises(ValueError, match="model is a Sequential, expected one with MaxPool2d or strided Conv2d"):
        with_average_pooling(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()))


def test_average_pooling_changes_nothing_for_constant_maps():
    net = nn.Sequential(nn.Conv2d(2, 3, 1, 2), nn.MaxPool2d(3, 2, 1)).double()
    flat = torch.ones(1, 2, 17, 17, dtype=torch.float64)
    close(with_average_pooling(net)(flat), net(flat))


def test_max_pooling_and_strides_put_high_frequencies_into_the_gradient():
    """The gradient of the mean over a pooled map: constant after average pooling, a comb after a stride."""
    smooth = low_pass(rand(4, 1, 32, 32), 3)
    for layer in (nn.MaxPool2d(2), nn.Conv2d(1, 1, 1, 2, bias=False)):
        net = nn.Sequential(layer.double(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        power = [layer_profile(m, smooth)["input"] for m in (net, with_average_pooling(net))]
        assert (power[0] > 10).all() and (power[1] < 1e-9).all()


# First-order residual.


def test_residual_of_a_linear_model_is_what_the_gradient_misses():
    """For f(x) = <w, x> and |eps| = r the residual is r |<u, w - g>| with u uniform on the sphere."""
    w = rand(1, 3, 8, 8)
    gradients = {"own": w.expand(50, -1, -1, -1), "filtered": low_pass(w, 2).expand(50, -1, -1, -1)}
    gradients |= control_gradients(gradients["own"])
    radii = [0.5, 2.0]
    residual = first_order_residual(
        lambda x: (x * w).sum((1, 2, 3))[:, None].expand(-1, 2),
        torch.zeros(50, 3, 8, 8, dtype=torch.float64), gradients, radii, 0, n_directions=40, seed=list(range(50)),
    )  # fmt: skip
    assert residual["own"].abs().max() < ROUNDING * 10
    for name in ("filtered", "zero", "permuted", "uniform"):
        missed = (w - gradients[name]).flatten(1).norm(dim=1)
        mean = missed.mean() * (2 / np.pi / 192) ** 0.5  # E|u_1| on the sphere of 192 dimensions, to 1/192
        for r, value in zip(radii, residual[name], strict=True):
            error = 4 * mean * (np.pi / 2 - 1) ** 0.5 / 2000**0.5 + 0.01 * mean  # four standard errors
            assert abs(value.mean() - r * mean) < r * error


def test_residual_of_the_gradient_is_of_second_order(model):
    x = IMAGES.clone().requires_grad_()
    gradient = torch.autograd.grad(model(x)[:, 0].sum(), x)[0]
    fine, coarse = first_order_residual(model, IMAGES, {"own": gradient}, [1e-3, 2e-3], 0)["own"]
    torch.testing.assert_close(coarse / fine, torch.full((4,), 4.0).double(), rtol=0.02, atol=0)


def test_controls():
    gradient = rand(3, 2, 6, 6)
    controls = control_gradients(gradient, seed=1)
    assert (controls["zero"] == 0).all()
    shuffled = controls["permuted"].flatten(1)
    assert torch.equal(shuffled.sort(1).values, gradient.flatten(1).sort(1).values)
    assert not torch.equal(shuffled, gradient.flatten(1))
    low, high = (getattr(gradient.flatten(1), f"a{end}")(1)[:, None] for end in ("min", "max"))
    share = ((controls["uniform"].flatten(1) - low) / (high - low)).flatten()
    assert scipy.stats.kstest(share.numpy(), "uniform").pvalue > 1e-6
    assert torch.equal(control_gradients(gradient, 1)["uniform"], controls["uniform"])


# Bad input.


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: default_cutoffs(IMAGES, 1), "n is 1, expected an integer of at least 2"),
        (lambda: low_pass(IMAGES, -1), "sigma is -1, expected a number of at least 0"),
        (lambda: low_pass(IMAGES, float("nan")), "sigma is nan"),
        (lambda: low_pass(IMAGES, [1, -2]), r"sigma is \[1, -2\]"),
        (lambda: low_pass(IMAGES, []), r"sigma is \[\]"),
        (lambda: low_pass(IMAGES, None), "sigma is None"),
        (lambda: low_pass(IMAGES[0, 0], 1), r"attributions has shape \(12, 10\), expected \(B, H, W\)"),
        (lambda: low_pass(IMAGES * torch.nan, 1), "attributions contains NaN"),
        (lambda: low_pass(IMAGES.index_fill(3, torch.tensor(7), torch.inf), 0), "attributions contains NaN"),
        (lambda: low_pass(IMAGES.numpy(), 1), "attributions is ndarray"),
        (lambda: low_pass(IMAGES.int(), 1), "attributions is torch.int32"),
        (lambda: FORGrad(None, -0.5), "sigma is -0.5"),
        (lambda: FORGrad(None, "4"), "sigma is '4'"),
        (lambda: FORGrad(None, 4, "circle"), "variant is 'circle'"),
        (lambda: FORGrad(nn.Identity(), 4), "method is a Identity, expected an attribution method"),
        (lambda: named(small_network(False), rand(1, 2, 32, 32), layers="0"), "layers is '0', expected a sequence"),
        (lambda: named(small_network(False), rand(1, 2, 32, 32), layers=["O"]), "layers contains 'O', expected names"),
        (lambda: named(small_network(False), rand(1, 2, 32, 32), layers=["6"]), "layers contains '6', expected layers"),
        (lambda: first_order_residual(None, IMAGES, {"g": IMAGES[:2]}, [1]), r"gradients\['g'\] has shape"),
        (lambda: first_order_residual(None, IMAGES, {}, [1], n_directions=0), "n_directions is 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_nearest_layer_names():
    with pytest.raises(ValueError, match=r"layers contains 'nett\.2', expected names of the model, such as net\.2"):
        layer_profile(Convolution(), IMAGES, layers=["nett.2"])


def test_a_method_without_maps():
    flat = captum.attr.InputXGradient(lambda z: z @ torch.ones(6, 2).double())
    with pytest.raises(ValueError, match=r"attributions has shape \(4, 6\)"):
        FORGrad(flat, 2).attribute(rand(4, 6), target=0)


def test_wrong_images_stop_before_any_gradient():
    model = Logged(lambda z: z.flatten(1)[:, :3])
    for function in (lambda x: optimal_cutoff(IntegratedGradients(model), model, x, metric=None),
                     lambda x: layer_profile(nn.Identity(), x)):  # fmt: skip
        with pytest.raises(ValueError, match="inputs contains NaN"):
            function(IMAGES * torch.nan)
    assert model.points == []


def test_profile_measures_high_frequencies_by_default():
    net, x = small_network(False), rand(3, 2, 32, 32)
    profile = layer_profile(net, x, 0)
    gradients = layer_profile(net, x, 0, lambda maps: maps)
    np.testing.assert_allclose(profile["2"], high_frequency_power(gradients["2"]))
