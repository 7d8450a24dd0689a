"""The scale-space axioms on the pixel grid, and closed forms of the heat flow."""

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xai_lib.scale_space import LONGEST_MATRIX, count_maxima, scale_space

ROUNDING = 1e-12
IMAGES = arrays(np.float64, st.tuples(*[st.integers(2, 9)] * 2), elements=st.floats(-1, 1, width=32))
SIGMAS = st.floats(0.05, 20)


def blurred(image, sigma, dims=(-2, -1), kernel="diffusion"):
    image = torch.as_tensor(image)
    return scale_space(image[None], dims, kernel)(torch.tensor([sigma], dtype=torch.float64))[0, 0]


@pytest.mark.parametrize("shape", [(9, 12), (12, 9), (1, 5), (LONGEST_MATRIX + 3, 4)])
def test_matches_scipys_cosine_transform(shape):
    """Short axes go through a matrix, long ones through the Fourier transform; both are the same heat flow."""
    image = np.random.default_rng(0).normal(size=shape)
    sigma = 1.7
    eigenvalues = sum(
        np.expand_dims(2 - 2 * np.cos(np.pi * np.arange(n) / n), 1 - axis) for axis, n in enumerate(shape)
    )
    expected = scipy.fft.idctn(np.exp(-(sigma**2) * eigenvalues / 2) * scipy.fft.dctn(image))
    np.testing.assert_allclose(blurred(image, sigma).numpy(), expected, rtol=ROUNDING, atol=ROUNDING)


def test_one_axis_leaves_the_other_alone():
    image = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.stack([blurred(row, 2.0, dims=(-1,)) for row in image])
    torch.testing.assert_close(blurred(image, 2.0, dims=(-1,)), rows, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(blurred(rows, 2.0, dims=(-2,)), blurred(image, 2.0), rtol=ROUNDING, atol=ROUNDING)


def test_many_scales_and_chosen_rows():
    x = torch.randn(4, 2, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    rows = torch.tensor([3, 1])
    for kernel in ("diffusion", "gaussian"):
        together = scale_space(x, (-2, -1), kernel)(sigma, rows)
        assert together.shape == (3, 2, 2, 6, 5)
        for k, s in enumerate(sigma):
            one = scale_space(x[rows], (-2, -1), kernel)(s[None])[0]
            torch.testing.assert_close(together[k], one, rtol=ROUNDING, atol=ROUNDING)
        torch.testing.assert_close(together[0], x[rows], rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("kernel, length", [("diffusion", 9), ("diffusion", LONGEST_MATRIX + 1), ("gaussian", 9)])
def test_differences_are_those_of_the_blurred_copies(kernel, length):
    x = torch.randn(2, 1, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = torch.tensor([20.0, 4.0, 1.0, 0.0], dtype=torch.float64)
    blur = scale_space(x, (-1,), kernel)
    torch.testing.assert_close(blur(sigma, difference=True), blur(sigma).diff(dim=0), rtol=ROUNDING, atol=ROUNDING)


@given(IMAGES, SIGMAS, SIGMAS)
def test_semigroup(image, a, b):
    twice = blurred(blurred(image, a), b)
    once = blurred(image, float(np.hypot(a, b)))
    torch.testing.assert_close(twice, once, rtol=ROUNDING, atol=ROUNDING)


@given(IMAGES, SIGMAS)
def test_mean_is_kept(image, sigma):
    assert abs(blurred(image, sigma).mean() - image.mean()) < ROUNDING


@given(IMAGES, SIGMAS, st.floats(1, 3))
def test_no_extremum_is_enhanced(image, sigma, factor):
    """Global extrema never grow with the scale, and where L has a local maximum dL/dt <= 0."""
    fine, coarse = blurred(image, sigma), blurred(image, sigma * factor)
    assert coarse.max() <= fine.max() + ROUNDING and coarse.min() >= fine.min() - ROUNDING
    dt = 1e-7
    slope = (blurred(image, float(np.sqrt(sigma**2 + dt))) - fine) / dt
    padded = torch.nn.functional.pad(fine[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    neighbours = torch.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    at_maximum = (fine >= neighbours).all(0)
    assert (slope[at_maximum] <= 1e-6).all()  # the finite difference is wrong by dt and by rounding / dt
    assert (slope[(fine <= neighbours).all(0)] >= -1e-6).all()


@given(SIGMAS, st.integers(0, 11))
def test_a_cosine_decays_in_closed_form(sigma, k):
    n = 12
    wave = torch.cos(torch.pi * k * (torch.arange(n, dtype=torch.float64) + 0.5) / n)
    decay = np.exp(-(sigma**2) * (2 - 2 * np.cos(np.pi * k / n)) / 2)
    torch.testing.assert_close(blurred(wave, sigma, dims=(-1,)), decay * wave, rtol=ROUNDING, atol=ROUNDING)


def test_parabola_rises_by_the_variance():
    """The Laplacian of x^2 + 1 is 2, so away from the borders the blurred parabola is x^2 + 1 + sigma^2."""
    x = torch.linspace(-200, 200, 401, dtype=torch.float64)
    inner = slice(150, 251)
    got = blurred(x**2 + 1, 3.0, dims=(-1,))[inner]
    torch.testing.assert_close(got, (x**2 + 1 + 9)[inner], rtol=ROUNDING, atol=1e-9)


def test_sampled_gaussian_is_scipys():
    image = np.random.default_rng(0).normal(size=(9, 7))
    expected = scipy.ndimage.gaussian_filter(image, 1.3, mode="reflect")
    np.testing.assert_array_equal(blurred(image, 1.3, kernel="gaussian").numpy(), expected)


def test_kernels_differ_at_small_scales_and_agree_at_large_ones():
    image = np.random.default_rng(0).normal(size=(40, 40))
    difference = [
        (blurred(image, s) - blurred(image, s, kernel="gaussian")).abs().max() / blurred(image, s).abs().max()
        for s in (1.0, 2.0, 4.0)
    ]
    assert difference[0] > 0.1 > difference[1] > difference[2]


def test_a_blur_in_two_dimensions_can_create_a_maximum():
    """A ridge rises from the lower hill to the higher one, so there is one maximum; the blur cuts the ridge first."""
    rows, columns = np.mgrid[:33, :65]
    hills = sum(height * np.exp(-((rows - 16) ** 2 + (columns - c) ** 2) / 50) for height, c in ((1.0, 16), (0.8, 48)))
    ridge = np.where((rows == 16) & (columns >= 16) & (columns <= 48), 1 - 0.2 * (columns - 16) / 32, 0)
    image = np.maximum(hills, ridge)
    assert [count_maxima(blurred(image, sigma)) for sigma in (0.0, 2.0, 40.0)] == [1, 2, 1]


def test_a_plateau_is_one_maximum():
    image = torch.zeros(6, 8)
    image[1, 1] = image[3:5, 4:7] = 1
    image[3, 4] += 1e-12  # as a transform leaves it
    assert count_maxima(image) == 2
    assert count_maxima(torch.tensor([1.0, 0.0, 2.0, 2.0, 0.5, 3.0])) == 3


def test_unknown_kernel():
    with pytest.raises(ValueError, match="kernel is 'box'"):
        scale_space(torch.zeros(1, 3, 3), (-2, -1), "box")
