"""SpectralLens, ArgLens and their family against closed forms; the choice of scales against known curves."""

import math

import numpy as np
import pytest
import scipy.integrate
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf

from tests.problems import PROBLEMS, A, Logged, W, X, assert_normal, most_numbers_held
from xai_lib.spectral_lens import (
    IG,
    IG2,
    SG,
    SG2,
    VG,
    VG2,
    XIG,
    XIG2,
    ArgLens,
    SpectralLens,
    Stack,
    entropy_cutoff,
    inconsistency,
    optimal_scale,
    similarity,
)

S = 0.6  # sigma_max
STANDARD_ERRORS = 5.5  # of a correct estimate one in 3e7 lies further out; some 1,000 are compared
ROUNDING = 1e-12
NOISES = ("convex", "additive")
known = {problem.name: problem for problem in PROBLEMS}


def exact_squares(problem, scales, noise):
    """E[g^2] at every scale: convex noise is additive noise about the shrunken input."""
    return torch.stack([problem.square((1 - a) * X if noise == "convex" else X, a * S) for a in scales.tolist()], 1)


def score(problem, method=SpectralLens):
    return method(problem.forward, output="score")


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("method", [SpectralLens, ArgLens])
@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_squares_at_every_scale(problem, method, noise):
    _, stack = score(problem, method).attribute(
        X, sigma_max=S, n_samples=1200, n_scales=5, noise=noise, return_stack=True
    )
    expected = exact_squares(problem, stack.scales, noise)
    # samples are allotted by a pilot, which biases a mean by a small share of its standard error
    allowed = (STANDARD_ERRORS + 0.5) * stack.standard_error + ROUNDING * expected.abs().max()
    assert ((stack.squares - expected).abs() <= allowed).all()
    assert stack.scales.tolist() == [0, 0.25, 0.5, 0.75, 1] and (stack.standard_error[:, 0] == 0).all()


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_the_lens_is_the_mixture_of_its_scales(problem, noise):
    def prior(a):
        return a * (2 - a)

    settings = {"sigma_max": S, "n_samples": 300, "n_scales": 4, "noise": noise, "return_stack": True}
    lens, stack = score(problem).attribute(X, **settings)
    torch.testing.assert_close(lens, stack.squares.mean(1))
    lens, stack = score(problem).attribute(X, prior=prior, **settings)
    weights = prior(stack.scales) / prior(stack.scales).sum()
    torch.testing.assert_close(lens, torch.einsum("a,ban->bn", weights, stack.squares))


def test_a_fine_grid_is_the_integral_under_the_uniform_prior():
    """For f = sum cos(w x) and additive noise the integral over sigma in [0, S] is known with erf."""
    problem, n_scales = known["cosine"], 21
    lens, stack = score(problem).attribute(
        X, sigma_max=S, n_samples=3000, n_scales=n_scales, noise="additive", return_stack=True
    )
    decay = torch.sqrt(torch.tensor(torch.pi / 8)) / (W.abs() * S) * erf(2**0.5 * W.abs() * S)
    integral = W**2 / 2 * (1 - torch.cos(2 * W * X) * decay)
    ends = exact_squares(problem, torch.tensor([0.0, 1.0]), "additive")
    grid = (ends[:, 0] + ends[:, 1] - 2 * integral).abs() / (2 * n_scales)  # mean with both ends against trapezoids
    error = (stack.standard_error**2).sum(1).sqrt() / n_scales
    assert ((lens - integral).abs() <= 1.1 * grid + (STANDARD_ERRORS + 0.5) * error + 1e-3 * W**2).all()


@pytest.mark.parametrize("method", [SpectralLens, ArgLens])
def test_quadratic_under_convex_noise(method):
    _, stack = score(known["quadratic"], method).attribute(X, sigma_max=S, n_samples=1100, return_stack=True)
    a = stack.scales[:, None]
    expected = ((1 - a) * (X @ A)[:, None]) ** 2 + (a * S) ** 2 * (A @ A.T).diagonal()
    assert ((stack.squares - expected).abs() <= (STANDARD_ERRORS + 0.5) * stack.standard_error + ROUNDING).all()


