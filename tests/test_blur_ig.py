"""BlurIG against exact path integrals, its axioms and the one that fails."""

import itertools

import numpy as np
import pytest
import scipy.fft
import scipy.integrate
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.problems import PROBLEMS, Logged, W, X
from xai_lib.blur_ig import (
    BlurIG,
    Scales,
    blur_path,
    leading_labels,
    path_probabilities,
    recognition_scale,
    second_last_label,
    sigma_grid,
    straight_path,
)
from xai_lib.scale_space import scale_space

ROUNDING = 1e-12


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHTS = rand(3, 2 * 6 * 8)  # a softmax of three classes on images of two channels, 6 x 8
IMAGES = rand(4, 2, 6, 8, seed=1)


def softmax_linear(z):
    return z.flatten(1) @ WEIGHTS.T / 4


def exact_path_integral(problem, x, max_sigma):
    """Adaptive quadrature over t = sigma^2 of g(L(t)) dL/dt, with scipy's cosine transform."""
    eigenvalues = 2 - 2 * np.cos(np.pi * np.arange(len(x)) / len(x))
    spectrum = scipy.fft.dct(x.numpy())

    def integrand(t):
        decay = np.exp(-t * eigenvalues / 2)
        point = torch.from_numpy(scipy.fft.idct(decay * spectrum))
        slope = scipy.fft.idct(-eigenvalues / 2 * decay * spectrum)
        return problem.gradient(point[None])[0].numpy() * slope

    value, error = scipy.integrate.quad_vec(integrand, max_sigma**2, 0, epsabs=1e-10, epsrel=1e-10)
    assert error < 1e-8
    return torch.from_numpy(value)


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_converges_to_the_path_integral_at_second_order(problem):
    exact = torch.stack([exact_path_integral(problem, x, 4.0) for x in X])
    blur_ig = BlurIG(problem.forward, output="score")
    errors = [(blur_ig.attribute(X, n_steps=n, max_sigma=4.0) - exact).abs().max() for n in (40, 80, 160)]
    if problem.name == "linear":
        assert max(errors) < 1e-8  # the quadrature's error
    else:
        for coarse, fine in itertools.pairwise(errors):
            assert 3.6 < coarse / fine < 4.4


@pytest.mark.parametrize("kernel", ["diffusion", "gaussian"])
@pytest.mark.parametrize("n_steps", [1, 2, 7])
@pytest.mark.parametrize("shape, dims", [((6,), (-1,)), ((2, 3), (-1,)), ((1, 2, 3), (-2, -1)), ((3, 2, 1), (-2, -1))])
def test_linear_is_exact_for_any_number_of_steps(shape, dims, n_steps, kernel):
    x = X.view(3, *shape)
    got = BlurIG(lambda z: z.flatten(1) @ W, output="score").attribute(x, n_steps=n_steps, max_sigma=3.0, kernel=kernel)
    start = scale_space(x, dims, kernel)(torch.tensor([3.0]))[0]
    torch.testing.assert_close(got, W.view(shape) * (x - start), rtol=ROUNDING, atol=ROUNDING)


def test_completeness_gap_falls_at_second_order():
    gaps = [
        BlurIG(softmax_linear).attribute(IMAGES, 0, n_steps=n, return_convergence_delta=True)[1].abs().max()
        for n in (40, 80, 160)
    ]
    assert gaps[0] < 1e-2
    for coarse, fine in itertools.pairwise(gaps):
        assert 3.6 < coarse / fine < 4.4


def test_delta_is_the_sum_minus_the_change_of_the_output():
    attribution, delta = BlurIG(softmax_linear).attribute(
        IMAGES, 1, n_steps=5, max_sigma=2.0, return_convergence_delta=True
    )
    start = scale_space(IMAGES, (-2, -1))(torch.tensor([2.0]))[0]
    change = (softmax_linear(IMAGES).softmax(1) - softmax_linear(start).softmax(1))[:, 1]
    torch.testing.assert_close(delta, attribution.flatten(1).sum(1) - change, rtol=0, atol=ROUNDING)


def test_path_is_the_blurred_input_at_the_middle_of_each_step():
    model = Logged(softmax_linear)
    BlurIG(model).attribute(IMAGES, 0, n_steps=6, max_sigma=5.0)
    middles = sigma_grid(5.0, 12)[1::2]
    expected = scale_space(IMAGES, (-2, -1))(middles).flatten(0, 1)
    torch.testing.assert_close(torch.cat(model.points), expected, rtol=ROUNDING, atol=ROUNDING)


