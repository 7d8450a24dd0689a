"""Sound in a folder per label and the layout of IDRiD, on generated files; real speech where XAI_DATA has it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from xai_lib.datasets.folders import load_speech, read_sound
from xai_lib.datasets.notes import INSTRUMENTS, LENGTH, RATE, log_mel, spectrum
from xai_lib.datasets.recordings import load_clips, load_idrid, load_nsynth


def sine(rate, seconds=1.0, frequency=440.0):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XAI_DATA", str(tmp_path))
    for folder, count in {"Violin, fiddle": 2, "Music": 1}.items():
        (tmp_path / "audioset" / "clips" / folder).mkdir(parents=True)
        for i in range(count):
            path = tmp_path / "audioset" / "clips" / folder / f"{i}.wav"
            wavfile.write(path, 8000, (sine(8000) * 32767).astype(np.int16))
    (tmp_path / "audioset" / "labels.json").write_text(json.dumps(["Music", "Speech", "Violin, fiddle"]))
    return tmp_path


def test_clips_in_a_folder_per_label(data):
    clips = load_clips()
    assert clips.names == ("Music", "Speech", "Violin, fiddle") and clips.labels.tolist() == [0, 2, 2]
    assert clips.inputs.shape == (3, 1, LENGTH) and log_mel(clips.inputs[:, 0]).shape == (3, 1, 96, 64)
    assert load_clips(2).labels.tolist() == [0, 2]


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("dtype", ["int16", "int32", "uint8", "float32"])
def test_a_sine_survives_any_rate_and_type(tmp_path, rate, dtype):
    wave = sine(rate)
    scaled = {"int16": wave * 2**15, "int32": wave * 2**31, "uint8": 128 + wave * 128, "float32": wave}[dtype]
    wavfile.write(tmp_path / "a.wav", rate, np.stack(2 * [scaled.astype(dtype)], 1))
    got = read_sound(tmp_path / "a.wav", RATE, RATE + 2000)[0]
    inside = slice(800, 15200)  # away from the ends of the resampling filter
    error = got[1000:-1000][inside] - torch.from_numpy(sine(RATE)[inside]).float()
    assert error.abs().max() < (0.02 if dtype == "uint8" else 0.005)  # 8 bits; the filter's ripple
    assert (got[:1000] == 0).all() and (got[-1000:] == 0).all()


def test_idrid(data):
    root = data / "idrid" / "A. Segmentation"
    images = root / "1. Original Images" / "b. Testing Set"
    masks = root / "2. All Segmentation Groundtruths" / "b. Testing Set"
    images.mkdir(parents=True)
    for i in (55, 56):
        Image.new("RGB", (80, 40), (200, 80, 40)).save(images / f"IDRiD_{i}.jpg")
    marked = np.zeros((40, 80), np.uint8)
    marked[10:20, 30:50] = 76
    for folder, suffix in (("1. Microaneurysms", "MA"), ("5. Optic Disc", "OD")):
        (masks / folder).mkdir(parents=True)
        Image.fromarray(marked).save(masks / folder / f"IDRiD_55_{suffix}.tif")
    retinas = load_idrid(size=40)
    assert retinas.images.shape == (2, 3, 40, 40) and retinas.labels.tolist() == [1, 1]
    assert retinas.lesions.shape == (2, 3, 40, 40) and not retinas.lesions[1].any()
    expected = torch.zeros(40, 40, dtype=torch.bool)
    expected[15:20, 15:25] = True  # 20 rows of padding above, then half the size
    assert torch.equal(retinas.lesions[0, 0], expected) and torch.equal(retinas.discs[0], expected)
    assert (retinas.images[:, :, :9] == 0).all() and retinas.images[0, 0, 20, 20] > 0.7
    assert len(load_idrid(1, size=40).images) == 1
    with pytest.raises(ValueError, match="n is 3, expected 1 to 2"):
        load_idrid(3)


def test_nsynth(data):
    folder = data / "nsynth" / "nsynth-test"
    (folder / "audio").mkdir(parents=True)
    families = {"organ_electronic_028-060-100": "organ", "bass_synthetic_033-022-050": "bass", "lead-1": "synth_lead"}
    for name in families:
        wavfile.write(folder / "audio" / f"{name}.wav", RATE, (sine(RATE, 4.0) * 32767).astype(np.int16))
    notes = {name: {"instrument_family_str": family, "sample_rate": RATE} for name, family in families.items()}
    (folder / "examples.json").write_text(json.dumps(notes))
    got = load_nsynth()
    assert [INSTRUMENTS[i] for i in got.labels] == ["bass", "organ"] and got.inputs.shape == (2, 1, 4 * RATE)
    assert spectrum(got.inputs[:, 0]).shape == (2, 2, 1024)
    torch.testing.assert_close(got.inputs[0, 0], torch.from_numpy(sine(RATE, 4.0)).float(), rtol=0, atol=1e-4)
    assert load_nsynth(1).inputs.shape == (1, 1, 4 * RATE)
    assert load_nsynth(instruments=["organ"]).labels.tolist() == [INSTRUMENTS.index("organ")]


def test_errors(data, monkeypatch):
    with pytest.raises(ValueError, match="n is 4, expected 1 to 3"):
        load_clips(4)
    (data / "no.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match=r"no\.wav cannot be read as a WAV file"):
        read_sound(data / "no.wav")
    wavfile.write(data / "empty.wav", RATE, np.zeros(0, np.int16))
    with pytest.raises(ValueError, match=r"empty\.wav is empty"):
        read_sound(data / "empty.wav")
    (data / "audioset/clips/Rain").mkdir()
    wavfile.write(data / "audioset/clips/Rain/a.wav", RATE, np.zeros(9, np.int16))
    with pytest.raises(ValueError, match="has a folder 'Rain'"):
        load_clips()
    monkeypatch.setenv("XAI_DATA", str(data / "elsewhere"))
    for load, what in (
        (load_clips, "labels.json is missing"),
        (load_idrid, "Original Images is missing"),
        (load_nsynth, "nsynth-test is missing"),
    ):
        with pytest.raises(FileNotFoundError, match=what):
            load()


@pytest.mark.needs_data("speech")
def test_speech_as_patches():
    speech = load_speech("test", 20, RATE, LENGTH)
    assert log_mel(speech.inputs[:, 0]).shape == (20, 1, 96, 64) and len(speech.names) == 10
    assert (speech.inputs.std(2) > 1e-3).all()