def test_a_prior_at_one_scale_gives_smoothgrad_squared():
    problem = known["quadratic"]
    lens, stack = score(problem).attribute(X, sigma_max=S, n_samples=600, prior=lambda a: a == 1, return_stack=True)
    assert torch.equal(lens, stack.squares[:, -1])
    assert (stack.n_samples[:, -1] > 400).all()  # nothing else is worth a sample after the pilot
    expected = score(problem, SG2).attribute(X, sigma_max=S, n_samples=600, noise="convex")
    assert ((lens - expected).abs() <= 2 * STANDARD_ERRORS * stack.standard_error[:, -1]).all()


def test_linear_models():
    problem = known["linear"]
    lens, stack = score(problem).attribute(X, sigma_max=S, return_stack=True)
    torch.testing.assert_close(lens, (W**2).expand_as(X))
    assert (score(problem, ArgLens).attribute(X, sigma_max=S, n_samples=30) == 0).all()
    assert set(stack.n_samples[:, 1:].flatten().tolist()) <= {12, 13}  # nothing scatters: spread evenly
    for level, shape in (("dataset", ()), ("image", (3,)), ("pixel", (3, 6))):
        with pytest.warns(UserWarning, match="no peak"):
            scale = optimal_scale(stack, level=level)
        assert scale.shape == shape and (scale == 1).all()
    torch.testing.assert_close(similarity(stack), (stack.scales**1.5).expand(3, 11))


def test_arg_lens_finds_the_scale_of_the_largest_square():
    """Channels count together; a zero gradient gives scale 0."""
    inputs = torch.zeros(2, 2, 1, 3, dtype=torch.float64)

    def forward(z):
        return torch.cat([z[:, 0, 0, :1] ** 2 + z[:, 1, 0, :1], z[:, 0, 0, 1:2] ** 3], 1).sum(1)

    scales, stack = ArgLens(forward, "score").attribute(
        inputs, sigma_max=1.0, n_samples=401, n_scales=5, return_stack=True
    )
    assert scales.shape == (2, 1, 1, 3) and scales[:, 0, 0].tolist() == [[1.0, 1.0, 0.0]] * 2
    total = stack.squares.sum(2)
    assert torch.equal(scales[:, 0], stack.scales[total.argmax(1)])


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("method", [SpectralLens, ArgLens])
def test_points_are_gaussians_about_the_shrunken_input(method, noise):
    model = Logged(known["cosine"].forward)
    method(model, "score").attribute(X, sigma_max=S, n_samples=301, n_scales=4, noise=noise, internal_batch_size=9)
    points = torch.cat(model.points)
    n = len(points) // 3
    assert n == 301
    centres = torch.stack([(1 - a if noise == "convex" else 1.0) * X for a in (0, 1 / 3, 2 / 3, 1)])
    spreads = S * torch.tensor([0, 1 / 3, 2 / 3, 1], dtype=torch.float64)
    distance = torch.stack([(points - c).abs().sum(1) for c in centres[0]]).amin(0)
    assert int((distance < 1e-12).sum()) >= 3  # scale 0 is the input itself
    if method is ArgLens:
        one_batch = points[: 3 * 3 * 100].view(-1, 3, 3, 6)  # samples, scales, inputs
        noise_of = (one_batch - centres[1:]) / spreads[1:, None, None]
        torch.testing.assert_close(noise_of, noise_of[:, :1, :1].expand_as(noise_of))  # the same for all
        assert_normal(noise_of[:, 0, 0])


def test_noise_of_different_scales_is_independent():
    model = Logged(known["linear"].forward)
    SpectralLens(model, "score").attribute(
        X[:1], sigma_max=S, n_samples=901, n_scales=4, noise="additive", internal_batch_size=3
    )
    drawn = torch.cat(model.points[:-1]).view(-1, 3, 6)[:200]  # a linear model: equal numbers at all scales
    eps = (drawn - X[0]) / (S * torch.tensor([1 / 3, 2 / 3, 1], dtype=torch.float64)[:, None])
    assert_normal(eps)
    correlation = torch.corrcoef(eps.transpose(0, 1).flatten(1))
    assert (correlation - torch.eye(3)).abs().max() < 5 / 1200**0.5


