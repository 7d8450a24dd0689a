"""Functional information against closed forms, the log-Sobolev inequality, conditioning, and its ablations."""

import numpy as np
import pytest
import torch
from captum.attr import configure_interpretable_embedding_layer, remove_interpretable_embedding_layer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.problems import LOGITS, PROBLEMS, Logged, X
from xai_lib import covariance
from xai_lib.baselines import SmoothGrad
from xai_lib.covariance import Dense, LowRank
from xai_lib.datasets.reviews import VOCABULARY, make_reviews
from xai_lib.functional_information import FunctionalInformation, fisher_information, functional_entropy
from xai_lib.models.reviews import reviews_bilstm

ROUNDING = 1e-12
STANDARD_ERRORS = 5.5  # of a correct estimate one in 3e7 lies further out


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive_definite(d, seed=0):
    root = rand(d, d, seed=seed)
    return root @ root.T / d + 0.1 * torch.eye(d, dtype=torch.float64)


SIGMA = positive_definite(6)
A = rand(6, seed=3) / 2
BIAS = rand(6, seed=4)
HELD = torch.tensor([False, True, False, False, True, True])


def exponential(z):
    return torch.exp(z @ A)


def softmax_linear(z):
    return z @ LOGITS.T


def network(seed, inputs=6, classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, classes)
    return nn.Sequential(*layers).double().eval()


def close(estimate, info, expected):
    """Whether an estimate lies within its Monte Carlo error of the exact value."""
    allowed = STANDARD_ERRORS * info.standard_error + ROUNDING * expected.abs().max()
    return ((estimate - expected).abs() <= allowed).all()


@pytest.mark.parametrize("scale", [1.0, 0.15])
def test_exponential_has_the_closed_form(scale):
    """a_i (Sigma a)_i E[f], with E[f] = exp(a.x + scale a' Sigma a / 2)."""
    method = FunctionalInformation(exponential, SIGMA, output="score")
    got, info = method.attribute(X, n_samples=4000, noise_scale=scale, return_info=True)
    mean = torch.exp(X @ A + scale * A @ SIGMA @ A / 2)
    assert close(got, info, mean[:, None] * A * (SIGMA @ A))
    share = A * (SIGMA @ A) / (A @ SIGMA @ A)  # for an exponential, every sample has the same shares
    torch.testing.assert_close(got / got.sum(1, keepdim=True), share.expand_as(got), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(
    "weighting, expected",
    [
        ("gradient", lambda f: f * A**2),
        ("weighted-gradient", lambda f: f * (SIGMA @ A)),
        ("full", lambda f: f * A * (SIGMA @ A)),
    ],
)
def test_weightings_have_the_closed_forms(weighting, expected):
    method = FunctionalInformation(exponential, SIGMA, output="score")
    got, info = method.attribute(X, n_samples=4000, weighting=weighting, return_info=True)
    assert close(got, info, expected(torch.exp(X @ A + A @ SIGMA @ A / 2)[:, None]))


@pytest.mark.parametrize("summed", [None, -1])
def test_several_weightings_share_their_gradients(summed):
    model, inputs, names = Logged(softmax_linear), X.view(-1, 1, 6), ("gradient", "full")
    explain = FunctionalInformation(lambda z: model(z.flatten(1)), COVARIANCES).attribute
    common = {"target": [1, 0, 1], "n_samples": 10, "summed": summed, "return_info": True}
    maps, info = explain(inputs, weighting=names, **common)
    assert sum(map(len, model.points)) == 10 * len(inputs)
    for name, got, error in zip(names, maps, info.standard_error, strict=True):
        expected, alone = explain(inputs, weighting=name, **common)
        torch.testing.assert_close(got, expected, rtol=ROUNDING, atol=ROUNDING)
        torch.testing.assert_close(error, alone.standard_error, rtol=ROUNDING, atol=ROUNDING)


def test_log_sobolev_is_an_equality_for_exponentials():
    """Ent = I / 2 (appendix A.3), both estimated from the same 200,000 samples."""
    n = 200_000
    z = Dense(SIGMA).sample(X[0], n, seed=0)
    values = exponential(z)
    information = fisher_information(values[:, None], values[:, None, None] * A, SIGMA)[0]
    exact = A @ SIGMA @ A * torch.exp(X[0] @ A + A @ SIGMA @ A / 2)
    error = (A @ SIGMA @ A) * values.std() / n**0.5
    assert abs(information - exact) < STANDARD_ERRORS * error
    spread = (values * (values / values.mean()).log() - values + values.mean()).std() / n**0.5  # of the plug-in entropy
    assert abs(functional_entropy(values) - exact / 2) < STANDARD_ERRORS * spread


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.05, 3.0))
def test_entropy_is_at_most_half_the_information(seed, scale):
    """Theorem 4.1 for softmax outputs of random networks under random Gaussians, up to Monte Carlo error."""
    n, model = 400, network(seed)
    sigma = scale * positive_definite(6, seed)
    x = rand(1, 6, seed=seed + 1)
    z = Dense(sigma).sample(x[0], n, seed)
    values = model(z).softmax(1)[:, 0].detach()
    information, info = FunctionalInformation(model, sigma).attribute(x, 0, n_samples=n, return_info=True, seed=seed)
    margin = STANDARD_ERRORS * (info.standard_error.norm() + values.std() / n**0.5)
    assert functional_entropy(values) <= information.sum() / 2 + margin


