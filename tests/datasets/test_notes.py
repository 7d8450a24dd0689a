"""The notes: their physics against closed forms, their twins, their labels, and the two representations."""

import numpy as np
import pytest
import torch

from xai_lib.datasets.notes import (
    FAMILIES,
    FREQUENCIES,
    INSTRUMENTS,
    KINDS,
    LABELS,
    LENGTH,
    PIPES,
    RATE,
    log_mel,
    make_notes,
    mel_centres,
    mel_filters,
    partial_bins,
    spectrum,
)

TIME = torch.arange(LENGTH, dtype=torch.float64) / RATE


def test_same_seed_same_bytes_and_prefixes_agree():
    one, two, other = make_notes(6, 3), make_notes(4, 3), make_notes(4, 4)
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a[:4], b)
    assert not torch.equal(one.waves[:4], other.waves)


@pytest.mark.parametrize("voices", [0, 1, 2])
def test_clips_are_what_they_promise(voices):
    clips = make_notes(12, 0, voices)
    assert clips.waves.shape == (12, LENGTH) and clips.waves.dtype == torch.float32
    assert clips.waves.abs().max() < 1
    assert clips.labels.shape == (12, len(LABELS)) and clips.instruments.shape == (12, voices)
    assert clips.frequencies.shape == clips.amplitudes.shape == (12, voices * 48)
    assert (clips.frequencies < RATE / 2).all() and ((clips.frequencies > 0) == (clips.amplitudes > 0)).all()


def test_labels_on_three_levels():
    clips = make_notes(20, 1)
    assert torch.equal(clips.instruments.flatten().bincount(), torch.full((10,), 2))
    for labels, (instrument,) in zip(clips.labels, clips.instruments, strict=True):
        name = INSTRUMENTS[instrument]
        assert {LABELS[i] for i in labels.nonzero()} == {"music", FAMILIES[name].kind, name}
    assert {family.kind for family in FAMILIES.values()} == set(KINDS) and tuple(FAMILIES) == INSTRUMENTS
    two = make_notes(20, 1, voices=2)
    assert (two.instruments[:, 0] != two.instruments[:, 1]).all()
    assert (two.labels[:, LABELS.index("organ") :].sum(1) == 2).all() and (two.labels[:, 0] == 1).all()
    others = make_notes(6, 1, voices=0)
    assert [LABELS[i] for i in others.labels.argmax(1)] == ["noise", "sine", "silence"] * 2
    assert (others.labels.sum(1) == 1).all()


def test_flute_and_organ_differ_in_magnitude_at_the_pipes_alone():
    flute, organ = make_notes(8, 5, instruments=("flute",)), make_notes(8, 5, instruments=("organ",))
    pipes = torch.isin(torch.arange(1, organ.amplitudes.shape[1] + 1), torch.tensor(PIPES))
    assert torch.equal(flute.frequencies[:, :2], organ.frequencies[:, :2])
    both = (flute.frequencies > 0) & (organ.frequencies > 0)
    assert torch.equal(flute.frequencies[both], organ.frequencies[both])
    ratio = organ.amplitudes / flute.amplitudes.clamp(min=1e-12)
    strong = flute.amplitudes > 1e-6 * flute.amplitudes.amax(1, keepdim=True)
    expected = ratio[:, :1].expand_as(ratio)  # both are scaled to their loudness
    torch.testing.assert_close(ratio[strong & ~pipes], expected[strong & ~pipes], rtol=1e-3, atol=0)
    assert (organ.amplitudes[~strong & ~pipes] < 1e-5).all()
    assert (organ.amplitudes[:, 7] > 5 * ratio[:, 0] * flute.amplitudes[:, 7]).all()
    a, b = spectrum(flute.waves), spectrum(organ.waves)
    for k in (0, 1):  # the phases at the loud partials that they share
        at = partial_bins(flute.frequencies[:, k : k + 1]) & (a[:, 0] > 3)
        assert at.any(1).all() and (torch.cos((a - b)[:, 1])[at] > 0.99).all()


def test_reed_and_brass_differ_in_phase_alone():
    reed, brass = make_notes(8, 5, instruments=("reed",)), make_notes(8, 5, instruments=("brass",))
    assert torch.equal(reed.amplitudes, brass.amplitudes) and torch.equal(reed.frequencies, brass.frequencies)
    a, b = spectrum(reed.waves), spectrum(brass.waves)
    assert (((a - b)[:, 0].norm(dim=1) / a[:, 0].norm(dim=1)) < 0.02).all()  # neighbouring lines overlap a little
    strong = a[:, 0] > 3
    opposite = torch.cos((a - b)[:, 1])[strong] < 0
    assert 0.3 < opposite.double().mean() < 0.7