@pytest.mark.parametrize("seed", [3, [3, 4, 5]])
@pytest.mark.parametrize("method", [SpectralLens, ArgLens])
def test_chunks_order_and_grouping_do_not_matter(method, seed):
    explain = score(known["softmax"], method).attribute
    settings = {"sigma_max": S, "n_samples": 60, "n_scales": 4, "return_stack": True}
    lens, stack = explain(X, seed=seed, **settings)
    others = [explain(X, seed=seed, internal_batch_size=rows, **settings) for rows in (1, 5, 1000)]
    alone = [explain(X[i : i + 1], seed=seed if seed == 3 else seed[i : i + 1], **settings) for i in range(3)]
    others.append(
        (
            torch.cat([a for a, _ in alone]),
            Stack(stack.scales, *map(torch.cat, zip(*(s[1:] for _, s in alone), strict=True))),
        )
    )
    for other, its_stack in others:
        torch.testing.assert_close(other, lens, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(its_stack.squares, stack.squares, rtol=1e-10, atol=1e-14)
        assert torch.equal(its_stack.n_samples, stack.n_samples)


@pytest.mark.parametrize("method", [SpectralLens, ArgLens])
def test_memory_does_not_grow_with_samples(method):
    def peak(n_samples):
        settings = {"sigma_max": S, "n_samples": n_samples, "n_scales": 3, "internal_batch_size": 4}
        return most_numbers_held(known["quadratic"].forward, lambda f: method(f, "score").attribute(X, **settings))

    assert peak(81) <= peak(21) + 4 * 6  # the allotment may fill one more batch of 4 points of 6 numbers
    assert peak(641) == peak(81)  # both fill whole batches of 4 points


@given(st.integers(2, 8), st.integers(0, 300), st.integers(0, 5))
def test_the_number_of_gradients_is_as_asked(n_scales, extra, seed):
    n = 3 * n_scales + extra
    _, stack = score(known["exponential"]).attribute(
        X, sigma_max=S, n_samples=n, n_scales=n_scales, seed=seed, return_stack=True
    )
    assert stack.n_samples.sum(1).tolist() == [n] * 3 and (stack.n_samples[:, 0] == 1).all()


def test_allotment_spends_samples_where_squares_scatter():
    """Additive noise on exp(w z / 2): the squares' spread grows steeply with the scale."""
    problem, n = known["exponential"], 132
    exact = exact_squares(problem, torch.linspace(0, 1, 6), "additive").mean(1)
    settings = {"sigma_max": S, "n_samples": n, "n_scales": 6, "noise": "additive", "return_stack": True}
    errors = {"allotted": 0.0, "equal": 0.0}
    for seed in range(40):
        lens, _ = score(problem).attribute(X, seed=seed, **settings)
        _, grid = score(problem, ArgLens).attribute(X, seed=seed, **settings)
        errors["allotted"] += ((lens - exact) ** 2).sum() / 40
        errors["equal"] += ((grid.squares.mean(1) - exact) ** 2).sum() / 40
    assert errors["allotted"] < 0.6 * errors["equal"]


def test_standard_errors_are_honest():
    """The estimates' spread over seeds is the standard error they state, within the error of 40 such estimates."""
    problem = known["cosine"]
    settings = {"sigma_max": 2.0, "n_samples": 200, "n_scales": 4, "noise": "additive", "return_stack": True}
    z = []
    for seed in range(40):
        lens, stack = score(problem).attribute(X, seed=seed, **settings)
        exact = torch.stack([problem.square(X, 2 * a) for a in stack.scales.tolist()], 1).mean(1)
        z.append((lens - exact) / ((stack.standard_error**2).sum(1).sqrt() / 4))
    z = torch.stack(z)
    assert 0.85 < z.square().mean() < 1.2 and z.mean().abs() < 0.2


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_smoothgrad_of_the_family(problem, noise):
    settings = {"sigma_max": S, "scale": torch.tensor([0.2, 0.5, 1.0]), "n_samples": 200, "noise": noise}
    for method, exact in ((SG, problem.mean), (SG2, problem.square)):
        seeds = torch.stack([score(problem, method).attribute(X, seed=s, **settings) for s in range(9)])
        error = seeds.std(0) / 3  # from 9 estimates: t-distributed
        shrink = (1 - settings["scale"][:, None]) if noise == "convex" else torch.ones(3, 1)
        expected = torch.cat([exact((shrink * X)[i : i + 1], S * float(a)) for i, a in enumerate(settings["scale"])])
        assert ((seeds.mean(0) - expected).abs() <= 12 * error + 1e-10 * expected.abs().max()).all()


def test_a_symmetric_kernel_sees_the_odd_part_only():
    even = torch.zeros(1, 6, dtype=torch.float64)  # cos is even about 0
    got = score(known["cosine"], SG).attribute(even, sigma_max=1.0, n_samples=1000)
    squared = score(known["cosine"], SG2).attribute(even, sigma_max=1.0, n_samples=1000)
    assert (got.abs() <= STANDARD_ERRORS * (squared / 1000).sqrt()).all() and (
        squared > 0.5 * known["cosine"].square(even, 1.0)
    ).all()


@pytest.mark.parametrize("depth", [0.3, 1.0])
def test_integrated_gradients_of_the_family(depth):
    """(cos w x - cos w b) / (x - b) for f = cos(w t) and b = (1 - depth) x; midpoint rule of second order."""
    problem, n = known["cosine"], 400
    b = (1 - depth) * X
    mean = (torch.cos(W * X) - torch.cos(W * b)) / (X - b)
    sine = torch.sin(2 * W * X) - torch.sin(2 * W * b)
    square = W**2 / 2 - W * sine / (4 * (X - b))
    bound = W.abs() ** 3 * X.abs().clamp(min=1) ** 3 * W.abs().clamp(min=1) / n**2
    for method, expected in ((IG, mean), (XIG, mean * X), (IG2, square), (XIG2, square * X)):
        got = score(problem, method).attribute(X, depth=depth, n_steps=n)
        assert ((got - expected).abs() <= bound).all()


def test_vanilla_gradients():
    for problem in PROBLEMS:
        torch.testing.assert_close(score(problem, VG).attribute(X), problem.gradient(X), rtol=ROUNDING, atol=ROUNDING)
        torch.testing.assert_close(
            score(problem, VG2).attribute(X), problem.gradient(X) ** 2, rtol=ROUNDING, atol=ROUNDING
        )


def test_log_probability_is_the_default():
    weights = torch.stack([W, -W, W.flip(0)])
    got = VG(lambda z: z @ weights.T).attribute(X, 0)
    p = (X @ weights.T).softmax(1)
    torch.testing.assert_close(got, weights[0] - p @ weights)


def test_tuples_in_tuples_out():
    wave = X[:, None]

    def forward(x, w, gain):
        return (x.sum(1) ** 2 + w.sum((1, 2)) ** 3) * gain

    settings = {"sigma_max": S, "additional_forward_args": torch.tensor([1.0, 2.0, 3.0]), "return_stack": True}
    (a, b), stacks = SpectralLens(forward, "score").attribute((X, wave), **settings)
    assert a.shape == X.shape and b.shape == wave.shape and [s.squares.shape[1] for s in stacks] == [11, 11]
    (a, b), _ = ArgLens(forward, "score").attribute((X, wave), **settings)
    assert a.shape == X.shape and b.shape == wave.shape


def stack_of(curves):
    """A stack (B, A, 1) of known squares over 11 scales."""
    scales = torch.linspace(0, 1, 11, dtype=torch.float64)
    squares = torch.stack([curve(scales) for curve in curves])[..., None]
    return Stack(scales, squares, torch.zeros_like(squares), torch.ones_like(squares[..., 0]))


def test_optimal_scale_of_known_spectra():
    """sigma^p times exp(-(sigma / c)^2) peaks at c sqrt(p / 2), per image; the mean curve decides for the data set."""
    stack = stack_of([lambda s, c=c: torch.exp(-((s / c) ** 2)) for c in (0.35, 0.45, 0.8)])
    for exponent in (1.0, 1.5, 2.5):
        expected = torch.tensor([0.35, 0.45, 0.8]) * (exponent / 2) ** 0.5
        got = optimal_scale(stack, exponent, "image")
        assert ((got - expected).abs() <= 0.05 + 1e-9).all()
    torch.testing.assert_close(optimal_scale(stack, 1.5, "pixel")[:, 0], optimal_scale(stack, 1.5, "image"))
    assert optimal_scale(stack) == stack.scales[similarity(stack).mean(0).argmax()]
    assert similarity(stack).amax(1).tolist() == [1, 1, 1]


def test_the_norm_of_the_gaussian_kernel():
    """Eqs. 7 and 8: sqrt(p) has the PSD 2 sqrt(2 pi) sigma exp(-2 sigma^2 w^2); ||w^2 S|| ~ sigma^(-3/2)."""
    for sigma in (0.3, 1.0, 2.5):

        def kernel(w, sigma=sigma):
            return 2 * math.sqrt(2 * math.pi) * sigma * np.exp(-2 * sigma**2 * w**2)

        def root(t, w, sigma=sigma):
            return np.exp(-(t**2) / 4 / sigma**2) / (2 * np.pi * sigma**2) ** 0.25 * np.cos(w * t)

        for w in (0.0, 0.7, 2.0):
            transform = scipy.integrate.quad(root, -40 * sigma, 40 * sigma, args=(w,), limit=400)[0]
            assert transform**2 == pytest.approx(kernel(w), abs=1e-8)
        norm = scipy.integrate.quad(lambda w: (w**2 * kernel(w)) ** 2, -np.inf, np.inf)[0] ** 0.5
        assert norm * sigma**1.5 == pytest.approx(1.0218, abs=1e-4)


def noisy_classifier(z):
    """Three logits whose entropy grows with the noise about 0, up to that of a fair die, and falls far out."""
    spread = z.square().mean(1, keepdim=True).sqrt()
    return torch.tensor([4.0, 0.0, -1.0]) * ((spread - 0.6).abs() + 0.05)


def test_entropy_cutoff_is_the_plain_loop():
    inputs, levels = torch.zeros(3, 20_000), torch.linspace(0.1, 1, 10)
    found = entropy_cutoff(noisy_classifier, inputs, sigma=levels, n_samples=3, internal_batch_size=2)
    exact = torch.distributions.Categorical(
        logits=torch.tensor([4.0, 0.0, -1.0]) * ((levels[:, None] - 0.6).abs() + 0.05)
    ).entropy()
    assert found.entropy.shape == (10, 3)
    torch.testing.assert_close(found.entropy.mean(1), exact, rtol=0, atol=0.02)  # the spread of 20,000 draws: 0.5 %
    for reached in (0.7, 0.95):
        found = entropy_cutoff(noisy_classifier, inputs, sigma=levels, n_samples=3, reached=reached)
        assert found.sigma_max == pytest.approx(float(levels[(exact >= reached * exact.max()).int().argmax()]))


def test_an_entropy_that_still_rises_warns():
    with pytest.warns(UserWarning, match="entropy still rises at the last of the levels, 0.5"):
        entropy_cutoff(noisy_classifier, torch.zeros(2, 50), sigma=[0.1, 0.25, 0.5])


def test_an_entropy_that_is_large_at_once_warns():
    with pytest.warns(UserWarning, match="largest value at the first of the levels, 0.6"):
        entropy_cutoff(noisy_classifier, torch.zeros(2, 50), sigma=[0.6, 1.2, 2.0])


def test_inconsistency_of_known_maps():
    """Identical or rescaled maps: 0; disjoint ones: 1; one of three differs: two of three pairs."""
    blocks = torch.zeros(2, 20, 20)
    blocks[0, :5, :5], blocks[1, 15:, 15:] = 1, 2
    a, b = blocks
    assert inconsistency(torch.stack([a, 3 * a, a])[None]).item() == pytest.approx(0, abs=1e-6)
    assert inconsistency(torch.stack([a, b])[None]).item() == pytest.approx(1, abs=1e-6)
    mixed = torch.stack([a, a, b])[None]
    assert inconsistency(mixed).item() == pytest.approx(2 / 3, abs=1e-6)
    assert inconsistency(mixed, reference=0).item() == pytest.approx(1 / 2, abs=1e-6)
    assert inconsistency(mixed, reference=2).item() == pytest.approx(1, abs=1e-6)
    half = torch.stack([a, a + b / 2 * torch.tensor(3.0) ** 0.5])[None]  # 60 degrees
    assert inconsistency(half).item() == pytest.approx(1 / 2, abs=1e-6)


@pytest.mark.parametrize(
    "method, change, message",
    [
        (SpectralLens, {"sigma_max": 0.0}, "sigma_max is 0.0, expected a positive"),
        (SpectralLens, {"sigma_max": -1}, "sigma_max is -1"),
        (ArgLens, {"sigma_max": float("nan")}, "sigma_max is nan"),
        (SG, {"sigma_max": "1"}, "sigma_max is '1'"),
        (SpectralLens, {"noise": "pink"}, "noise is 'pink'"),
        (ArgLens, {"n_scales": 1}, "n_scales is 1, expected at least 2"),
        (SpectralLens, {"n_scales": 0}, "n_scales is 0"),
        (SpectralLens, {"n_samples": 32}, "n_samples is 32, expected at least 3 for each of 11 scales"),
        (ArgLens, {"n_samples": 10}, "n_samples is 10, expected at least one for each of 11"),
        (SpectralLens, {"n_samples": 2.5}, "n_samples is 2.5"),
        (SpectralLens, {"prior": "triangle"}, "prior is 'triangle'"),
        (SpectralLens, {"prior": lambda a: 1 / a}, "prior gives .* integrates"),
        (SpectralLens, {"prior": lambda a: a - 0.5}, "prior gives"),
        (SpectralLens, {"prior": lambda a: 0 * a}, "prior gives"),
        (SpectralLens, {"prior": lambda a: torch.ones(3)}, "prior gives"),
        (SpectralLens, {"seed": [1, 2]}, "seed is"),
        (SG, {"scale": 1.5}, "scale is"),
        (SG, {"scale": torch.ones(2)}, "scale is"),
        (IG, {"depth": 0.0, "sigma_max": None}, "depth is 0.0"),
        (IG, {"n_steps": 0, "sigma_max": None}, "n_steps is 0"),
        (VG, {"target": 9, "sigma_max": None}, "target ranges"),
    ],
)
def test_bad_arguments_stop_before_any_gradient(method, change, message):
    model = Logged(lambda z: torch.stack([z.sum(1), z.prod(1)], 1))
    settings = {"sigma_max": S, **change}
    with pytest.raises((ValueError, TypeError), match=message):
        method(model).attribute(X, **{k: v for k, v in settings.items() if v is not None})
    assert model.points == []


@pytest.mark.parametrize("sigma", [[0.1], [0.2, 0.1], [0.0, 0.2]])
def test_bad_levels(sigma):
    with pytest.raises(ValueError, match="sigma is"):
        entropy_cutoff(noisy_classifier, torch.zeros(2, 5), sigma=sigma)


def test_other_errors():
    with pytest.raises(ValueError, match="level is 'class'"):
        optimal_scale(stack_of([torch.exp]), level="class")
    for maps in (torch.zeros(2, 3, 4), torch.zeros(2, 1, 8, 8), torch.full((1, 2, 8, 8), torch.nan)):
        with pytest.raises(ValueError, match="maps has shape"):
            inconsistency(maps)