def test_attributions_sum_to_the_information():
    model = network(1)
    noise_free = FunctionalInformation(model, SIGMA).attribute(X, 1, n_samples=1, noise_scale=0.0)
    x = X.clone().requires_grad_()
    values = model(x).softmax(1)[:, 1]
    (gradients,) = torch.autograd.grad(values.sum(), x)
    expected = fisher_information(values[None].detach(), gradients[None], SIGMA)
    torch.testing.assert_close(noise_free.sum(1), expected, rtol=ROUNDING, atol=ROUNDING)


def test_probability_and_score_explain_the_same_function():
    by_log = FunctionalInformation(softmax_linear, SIGMA).attribute(X, 0, n_samples=20)
    direct = FunctionalInformation(lambda z: softmax_linear(z).softmax(1), SIGMA, output="score")
    torch.testing.assert_close(by_log, direct.attribute(X, 0, n_samples=20), rtol=1e-10, atol=ROUNDING)


def test_vanishing_probabilities_do_not_overflow():
    model = FunctionalInformation(lambda z: 1000 * softmax_linear(z), SIGMA)
    for target in (0, 1):
        assert model.attribute(X, target, n_samples=20).isfinite().all()
    square = FunctionalInformation(lambda z: z.square().sum(1), SIGMA, output="score")  # f = 0 at the input
    assert square.attribute(torch.zeros(1, 6, dtype=torch.float64), n_samples=1, noise_scale=0.0).abs().max() == 0


@pytest.mark.parametrize("scale", [0.5, 7.0])
def test_constants_and_multiples(scale):
    """A constant has neither entropy nor information; both scale with f."""
    constant = FunctionalInformation(lambda z: 0 * z.sum(1) + 3, SIGMA, output="score")
    assert constant.attribute(X, n_samples=8).abs().max() == 0
    values = exponential(Dense(SIGMA).sample(X, 50, seed=0))
    assert functional_entropy(torch.full((50,), 3.0)) == 0
    torch.testing.assert_close(functional_entropy(scale * values), scale * functional_entropy(values))
    once, multiple = (
        FunctionalInformation(lambda z, c=c: c * exponential(z), SIGMA, output="score").attribute(X, n_samples=8)
        for c in (1, scale)
    )
    torch.testing.assert_close(multiple, scale * once, rtol=ROUNDING, atol=ROUNDING)


def test_change_of_variables():
    """g(u) = f(L u) under N(u, I), with L L' = Sigma, has the same information: here for the same noise."""
    root = torch.linalg.cholesky(SIGMA)
    u = torch.linalg.solve_triangular(root, X.T, upper=False).T
    f = FunctionalInformation(network(2), SIGMA).attribute(X, 0, n_samples=50)
    g = FunctionalInformation(lambda u: network(2)(u @ root.T), torch.eye(6).double()).attribute(u, 0, n_samples=50)
    torch.testing.assert_close(f.sum(1), g.sum(1), rtol=1e-10, atol=ROUNDING)


def test_samples_follow_the_gaussian():
    model = Logged(exponential)
    FunctionalInformation(model, SIGMA, output="score").attribute(X, n_samples=4000, noise_scale=0.5)
    deviation = torch.cat(model.points).unflatten(0, (-1, len(X))) - X
    torch.testing.assert_close(deviation[:, 1], deviation[:, 0], rtol=0, atol=ROUNDING)  # one seed, one noise
    error = ((SIGMA.diagonal()[:, None] * SIGMA.diagonal() + SIGMA**2) / 4000).sqrt() / 2
    assert ((deviation[:, 0].T.cov() - SIGMA / 2).abs() < STANDARD_ERRORS * error).all()


