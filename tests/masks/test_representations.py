"""Representations invert exactly, agree with PyWavelets, and leave alone what a mask keeps."""

import numpy as np
import pytest
import pywt
import torch

from xai_lib.masks import (
    Blurred,
    Clusters,
    Constant,
    Fourier,
    Gaussian,
    Inpainted,
    Objective,
    ScoreChange,
    Wavelets,
    channels,
    pixels,
)
from xai_lib.outputs import pose

MODES = ["zero", "symmetric", "reflect", "periodic", "constant"]


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", ["db3", "haar"])
@pytest.mark.parametrize("size", [(32, 32), (37, 45), (33, 64)])
def test_wavelets_invert_and_agree_with_pywavelets(mode, wavelet, size):
    x = rand(2, 3, *size)
    h = Wavelets(wavelet, 2, mode, clip=False)(x)
    torch.testing.assert_close(h.signal(h.values), x, rtol=0, atol=1e-13)
    approximation, *details = pywt.wavedec2(x.numpy(), wavelet, mode, 2)
    bands = [approximation, *(np.stack(d, 2) for d in details)]
    reference = np.concatenate([band.reshape(2, 3, -1) for band in bands], 2)
    np.testing.assert_allclose(h.values, reference, rtol=0, atol=1e-13)
    assert h.groups == tuple(band[0, 0].size for band in bands)


@pytest.mark.parametrize("size, levels", [(256, 5), (64, 3), (32, 2), (16, 1), (8, 1)])
def test_default_levels(size, levels):
    assert len(Wavelets()(rand(1, 1, size, size)).groups) == levels + 1


def test_coefficients_of_the_papers_images():
    assert Wavelets()(rand(1, 3, 256, 256)).exists.shape == (1, 69_831)


def test_wavelet_levels_are_checked():
    with pytest.warns(UserWarning, match="levels is 5; db3 at 64 pixels has 3 levels"):
        Wavelets(levels=5)(rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="levels is 0, expected an integer of at least 1, or None"):
        Wavelets(levels=0)(rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="wavelet is 'db99', expected a name"):
        Wavelets("db99")(rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="expected images"):
        Wavelets()(rand(1, 3, 64))
    with pytest.raises(ValueError, match="mode is 'bogus', expected one of constant, periodic"):
        Wavelets(mode="bogus")(rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"inputs ranges from 3 to 3, expected \[0, 1\]"):
        Wavelets()(3 * torch.ones(1, 3, 64, 64))


@pytest.mark.filterwarnings("ignore:levels is")
def test_levels_that_the_transform_does_not_take():
    with pytest.raises(ValueError, match="levels is 6, more than db3 takes at 8x8 pixels in mode 'reflect'"):
        Wavelets(levels=6, mode="reflect")(rand(1, 1, 8, 8))


def test_cartoons_are_grey_and_in_range():
    x = rand(2, 3, 32, 32)
    h = Wavelets()(x)
    grey = x.mean(1, keepdim=True).expand_as(x)
    torch.testing.assert_close(h.explain(torch.ones(2, sum(h.groups), dtype=x.dtype)), grey, rtol=0, atol=1e-13)
    assert (h.explain(torch.zeros(2, sum(h.groups), dtype=x.dtype)) == 0).all()


@pytest.mark.parametrize("masked, entries", [("frequency", 21), ("part", 2), ("both", 42)])
@pytest.mark.parametrize("shape", [(2, 40), (2, 3, 40), (2, 41)])
def test_magnitude_and_phase_invert(masked, entries, shape):
    x = rand(*shape) - 0.5
    h = Fourier(masked)(x)
    torch.testing.assert_close(h.signal(h.values), x, rtol=0, atol=1e-14)
    assert h.exists.shape == (2, entries) and h.explain(h.exists.to(x.dtype)).shape == x.shape


def test_silence_has_no_spectrum():
    with pytest.raises(ValueError, match="inputs holds silence"):
        Fourier()(torch.cat([rand(1, 40), torch.zeros(1, 40)]))
    with pytest.raises(ValueError, match="masked is 'all'"):
        Fourier("all")(rand(1, 40))


def test_clusters():
    x = rand(1, 1, 2, 3)
    h = Clusters(torch.tensor([[[[1, 1, 0], [2, 4, 4]]]]))(x)
    assert h.exists.tolist() == [[True, True, False, True]]
    spread = h.spread(torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=x.dtype), torch.tensor([0]))
    assert spread.tolist() == [[[[0.1, 0.1, 1.0], [0.2, 0.4, 0.4]]]]
    with pytest.raises(ValueError, match="an empty city"):
        Clusters(torch.zeros(1, 1, 2, 3, dtype=torch.int64))(x)
    with pytest.raises(ValueError, match="labels has shape"):
        Clusters(torch.ones(1, 2, 3, dtype=torch.int64))(x)