def test_grid_runs_from_max_sigma_to_zero():
    grid = sigma_grid(64.0, 20)
    assert grid[0] == pytest.approx(64.0, rel=1e-12) and grid[-1] == 0 and (grid.diff() < 0).all()
    work = torch.log1p((grid / 0.5) ** 2).diff()
    torch.testing.assert_close(work, work[:1].expand(20))


def test_default_max_sigma_is_the_longest_side():
    explain = BlurIG(softmax_linear).attribute
    assert torch.equal(explain(IMAGES, 0), explain(IMAGES, 0, max_sigma=8.0))


def test_axiom_dummy():
    weights = rand(3, 6)
    weights[:, 2] = 0
    got = BlurIG(lambda z: z @ weights.T).attribute(X, 0)
    assert (got[:, 2] == 0).all() and (got[:, 3] != 0).all()


def test_axiom_linearity():
    f1, f2 = PROBLEMS[2].forward, PROBLEMS[3].forward
    explain = [BlurIG(f, "score").attribute(X) for f in (f1, f2, lambda z: 2 * f1(z) - 3 * f2(z))]
    torch.testing.assert_close(explain[2], 2 * explain[0] - 3 * explain[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "turn", [lambda z: z.flip(-1), lambda z: z.flip(-2), lambda z: z.transpose(-2, -1)], ids=["lr", "ud", "transpose"]
)
def test_axiom_symmetry(turn):
    plain = BlurIG(softmax_linear).attribute(IMAGES, 0)
    turned = BlurIG(lambda z: softmax_linear(turn(z))).attribute(turn(IMAGES), 0)
    torch.testing.assert_close(turn(turned), plain, rtol=1e-10, atol=1e-10)


@given(st.floats(0.2, 5), st.floats(-3, 3), st.sampled_from([-1, 1]))
def test_axiom_affine_invariance_of_the_whole_image(c, d, sign):
    c = sign * c
    plain = BlurIG(softmax_linear).attribute(IMAGES, 0, n_steps=8)
    scaled = BlurIG(lambda z: softmax_linear((z - d) / c)).attribute(c * IMAGES + d, 0, n_steps=8)
    torch.testing.assert_close(scaled, plain, rtol=1e-9, atol=1e-9)


def test_affine_invariance_of_a_single_pixel_fails():
    """Rescaling pixel j by (c, d) changes its blur path, so for a linear model its attribution moves by a known amount.

    attr_j = (w_j / c) (u_j - L_j(u)) with u_j = c x_j + d and L_j(u) = L_j(x) + K_jj (u_j - x_j).
    """
    j, c, d, sigma = 2, 3.0, 0.5, 2.0
    u = X.clone()
    u[:, j] = c * X[:, j] + d
    unscale = torch.ones(6, dtype=torch.float64).index_fill(0, torch.tensor([j]), 1 / c)
    shift = torch.zeros(6, dtype=torch.float64).index_fill(0, torch.tensor([j]), d)
    before = BlurIG(lambda z: z @ W, "score").attribute(X, max_sigma=sigma)[:, j]
    after = BlurIG(lambda z: ((z - shift) * unscale) @ W, "score").attribute(u, max_sigma=sigma)[:, j]
    kernel = scale_space(torch.eye(6, dtype=torch.float64), (-1,))(torch.tensor([sigma]))[0]
    start = X @ kernel
    moved = start[:, j] + kernel[j, j] * (u - X)[:, j]
    torch.testing.assert_close(after, W[j] / c * (u[:, j] - moved), rtol=1e-10, atol=1e-10)
    assert ((after - before).abs() > 0.01).all()  # in a model whose attributions are of size 0.1


def test_sinusoid_loses_its_attribution_at_its_own_scale():
    """For a linear model on cosine k the attribution still to come at scale sigma is exp(-sigma^2 lambda_k / 2)."""
    n, k = 32, 5
    wave = torch.cos(torch.pi * k * (torch.arange(n, dtype=torch.float64) + 0.5) / n)[None]
    weights = rand(n)
    _, scales = BlurIG(lambda z: z @ weights, "score").attribute(wave, n_steps=30, max_sigma=16.0, return_scales=True)
    share = scales.terms[0].sum(1).cumsum(0) / (wave[0] @ weights)
    decay = torch.exp(-(scales.sigma**2) * (2 - 2 * np.cos(np.pi * k / n)) / 2)
    torch.testing.assert_close(share, decay[1:] - decay[0], rtol=1e-10, atol=1e-10)


def test_scales_add_up():
    plain = BlurIG(softmax_linear).attribute(IMAGES, 0, n_steps=9)
    attribution, delta, scales = BlurIG(softmax_linear).attribute(
        IMAGES, 0, n_steps=9, return_scales=True, return_convergence_delta=True, internal_batch_size=5
    )
    assert isinstance(scales, Scales) and scales.terms.shape == (4, 9, 2, 6, 8) and scales.sigma.shape == (10,)
    assert delta.shape == (4,)
    torch.testing.assert_close(attribution, plain, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(scales.terms.sum(1), plain, rtol=ROUNDING, atol=ROUNDING)


def test_chunks_order_and_grouping_do_not_matter():
    explain = BlurIG(softmax_linear).attribute
    expected = explain(IMAGES, [0, 1, 2, 0])
    others = [explain(IMAGES, [0, 1, 2, 0], internal_batch_size=rows) for rows in (1, 3, 1000)]
    others.append(explain(IMAGES.flip(0), [0, 2, 1, 0]).flip(0))
    others.append(torch.cat([explain(IMAGES[i : i + 1], [0, 1, 2, 0][i]) for i in range(4)]))
    for other in others:
        torch.testing.assert_close(other, expected, rtol=ROUNDING, atol=ROUNDING)


def test_tuples_in_tuples_out():
    signal = X[:, None]

    def forward(image, wave):
        return softmax_linear(image) + wave.sum((1, 2))[:, None] * torch.tensor([1.0, 0.0, -1.0])

    attributions, delta, scales = BlurIG(forward).attribute(
        (IMAGES[:3], signal), 0, n_steps=200, return_convergence_delta=True, return_scales=True
    )
    assert [a.shape for a in attributions] == [IMAGES[:3].shape, signal.shape] and len(scales) == 2
    assert delta.abs().max() < 1e-3


def test_long_waveforms_take_the_fourier_path():
    wave = rand(2, 1, 3000)
    weights = rand(3000)
    got = BlurIG(lambda z: z[:, 0] @ weights, "score").attribute(wave, n_steps=2, max_sigma=50.0)
    expected = weights * (wave - scale_space(wave, (-1,))(torch.tensor([50.0]))[0])
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_dims_choose_the_blurred_axes():
    one = BlurIG(lambda z: z.flatten(1) @ WEIGHTS[0], "score").attribute(IMAGES, max_sigma=3.0, dims=(-1,))
    start = scale_space(IMAGES, (-1,))(torch.tensor([3.0]))[0]
    torch.testing.assert_close(one, WEIGHTS[0].view(2, 6, 8) * (IMAGES - start), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("dims", [(-1,), (-2,), (-2, -1)])
def test_dims_converge_to_the_change_along_their_own_path(dims):
    """Completeness holds for every choice of axes, at second order."""
    explain = BlurIG(softmax_linear).attribute
    gaps = [
        explain(IMAGES, 0, n_steps=n, dims=dims, return_convergence_delta=True)[1].abs().max() for n in (40, 80, 160)
    ]
    for coarse, fine in itertools.pairwise(gaps):
        assert 3.6 < coarse / fine < 4.4


def test_a_pattern_constant_along_the_blurred_axis_gets_nothing():
    rows = rand(4, 2, 6, 1, seed=2).expand(4, 2, 6, 8)
    assert BlurIG(softmax_linear).attribute(rows, 0, dims=(-1,)).abs().max() < ROUNDING
    assert BlurIG(softmax_linear).attribute(rows, 0, dims=(-2,)).abs().max() > 1e-3


def test_a_separable_wave_fades_along_each_axis_at_its_own_scale():
    """Linear model, cos(k u) cos(l v): what is left at sigma is exp(-sigma^2 * sum of lambda / 2)."""
    n, k, m = 16, 3, 5
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n * torch.pi
    wave = (torch.cos(k * u)[:, None] * torch.cos(m * u))[None, None]
    weights = rand(n * n)
    rates = {-2: 2 - 2 * np.cos(np.pi * k / n), -1: 2 - 2 * np.cos(np.pi * m / n)}
    for dims in ((-1,), (-2,), (-2, -1)):
        got = BlurIG(lambda z: z.flatten(1) @ weights, "score").attribute(wave, n_steps=4, max_sigma=2.0, dims=dims)
        left = np.exp(-2.0 * sum(rates[d] for d in dims))
        torch.testing.assert_close(got, (1 - left) * weights.view(1, 1, n, n) * wave, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"n_steps": 0}, "n_steps is 0, expected an integer of at least 1"),
        ({"n_steps": 2.5}, "n_steps is 2.5"),
        ({"max_sigma": 0.0}, "max_sigma is 0.0, expected a positive"),
        ({"max_sigma": -3}, "max_sigma is -3"),
        ({"max_sigma": "4"}, "max_sigma is '4'"),
        ({"max_sigma": float("inf")}, "max_sigma is inf"),
        ({"kernel": "box"}, "kernel is 'box'"),
        ({"dims": (0,)}, "dims is \\(0,\\)"),
        ({"dims": ()}, "dims is"),
        ({"inputs": IMAGES[0, 0, 0]}, "inputs has shape \\(8,\\)"),
        ({"inputs": IMAGES[None]}, "inputs has shape"),
        ({"inputs": IMAGES.numpy()}, "inputs holds a ndarray"),
        ({"inputs": IMAGES * torch.inf}, "inputs contains NaN"),
        ({"target": 3}, "target ranges"),
    ],
)
def test_bad_arguments_stop_before_any_gradient(change, message):
    model = Logged(softmax_linear)
    with pytest.raises((ValueError, TypeError), match=message):
        BlurIG(model).attribute(**{"inputs": IMAGES, "target": 0, **change})
    assert model.points == []