def test_held_features_stay_and_get_nothing():
    """Corollary 4.2 for an exponential: a_i (C a)_i E[f | z2 = x2] with the conditional covariance C."""
    model = Logged(exponential)
    method = FunctionalInformation(model, SIGMA, output="score")
    got, info = method.attribute(X, n_samples=4000, given=HELD, return_info=True)
    points = torch.cat(model.points).unflatten(0, (-1, len(X)))
    assert torch.equal(points[..., HELD], X[:, HELD].expand(len(points), -1, -1))
    c = Dense(SIGMA).condition(HELD).matrices[0]
    assert close(got, info, torch.exp(X @ A + A @ c @ A / 2)[:, None] * A * (c @ A))
    for weighting in ("full", "gradient", "weighted-gradient"):
        assert not method.attribute(X, n_samples=4, given=HELD, weighting=weighting)[:, HELD].any()


def test_conditional_inequality_holds_and_the_printed_one_fails():
    """(17) holds. (16) does not: f = exp(z2) with z1, z2 independent has entropy 0.824 and no information in z1.

    What holds is Ent(f) <= E[I(f | z2)] / 2 + I(E[f | z2]) / 2.
    """
    first, second = torch.tensor([False, True]), torch.tensor([True, False])
    values = torch.exp(Dense(torch.eye(2)).sample(torch.zeros(2), 400_000, seed=0)[:, 1])
    entropy = functional_entropy(values)
    assert abs(entropy - np.exp(0.5) / 2) < 0.02  # 0.824; the standard error is 0.003
    f = FunctionalInformation(lambda z: torch.exp(z[:, 1]), torch.eye(2), output="score")
    origin = torch.zeros(1, 2)
    assert f.attribute(origin, n_samples=100, given=first).sum() == 0
    rest, info = f.attribute(origin, n_samples=2000, given=second, return_info=True)
    assert abs(rest.sum() / 2 - entropy) < STANDARD_ERRORS * info.standard_error.sum() / 2 + 0.02  # here an equality


COVARIANCES = [SIGMA, positive_definite(6, 1)]


def test_each_class_has_its_own_covariance():
    both = FunctionalInformation(softmax_linear, COVARIANCES)
    target, seeds = torch.tensor([1, 0, 1]), [4, 5, 6]
    got = both.attribute(X, target, n_samples=10, seed=seeds)
    for i, label in enumerate(target.tolist()):
        alone = FunctionalInformation(softmax_linear, COVARIANCES[label])
        expected = alone.attribute(X[[i]], label, n_samples=10, seed=[seeds[i]])
        torch.testing.assert_close(got[[i]], expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("internal_batch_size", [1, 2, 5, 64])
def test_chunks_change_nothing(internal_batch_size):
    method = FunctionalInformation(softmax_linear, COVARIANCES)
    target = torch.tensor([1, 0, 1])
    expected = method.attribute(X, target, n_samples=40)
    got = method.attribute(X, target, n_samples=40, internal_batch_size=internal_batch_size)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=ROUNDING)


def test_stops_where_it_is_precise():
    method = FunctionalInformation(softmax_linear, COVARIANCES)
    got, info = method.attribute(X, [1, 0, 1], n_samples=512, tolerance=0.1, return_info=True)
    assert info.n_samples.max() < 512
    for x, t, value, n in zip(X, [1, 0, 1], got, info.n_samples.tolist(), strict=True):
        torch.testing.assert_close(method.attribute(x[None], t, n_samples=n)[0], value, rtol=1e-10, atol=ROUNDING)


def test_channels_share_a_covariance():
    """A matrix over 3 features serves both rows of a (2, 3) input, as the block-diagonal one does."""
    x, block = X.view(3, 2, 3), positive_definite(3)
    shared = FunctionalInformation(lambda z: exponential(z.flatten(1)), block, output="score")
    whole = FunctionalInformation(exponential, torch.block_diag(block, block), output="score")
    torch.testing.assert_close(
        shared.attribute(x, n_samples=20).flatten(1), whole.attribute(X, n_samples=20), rtol=ROUNDING, atol=ROUNDING
    )


def test_low_rank_and_dense_agree():
    factor, diagonal = rand(6, 2), rand(6, seed=1).square() + 0.1
    forms = LowRank(factor, diagonal), Dense(factor @ factor.T + diagonal.diag())
    for given_mask in (None, HELD):
        results = [
            FunctionalInformation(exponential, form, output="score").attribute(
                X, n_samples=1000, given=given_mask, return_info=True
            )
            for form in forms
        ]
        (a, info_a), (b, info_b) = results  # their roots differ, and so do the samples
        error = (info_a.standard_error**2 + info_b.standard_error**2).sqrt()
        assert ((a - b).abs() <= STANDARD_ERRORS * error + ROUNDING).all()


