"""Words: what the seed fixes, what masks and labels promise, and that a linear model stays weak."""

import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from xai_lib.datasets.words import CLASSES, LENGTH, SPEAKERS, make_words


@pytest.fixture(scope="module", params=[1, 2], ids=["one word", "two words"])
def words(request):
    return make_words(40, seed=7, words=request.param)


def test_shapes_types_and_range(words):
    n, count = words.labels.shape
    assert words.waveforms.shape == (n, 1, LENGTH) and words.waveforms.dtype == torch.float32
    assert words.masks.shape == (n, count, LENGTH) and words.masks.dtype == torch.bool
    assert words.waveforms.abs().amax((1, 2)).min() > 0.2 and words.waveforms.abs().max() < 1
    assert words.speakers.min() >= 0 and words.speakers.max() < len(SPEAKERS)


def test_the_seed_and_the_index_fix_a_recording(words):
    again = make_words(13, seed=7, words=words.labels.shape[1])
    assert all(torch.equal(first[:13], second) for first, second in zip(words, again, strict=True))
    assert not torch.equal(make_words(1, 8, words.labels.shape[1]).waveforms, again.waveforms[:1])


def test_every_ten_recordings_hold_each_word_equally_often(words):
    for block in words.labels.split(10):
        assert torch.equal(block.flatten().bincount(minlength=10), torch.full((10,), block.shape[1]))
    assert words.labels.shape[1] == 1 or (words.labels[:, 0] != words.labels[:, 1]).all()


def test_masks_are_runs_in_which_something_is_heard(words):
    for wave, masks in zip(words.waveforms[:, 0], words.masks, strict=True):
        for k, mask in enumerate(masks):
            where = mask.nonzero()[:, 0]
            assert len(where) == where[-1] - where[0] + 1 and 800 < len(where) < 0.95 * LENGTH / len(masks)
            assert where[0] // (LENGTH // len(masks)) == where[-1] // (LENGTH // len(masks)) == k
            assert wave[mask].std() > 0.02


def test_loudness_alone_does_not_tell_where_the_word_is():
    """In many recordings the loudest tenth of a second is the hum."""
    words = make_words(200, seed=3)
    loudness = torch.nn.functional.avg_pool1d(words.waveforms.square(), 800, 100)[:, 0]
    loudest = loudness.argmax(1) * 100 + 400
    inside = words.masks[:, 0].gather(1, loudest[:, None]).float().mean()
    assert 0.3 < inside < 0.9


def test_a_linear_model_of_the_samples_is_near_chance():
    train, test = make_words(1000, seed=1), make_words(300, seed=2)
    ridge = RidgeClassifier(alpha=100).fit(train.waveforms[:, 0], train.labels[:, 0])
    assert ridge.score(test.waveforms[:, 0], test.labels[:, 0]) < 0.25


def test_a_wrong_number_of_words_is_refused():
    with pytest.raises(ValueError, match="words is 3, expected 1 or 2"):
        make_words(1, 0, words=3)
    assert len(CLASSES) == 10