def test_path_probabilities():
    probabilities = path_probabilities(softmax_linear, blur_path(IMAGES, sigma_grid(8.0, 10)))
    assert probabilities.shape == (11, 4, 3)
    torch.testing.assert_close(probabilities[-1], softmax_linear(IMAGES).softmax(1))


def test_paths():
    start = torch.zeros_like(IMAGES)
    straight = list(straight_path(start, IMAGES, 4))
    assert len(straight) == 5 and torch.equal(straight[0], start) and torch.equal(straight[4], IMAGES)
    torch.testing.assert_close(straight[1], IMAGES / 4)
    for s, image in zip((2.0, 0.0), blur_path(IMAGES, (2.0, 0.0), dims=(-1,)), strict=True):
        assert torch.equal(image, scale_space(IMAGES, (-1,))(torch.tensor([s]))[0])


def test_second_last_label():
    """The first input changes from 2 to 1, the second is always 1, the third ends as 0 and was 2 before a 1."""
    path = torch.tensor([[2, 1, 2], [2, 1, 1], [1, 1, 0]])
    got = second_last_label(torch.nn.functional.one_hot(path).double(), torch.tensor([1, 1, 0]))
    assert got.tolist() == [2, -1, 1]


def test_leading_labels():
    path = torch.tensor([[2, 1], [2, 1], [0, 1], [2, 1]])
    assert leading_labels(torch.nn.functional.one_hot(path).double()) == [[2, 0, 2], [1]]


def test_path_probabilities_of_a_multi_label_model():
    path = list(blur_path(IMAGES, (4.0, 0.0)))
    scores = path_probabilities(lambda z: softmax_linear(z).sigmoid(), path, output="score")
    torch.testing.assert_close(scores[-1], softmax_linear(IMAGES).sigmoid())


def test_recognition_scale_of_known_curves():
    sigma = sigma_grid(32.0, 400)
    true = torch.tensor([1.0, 4.0])
    probability = torch.exp(-np.log(2) * sigma[:, None] / true) * torch.tensor([0.9, 0.3])
    flat = torch.full((401, 1), 0.5)
    got = recognition_scale(sigma, torch.cat([probability, flat], 1))
    torch.testing.assert_close(got, torch.tensor([1.0, 4.0, 32.0]).double(), rtol=1e-3, atol=0)
    again = torch.tensor([0.9, 0.1, 0.7, 1.0]).view(4, 1)  # recovers at coarser scales: the first fall counts
    assert recognition_scale(torch.tensor([3.0, 2.0, 1.0, 0.0]), again).item() == pytest.approx(1 + 0.2 / 0.6)