def test_the_published_form_sums_before_it_multiplies():
    x, block = X.view(3, 2, 3), positive_definite(3)
    a = A.view(2, 3)
    method = FunctionalInformation(lambda z: exponential(z.flatten(1)), block, output="score")
    channels = method.attribute(x, n_samples=1, noise_scale=0.0, summed=-2)
    f = exponential(X).view(3, 1, 1)
    torch.testing.assert_close(channels.sum(1), (f * (a @ block).sum(0) * a.sum(0))[:, 0], rtol=ROUNDING, atol=ROUNDING)
    words = method.attribute(x, n_samples=1, noise_scale=0.0, summed=-1)
    torch.testing.assert_close(words.sum(2), f[:, 0] * (a @ block).sum(1) * a.sum(1), rtol=ROUNDING, atol=ROUNDING)


def test_without_covariance_it_is_smooth_grad_squared_over_f():
    """With the identity as covariance and without noise the map is g^2 / f."""
    problem = PROBLEMS[0]
    plain = SmoothGrad(problem.forward, output="score").attribute(X, n_samples=1, stdev=0.0) ** 2
    shifted = FunctionalInformation(lambda z: problem.forward(z) + 100, torch.eye(6).double(), output="score")
    got = shifted.attribute(X, n_samples=1, noise_scale=0.0)
    torch.testing.assert_close(got, plain / (problem.forward(X) + 100)[:, None], rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.filterwarnings("ignore:In order to make embedding layers")
def test_embeddings_are_explained_through_captum():
    """Gradients with respect to word vectors, by Captum's interpretable embedding or by `classify`."""
    model = reviews_bilstm().eval()
    tokens = VOCABULARY.encode(make_reviews(3, 0).texts)
    sigma = covariance.full(model.embedding.weight.detach())
    vectors, mask = model.embedding(tokens).detach(), tokens != 0
    direct = FunctionalInformation(model.classify, sigma).attribute(
        vectors, 1, n_samples=4, additional_forward_args=mask
    )
    layer = configure_interpretable_embedding_layer(model, "embedding")
    wrapped = FunctionalInformation(lambda z, m: model.body(model.embedding(z), m), sigma)
    through = wrapped.attribute(
        layer.indices_to_embeddings(tokens).detach(), 1, n_samples=4, additional_forward_args=mask
    )
    remove_interpretable_embedding_layer(model, layer)
    torch.testing.assert_close(direct, through)
    assert not direct[~mask].any() and direct[mask].abs().sum() > 0


@pytest.mark.parametrize(
    "change, error, sentence",
    [
        ({"weighting": "half"}, ValueError, "weighting is 'half'"),
        ({"weighting": ()}, ValueError, "weighting is ()"),
        ({"noise_scale": -1.0}, ValueError, "noise_scale is -1.0"),
        ({"noise_scale": None}, ValueError, "noise_scale is None"),
        ({"n_samples": 0}, ValueError, "n_samples is 0"),
        ({"n_samples": 3, "antithetic": True}, ValueError, "even number"),
        ({"given": torch.zeros(6)}, ValueError, "expected a bool mask of shape"),
        ({"given": torch.ones(6, dtype=torch.bool)}, ValueError, "leaves a feature free"),
        ({"given": torch.zeros(5, dtype=torch.bool)}, ValueError, "expected a bool mask of shape"),
        ({"summed": 0}, ValueError, "summed is 0"),
        ({"summed": -2}, ValueError, "summed is -2"),
        ({"inputs": (X, X)}, TypeError, "inputs is a tuple"),
        ({"inputs": X * torch.nan}, ValueError, "NaN"),
        ({"target": 2}, ValueError, "target ranges"),
    ],
)
def test_bad_arguments_are_named(change, error, sentence):
    with pytest.raises(error, match=sentence):
        FunctionalInformation(softmax_linear, SIGMA).attribute(**({"inputs": X, "target": 0} | change))


def test_bad_covariances_and_outputs_are_named():
    with pytest.raises(ValueError, match="covariance is over 1 x 5 features"):
        FunctionalInformation(softmax_linear, positive_definite(5)).attribute(X, 0)
    with pytest.raises(ValueError, match="not symmetric"):
        FunctionalInformation(softmax_linear, rand(6, 6))
    with pytest.raises(ValueError, match="one per class, but class 1"):
        FunctionalInformation(softmax_linear, [SIGMA]).attribute(X, 1)
    with pytest.raises(ValueError, match="one per class, but no class"):
        FunctionalInformation(exponential, [SIGMA], output="score").attribute(X)
    with pytest.raises(ValueError, match="expected a non-negative one"):
        FunctionalInformation(softmax_linear, SIGMA, output="log_probability")
    with pytest.raises(ValueError, match="negative score"):
        FunctionalInformation(lambda z: z.sum(1) - 100, SIGMA, output="score").attribute(X)
    with pytest.raises(ValueError, match="expected non-negative"):
        functional_entropy(torch.tensor([1.0, -1.0]))