SIGNALS = rand(2, 3, 16)
IMAGES = rand(2, 3, 16, 16)
CASES = [
    (pixels, IMAGES),
    (channels, IMAGES),
    (Wavelets(levels=1), IMAGES),
    (Fourier(), SIGNALS),
    (Fourier("part"), SIGNALS),
    (Clusters(torch.randint(4, IMAGES.shape, generator=torch.Generator().manual_seed(0)) + 1), IMAGES),
]


def made(representation, x, obfuscation):
    problem = pose(lambda z: z.flatten(1).sum(1), x, None, None, "score", 64)
    h = representation(x)
    return Objective(problem, h, obfuscation(h, x), ScoreChange())


@pytest.mark.parametrize("representation, x", CASES, ids=lambda v: getattr(v, "__name__", type(v).__name__))
def test_a_binary_mask_keeps_coefficients_to_the_bit(representation, x):
    for obfuscation in (Constant(0.5), Gaussian(), Blurred(2.0, representation), Inpainted(lambda h, s, z: 1 - h)):
        objective = made(representation, x, obfuscation)
        mask = (rand(*objective.exists.shape, seed=5) > 0.5).to(x.dtype)
        mask[:, 0], mask[:, -1] = 1, 0
        rows = torch.arange(len(x))
        mixed = objective.mixed(mask, rows, objective.noise(0, 3))
        kept = objective.h.spread(mask, rows).expand_as(objective.h.values) == 1
        assert (mixed == objective.h.values)[:, kept].all()
        assert (mixed != objective.h.values)[:, ~kept].double().mean() > 0.5  # a phase of 0 may stay 0


def test_a_blurred_copy_may_leave_the_range_by_round_off():
    x = torch.zeros(1, 3, 64, 64)
    x[..., 32:] = 1
    v = Blurred(2.0, Wavelets())(Wavelets()(x), x).draw(torch.arange(1), None, None)
    assert v.isfinite().all()


def test_noise_has_the_statistics_of_each_scale():
    h = Wavelets()(IMAGES)
    v = Gaussian()(h, IMAGES).draw(
        torch.arange(2), None, torch.randn(4000, 1, *h.values.shape[1:], dtype=torch.float64)
    )
    for noise, values in zip(v.split(h.groups, -1), h.values.split(h.groups, -1), strict=True):
        for image in range(2):
            mean, std = values[image].mean(), values[image].std()
            n = noise[:, image].numel()
            assert abs(noise[:, image].mean() - mean) < 5 * std / n**0.5
            assert abs(noise[:, image].std() / std - 1) < 5 / (2 * n) ** 0.5


def test_statistics_of_pixels_are_those_of_the_image():
    h = pixels(IMAGES)
    perturbation = Gaussian()(h, IMAGES)
    rows, ones = torch.arange(2), torch.ones(1, 1, *IMAGES.shape[1:], dtype=IMAGES.dtype)
    expected = IMAGES.flatten(1).mean(1) + IMAGES.flatten(1).std(1)
    torch.testing.assert_close(perturbation.draw(rows, None, ones)[0, :, 0, 0, 0], expected)


def test_features_without_channels_have_the_statistics_of_their_input():
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = Gaussian()(channels(x), x).draw(torch.arange(3), None, torch.ones(1, 1, 8, dtype=torch.float64))[0]
    torch.testing.assert_close(v, (x.mean(1) + x.std(1))[:, None].expand(3, 8))


def test_magnitude_and_phase_have_statistics_of_their_own():
    h = Fourier()(torch.randn(2, 1, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    rows, ones = torch.arange(2), torch.ones(1, 1, *h.values.shape[1:], dtype=torch.float64)
    v = Gaussian()(h, IMAGES).draw(rows, None, ones)[0]
    for part in range(2):
        expected = h.values[:, part].flatten(1).mean(1) + h.values[:, part].flatten(1).std(1)
        torch.testing.assert_close(v[:, part], expected[:, None, None].expand_as(v[:, part]))


@pytest.mark.parametrize(
    "obfuscation, sentence",
    [
        *(
            (
                Gaussian(mean, std),
                f"mean is {mean} and std is {std}, expected finite numbers and std of at least 0 (None takes that of "
                "the coefficients, which a single one does not have).",
            )
            for mean, std in ((None, -1.0), (None, torch.nan), (torch.inf, None))
        ),
        (Blurred(0.0, pixels), "sigma is 0.0, expected a positive number of pixels."),
        (Inpainted(lambda h, s, z: h[:, :1]), "generator returned shape (2, 1, 16, 16), expected (2, 3, 16, 16)."),
    ],
)
def test_bad_obfuscations(obfuscation, sentence):
    with pytest.raises(ValueError) as error:
        objective = made(pixels, IMAGES, obfuscation)
        objective.value(torch.zeros(objective.exists.shape, dtype=IMAGES.dtype), objective.noise(0, 2))
    assert str(error.value) == sentence
