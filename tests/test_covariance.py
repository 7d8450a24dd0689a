"""Covariances: each form against its dense matrix, conditioning against the textbook and brute force, estimates."""

import os
import subprocess
import sys

import pytest
import torch
from sklearn.covariance import LedoitWolf, ledoit_wolf

from xai_lib import covariance
from xai_lib.covariance import Dense, LowRank

ROUNDING = 1e-11
STANDARD_ERRORS = 5.5  # of a correct estimate one in 3e7 lies further out


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def positive_definite(d, seed=0):
    root = rand(d, d, seed=seed)
    return root @ root.T / d + 0.1 * torch.eye(d, dtype=torch.float64)


BLOCKS = torch.stack([positive_definite(4, seed) for seed in (1, 2, 3)])
FACTOR, DIAGONAL = rand(12, 3), rand(12, seed=1).square() + 0.2
FORMS = {  # a covariance of the 12 features of a (3, 4) input, and its dense matrix
    "full": (Dense(positive_definite(12)), positive_definite(12)),
    "shared": (Dense(BLOCKS[0]), torch.block_diag(*[BLOCKS[0]] * 3)),
    "blocks": (Dense(BLOCKS), torch.block_diag(*BLOCKS)),
    "low rank": (LowRank(FACTOR, DIAGONAL), FACTOR @ FACTOR.T + DIAGONAL.diag()),
}
HELD = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]], dtype=torch.bool)
form = pytest.mark.parametrize("sigma, dense", FORMS.values(), ids=FORMS)


def dense_conditional(dense):
    """S11 - S12 S22^-1 S21 and S12 S22^-1, by the inverse."""
    free, held = ~HELD.flatten(), HELD.flatten()
    s11, s12, s22 = dense[free][:, free], dense[free][:, held], dense[held][:, held]
    regression = s12 @ torch.linalg.inv(s22)
    return s11 - regression @ s12.T, regression


def as_matrix(linear):
    """The matrix of a linear map of (N, 3, 4) inputs."""
    return linear(torch.eye(12, dtype=torch.float64).view(12, 3, 4)).flatten(1).T


