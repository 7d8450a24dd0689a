"""Rate-distortion explanations of spectra: which frequencies, and magnitude or phase, where the answer is known."""

import pytest
import torch

from xai_lib.datasets.notes import FREQUENCIES, make_notes, partial_bins, spectrum
from xai_lib.masks import Bernoulli, Fourier, Gaussian, Inpainted, ScoreChange, channels, pixels
from xai_lib.models import load_model
from xai_lib.models.spectra import BINS, NOISE
from xai_lib.rate_distortion import RDE

NOTES = make_notes(2, 5, instruments=("organ",))
SPECTRA = spectrum(NOTES.waves)
BRIEF = Bernoulli(1.0, n_steps=1, n_samples=1)


def test_bernoulli_keeps_the_frequencies_that_are_worth_more_than_they_cost():
    """A linear score: with one entry for magnitude and phase, theta is 1 where sigma^2 (w^2 + u^2) > lambda / N."""
    weights = torch.zeros(2, BINS)
    weights[0, ::200], weights[1, 100::200], weights[:, 50::100] = 1.5, 1.5, 0.1
    sigma, price = 0.5, 0.1
    worth = sigma**2 * weights.square().sum(0)
    noise = Gaussian(mean=SPECTRA[:1], std=sigma)  # around the input itself, so the distortion is a sum over entries
    solver = Bernoulli(price * BINS, n_steps=100, step_size=0.3, n_samples=64)
    rde = RDE(lambda x: (x * weights).sum((1, 2)), pixels, noise, ScoreChange(), solver)
    theta = rde.attribute(SPECTRA[:1])[0, 0]
    torch.testing.assert_close(theta, (worth > price).float(), rtol=0, atol=0.05)


@pytest.mark.parametrize("part", [0, 1])
def test_a_model_that_hears_one_part_needs_no_other(part):
    """Its weights fall on the strongest lines of each note; the notes share one mask."""
    heard = SPECTRA[:, :1] > 2
    noise = Gaussian(mean=0.0, std=1.0)
    solver = Bernoulli(1.0, n_steps=80, step_size=0.3, n_samples=4)
    rde = RDE(lambda x: (x[:, part] * heard.any(0)).sum(1), channels, noise, ScoreChange(), solver)
    theta = rde.attribute(SPECTRA, share=[0, 0], seed=[1, 2], return_details=True)[1].mask
    torch.testing.assert_close(theta, torch.eye(2)[part][None], rtol=0, atol=0.02)


def test_partials_fill_the_strong_bins_and_no_others():
    power, within = SPECTRA[:, 0].square(), partial_bins(NOTES.frequencies)
    assert within[power > power.amax(1, keepdim=True) / 2].all()
    assert power[within].sum() > 0.8 * power.sum() and within.double().mean() < 0.3
    assert partial_bins(torch.tensor([[0.0, 1000.0]])).nonzero()[:, 1].tolist() == [
        i for i, f in enumerate(FREQUENCIES) if abs(f - 1000) <= 2.5 + 0.00293 * f
    ]
    assert not partial_bins(torch.zeros(1, 48)).any()


def test_what_is_kept_reaches_the_model_and_the_rest_is_inpainted():
    inpainter = Inpainted(load_model("spectra_inpainter"), (NOISE,))
    rde = RDE(load_model("spectra_resnet"), pixels, inpainter, ScoreChange(), BRIEF)
    kept = torch.zeros(2, BINS)
    kept[:, :500] = 1
    one, two = rde.obfuscate(SPECTRA, kept, n_samples=2)
    assert torch.equal(one[..., :500], SPECTRA[..., :500])
    assert (one >= 0)[..., 500:].all() and not torch.equal(one[..., 500:], two[..., 500:])


@pytest.mark.parametrize(
    "call, sentence",
    [
        (
            lambda: spectrum(torch.zeros(1, 15_600)),
            "waves holds a silent clip, expected sound: its power cannot be normalised.",
        ),
        (
            lambda: RDE(lambda x: x.mean(1), Fourier("part"), Gaussian(), ScoreChange(), BRIEF).attribute(
                torch.zeros(1, 100)
            ),
            "inputs holds silence, expected signals with a spectrum.",
        ),
        (
            lambda: RDE(
                lambda x: x.mean((1, 2)), pixels, Inpainted(lambda h, s, z: h[..., :9]), ScoreChange(), BRIEF
            ).attribute(SPECTRA),
            "generator returned shape (2, 2, 9), expected (2, 2, 1024).",
        ),
        (
            lambda: load_model("spectra_resnet")(SPECTRA[..., :1000]),
            "spectra has shape (2, 2, 1000), expected (B, 2, 1024): magnitude and phase.",
        ),
    ],
)
def test_bad_sound_gets_one_sentence(call, sentence):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == sentence