def test_brass_enters_from_below():
    """Energy in the first 60 ms, above over below 1 kHz: later partials miss it."""
    patches = [log_mel(make_notes(8, 2, instruments=(name,)).waves)[:, 0, :6].exp() for name in ("reed", "brass")]
    high = torch.from_numpy(mel_centres() > 1000)
    reed, brass = (p[..., high].sum((1, 2)) / p[..., ~high].sum((1, 2)) for p in patches)
    assert (brass < 0.5 * reed).all()


@pytest.mark.parametrize("name", ["guitar", "keyboard", "mallet", "flute"])
def test_partials_lie_where_the_instrument_puts_them(name):
    f = make_notes(3, 0, instruments=(name,)).frequencies.double()
    k = torch.arange(1, 49)
    stiffness = FAMILIES[name].stiffness
    law = (2 * k + 1) ** 2 / 9 if stiffness is None else k * (1 + stiffness * k**2) ** 0.5
    there = f > 0
    torch.testing.assert_close(f[there], (f[:, :1] / law[0] * law)[there], rtol=1e-6, atol=0)  # float32
    low, high = FAMILIES[name].pitch
    assert ((f[:, 0] > 0.99 * low) & (f[:, 0] < 1.01 * high)).all()


def test_higher_partials_of_a_plucked_string_die_first():
    patch = log_mel(make_notes(10, 0, instruments=("guitar",)).waves)[:, 0].exp().mean(0)
    late, early = patch[60:80].mean(0), patch[5:25].mean(0)
    high = torch.from_numpy(mel_centres() > 2000)
    assert (late / early)[high].mean() < 0.5 * (late / early)[~high].mean()


@pytest.mark.parametrize("frequency", [100.0, 440.0, 3000.0])
@pytest.mark.parametrize("phase", [0.0, 2.0, -1.5])
def test_spectrum_of_a_dying_cosine(frequency, phase):
    """The coefficient at its peak has the phase of the onset, and the band's centre is within half a band of it."""
    decay = 0.05
    wave = torch.exp(-TIME / decay) * torch.cos(2 * torch.pi * frequency * TIME + phase)
    magnitude, angle = spectrum(wave[None])[0]
    top = magnitude.argmax()
    assert abs(np.log(FREQUENCIES[top] / frequency)) < np.log(FREQUENCIES[1] / FREQUENCIES[0])
    image = 1 / (4 * torch.pi * frequency * decay)  # of the line at -f, relative to this one
    assert abs(np.angle(np.exp(1j * (angle[top].item() - phase)))) < 2 * image + 0.05
    assert magnitude.square().mean().item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("frequency", [200.0, 1000.0, 5000.0])
def test_log_mel_of_a_sine(frequency):
    """A sine of amplitude a has a line of height 100 a, half the sum of the window, spread over its triangles."""
    wave = 0.3 * torch.sin(2 * torch.pi * frequency * TIME)[None]
    patch = log_mel(wave)
    assert patch.shape == (1, 1, 96, 64)
    middle = patch[0, 0, 48].exp()
    assert abs(middle.argmax() - np.abs(mel_centres() - frequency).argmin()) <= 1
    frame = torch.fft.rfft(wave[0, 48 * 160 :][:400] * torch.hann_window(400, dtype=torch.float64), 1024).abs()
    torch.testing.assert_close(middle - 0.01, frame @ torch.from_numpy(mel_filters()))
    assert frame.max().item() == pytest.approx(30, rel=0.1)  # scalloping between lines


def test_silence_is_the_logarithm_of_the_offset():
    patch = log_mel(torch.zeros(1, LENGTH))
    torch.testing.assert_close(patch, torch.full((1, 1, 96, 64), 0.01).log())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: make_notes(0, 0), "n is 0 and voices 1"),
        (lambda: make_notes(1, 0, voices=3), "voices 3, expected"),
        (lambda: make_notes(1, 0, instruments=("lute",)), "instruments contains 'lute'"),
        (lambda: make_notes(1, 0, voices=2, instruments=("reed",)), "at least 2 different ones"),
        (lambda: log_mel(torch.zeros(1, 0)), r"waves has shape \(1, 0\)"),
        (lambda: log_mel(torch.zeros(15600)), "waves has shape"),
        (lambda: log_mel(torch.full((1, 800), torch.nan)), "expected finite clips"),
        (lambda: log_mel(torch.zeros(1, 15600), rate=8000), "rate is 8000 Hz, expected 16000"),
        (lambda: log_mel(torch.zeros(1, 15600), mel_bins=2000), "mel_bins is 2000, expected fewer"),
        (lambda: spectrum(torch.zeros(1, 15600)), "silent clip"),
        (lambda: spectrum(torch.full((1, 15600), torch.inf)), "expected finite clips"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