@form
def test_products(sigma, dense):
    torch.testing.assert_close(as_matrix(sigma.multiply), dense, rtol=0, atol=ROUNDING)
    root = as_matrix(sigma.colour)
    torch.testing.assert_close(root @ root.T, dense, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(sigma.diagonal().expand(12 // sigma.size, -1).flatten(), dense.diagonal())


@form
def test_samples_have_the_mean_and_the_covariance(sigma, dense):
    n, mean = 20_000, rand(3, 4, seed=5)
    drawn = sigma.sample(mean, n, seed=0).flatten(1)
    assert torch.equal(drawn, sigma.sample(mean, n, seed=0).flatten(1))
    variance = dense.diagonal()
    assert ((drawn.mean(0) - mean.flatten()).abs() < STANDARD_ERRORS * (variance / n).sqrt()).all()
    error = ((variance[:, None] * variance + dense**2) / n).sqrt()  # Isserlis
    assert ((drawn.T.cov() - dense).abs() < STANDARD_ERRORS * error).all()


@form
def test_conditioning_agrees_with_the_textbook(sigma, dense):
    expected, regression = dense_conditional(dense)
    conditional = sigma.condition(HELD)
    free, held = ~HELD.flatten(), HELD.flatten()
    matrix = as_matrix(conditional.multiply)
    torch.testing.assert_close(matrix[free][:, free], expected, rtol=0, atol=ROUNDING)
    assert not matrix[held].any() and not matrix[:, held].any()
    root = as_matrix(conditional.colour)
    torch.testing.assert_close(root @ root.T, matrix, rtol=0, atol=ROUNDING)

    deviation = rand(5, 3, 4, seed=7)
    mean = sigma.conditional_mean(HELD, deviation).flatten(1)
    torch.testing.assert_close(mean[:, free], deviation.flatten(1)[:, held] @ regression.T, rtol=0, atol=ROUNDING)
    assert torch.equal(mean[:, held], deviation.flatten(1)[:, held])


@pytest.mark.parametrize(
    "make", [Dense, lambda s: LowRank(torch.linalg.cholesky(s - 0.1 * torch.eye(2)), torch.full((2,), 0.1))]
)
def test_conditioning_agrees_with_rejection_sampling(make):
    """Of many samples in two dimensions, keep those whose second feature is near a value."""
    sigma = make(torch.tensor([[1.0, 0.8], [0.8, 1.5]]))
    held, value, width = torch.tensor([False, True]), 1.2, 0.02
    drawn = sigma.sample(torch.zeros(2), 2_000_000, seed=0)
    kept = drawn[(drawn[:, 1] - value).abs() < width, 0]
    variance = sigma.condition(held).multiply(torch.tensor([1.0, 0.0]))[0]
    mean = sigma.conditional_mean(held, torch.tensor([0.0, value]))[0]
    n = len(kept)
    assert abs(kept.mean() - mean) < STANDARD_ERRORS * (variance / n) ** 0.5 + width
    assert abs(kept.var() - variance) < STANDARD_ERRORS * variance * (2 / n) ** 0.5 + width**2


@form
def test_it_fits_the_inputs_whose_trailing_sides_it_spans(sigma, dense):
    assert sigma.fits(torch.Size((3, 4))) and sigma.fits(torch.Size((3, 2, 2)))
    assert not sigma.fits(torch.Size((3, 5)))
    assert sigma.to(torch.zeros(1)).multiply(torch.ones(3, 4)).dtype == torch.float32


SAMPLES = rand(50, 3, 4, seed=9) @ torch.linalg.cholesky(BLOCKS[1]).T + 2


def test_full_estimate_is_the_sample_covariance():
    expected = SAMPLES.flatten(1).T.cov()
    ridge = 1e-3 * expected.diagonal().mean() * torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(covariance.full(SAMPLES).matrices[0], expected + ridge)
    torch.testing.assert_close(covariance.full(SAMPLES, ridge=0).matrices[0], expected)


def test_shared_estimate_is_the_mean_of_the_channels():
    expected = torch.stack([SAMPLES[:, c].T.cov() for c in range(3)]).mean(0)
    torch.testing.assert_close(covariance.shared(SAMPLES, ridge=0).matrices[0], expected)


def test_blocks_are_the_blocks_of_the_full_estimate():
    whole = covariance.full(SAMPLES, ridge=0).matrices[0]
    for i, block in enumerate(covariance.blocks(SAMPLES, 6, ridge=0).matrices):
        torch.testing.assert_close(block, whole[6 * i : 6 * i + 6, 6 * i : 6 * i + 6])


def test_runs_of_a_signal_may_share_a_matrix():
    own, common = (covariance.blocks(SAMPLES, 6, shared=shared, ridge=0) for shared in (False, True))
    torch.testing.assert_close(common.matrices[0], own.matrices.mean(0))
    assert common.fits(torch.Size((1, 12))) and own.fits(torch.Size((1, 12))) and not common.fits(torch.Size((3, 6)))
    assert common.multiply(SAMPLES).shape == SAMPLES.shape and common.nbytes == own.nbytes / 2


def test_low_rank_estimate_keeps_the_variances_and_tends_to_the_full_one():
    whole = SAMPLES.flatten(1).T.cov()
    basis = torch.eye(12, dtype=torch.float64)
    estimates = [covariance.low_rank(SAMPLES, rank, ridge=0.1) for rank in (2, 6, 11)]
    for estimate in estimates:
        torch.testing.assert_close(estimate.diagonal()[0], whole.diagonal() + 0.1 * whole.diagonal().mean())
    gaps = [(e.multiply(basis) - whole - 0.1 * whole.diagonal().mean() * basis).norm() for e in estimates]
    assert gaps[0] > gaps[1] > gaps[2]


def test_ledoit_wolf_agrees_with_scikit_learn():
    n = len(SAMPLES)
    expected = LedoitWolf().fit(SAMPLES.flatten(1).numpy()).covariance_
    got = covariance.full(SAMPLES, ridge=0, ledoit_wolf=True).matrices[0] * (n - 1) / n  # scikit-learn divides by n
    torch.testing.assert_close(got, torch.from_numpy(expected))
    few = SAMPLES[:5].flatten(1)
    assert covariance.full(few, ridge=0, ledoit_wolf=True).matrices[0].det() > 0
    assert 0 < ledoit_wolf(few.numpy())[1] <= 1


def test_imagenet_size_fits_by_low_rank():
    """3 x 224 x 224 features: what is held is no more than the samples it comes from; see below for the peak."""
    samples = torch.rand(12, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    sigma = covariance.low_rank(samples, 8)
    assert sigma.nbytes < 12 * samples[0].nbytes
    assert sigma.fits(samples.shape[1:])
    x = samples[:2] - samples.mean(0)
    information = (sigma.multiply(x) * x).sum()
    assert information > 0 and sigma.colour(x).isfinite().all()


ONE_ATTRIBUTION = """
import resource, torch
from xai_lib import covariance
from xai_lib.functional_information import FunctionalInformation

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB on Linux

before = peak()
samples = torch.rand(96, 3, 224, 224, generator=torch.Generator().manual_seed(0))
sigma = covariance.images(samples)
images, samples = samples[:1].clone(), None
weights = torch.linspace(-1, 1, images[0].numel()).view(images[0].shape)

def network(x):
    score = (weights * x).sum((1, 2, 3))
    return torch.stack([score, -score], 1) / 100

map = FunctionalInformation(network, sigma).attribute(images, 0, n_samples=8)
assert map.shape == images.shape and map.isfinite().all() and map.sum() > 0
assert type(sigma) is covariance.LowRank and sigma.strengths.shape == (1, covariance.RANK)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
def test_the_peak_memory_of_an_attribution_at_imagenet_size():
    """From the images of a class to a map, in a process of its own: below 2 GB beyond the libraries (here 0.3 GB)."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", ONE_ATTRIBUTION], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 2e9


def test_images_get_the_estimate_that_fits(monkeypatch):
    pictures = rand(20, 3, 4, 4)
    monkeypatch.setattr(covariance, "LARGEST", 16)
    assert torch.equal(covariance.images(pictures).matrices, covariance.shared(pictures).matrices)
    monkeypatch.setattr(covariance, "LARGEST", 15)
    for rank, kept in ((0, 19), (5, 5), (100, 19)):
        got, expected = covariance.images(pictures, rank), covariance.low_rank(pictures, kept)
        assert torch.equal(got.multiply(pictures), expected.multiply(pictures))
    monkeypatch.setattr(covariance, "RANK", 4)
    assert covariance.images(pictures).strengths.shape == (1, 4)


@pytest.mark.parametrize(
    "matrix, sentence",
    [
        (torch.rand(3, 4), "expected a square matrix"),
        ("identity", "covariance is str"),
        (torch.tensor([[1.0, 0.5], [0.2, 1.0]]), "not symmetric"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "not positive definite"),
        (torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "not positive definite"),
        (torch.full((2, 2), torch.nan), "NaN or infinity"),
        (torch.eye(2, dtype=torch.long), "covariance has dtype torch.int64, expected floats"),
    ],
)
def test_a_matrix_that_is_no_covariance_is_refused(matrix, sentence):
    with pytest.raises(ValueError, match=sentence):
        Dense(matrix)


@pytest.mark.parametrize(
    "estimate, sentence",
    [
        (lambda: covariance.full(SAMPLES[:1]), "samples has 1 rows"),
        (lambda: covariance.full(SAMPLES[:8], ridge=0), "not positive definite"),
        (lambda: covariance.full(SAMPLES * torch.nan), "NaN"),
        (lambda: covariance.full(SAMPLES.int()), "samples has dtype torch.int32, expected floats"),
        (lambda: covariance.blocks(SAMPLES, 5), "expected a divisor"),
        (lambda: covariance.low_rank(SAMPLES[:8], 8), "rank is 8, expected 1 to 7"),
        (lambda: LowRank(FACTOR, torch.zeros(12)), "expected positive variances"),
        (lambda: LowRank(FACTOR, DIAGONAL[:3]), "expected"),
    ],
)
def test_an_estimate_that_cannot_be_is_refused(estimate, sentence):
    with pytest.raises(ValueError, match=sentence):
        estimate()
