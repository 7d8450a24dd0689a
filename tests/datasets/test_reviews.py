"""Reviews: what the seed fixes, that the deciding words decide, and that word counts do not."""

import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from xai_lib.datasets.reviews import ADJECTIVES, LENGTH, NEGATIONS, RARE, VOCABULARY, Vocabulary, make_reviews


@pytest.fixture(scope="module")
def reviews():
    return make_reviews(400, seed=7)


def words_where(texts, masks):
    """All words of texts that stand in masks (n, LENGTH)."""
    return {text[i] for text, mask in zip(texts, masks, strict=True) for i in mask.nonzero()[:, 0].tolist()}


def test_the_seed_and_the_index_fix_a_review(reviews):
    again = make_reviews(13, seed=7)
    assert again.texts == reviews.texts[:13] and torch.equal(again.labels, reviews.labels[:13])
    assert make_reviews(13, seed=8).texts != again.texts


def test_of_every_two_reviews_one_is_positive(reviews):
    assert torch.equal(reviews.labels.view(-1, 2).sum(1), torch.ones(200, dtype=torch.long))


def test_the_deciding_words_decide(reviews):
    """One adjective, whose sentiment is the label unless a negation stands before it."""
    negation = {word for phrase in NEGATIONS for word in phrase.split()}
    for text, label, mask in zip(reviews.texts, reviews.labels.tolist(), reviews.deciding, strict=True):
        *before, adjective = [word for word, decides in zip(text, mask.tolist(), strict=False) if decides]
        positive = adjective in ADJECTIVES[1] + RARE[1]
        assert positive or adjective in ADJECTIVES[0] + RARE[0]
        assert set(before) <= negation and label == positive ^ bool(before)


def test_turns_are_negations_and_contrasts(reviews):
    assert words_where(reviews.texts, reviews.turns) == {
        "not",
        "never",
        "hardly",
        "far",
        "from",
        "anything",
        "but",
        "although",
        "though",
    }


def test_only_rare_adjectives_are_unknown(reviews):
    tokens = VOCABULARY.encode(reviews.texts)
    assert words_where(reviews.texts, tokens == 1) == {*RARE[0], *RARE[1]}
    assert max(map(len, reviews.texts)) <= LENGTH and tokens.max() < len(VOCABULARY)


def test_encoding_cuts_and_pads():
    known = Vocabulary(["a", "b"])
    assert known.encode([["b", "x"], ["a"] * 5, []], length=3).tolist() == [[3, 1, 0], [2, 2, 2], [0, 0, 0]]


def test_word_counts_are_weak():
    train, test = make_reviews(2000, seed=1), make_reviews(500, seed=2)

    def counts(texts):
        return torch.nn.functional.one_hot(VOCABULARY.encode(texts), len(VOCABULARY)).sum(1)[:, 1:]

    ridge = RidgeClassifier().fit(counts(train.texts), train.labels)
    assert ridge.score(counts(test.texts), test.labels) < 0.62
