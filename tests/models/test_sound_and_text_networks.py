"""The networks for words and reviews: the cards tell the truth, all texts share an embedding, padding is ignored."""

from math import sqrt

import pytest
import torch
import yaml

from xai_lib.datasets.reviews import LENGTH, VOCABULARY, make_reviews
from xai_lib.datasets.words import make_words
from xai_lib.models import DATA, load_model, model_names


@pytest.fixture(scope="module", params=model_names("reviews"))
def reader(request):
    return load_model(request.param), yaml.safe_load((DATA / f"{request.param}.yaml").read_text())


def agree(share, count, card_share, card_count):
    """Two shares of the same probability differ by less than 4 binomial standard errors and one input."""
    p = (share * count + card_share * card_count) / (count + card_count)
    return abs(share - card_share) < 4 * sqrt(p * (1 - p) * (1 / count + 1 / card_count)) + 1 / count


def test_the_card_of_m5_tells_the_truth():
    model, card = load_model("words_m5"), yaml.safe_load((DATA / "words_m5.yaml").read_text())
    words = make_words(200, seed=77)
    with torch.no_grad():
        accuracy = (model(words.waveforms).argmax(1) == words.labels[:, 0]).float().mean().item()
    assert agree(accuracy, 200, card["held_out"]["one_word"], card["data"]["held_out"]["one_word"])
    assert card["held_out"]["one_word"] >= 0.9


def test_the_card_of_a_reader_tells_the_truth(reader):
    model, card = reader
    reviews = make_reviews(400, seed=77)
    with torch.no_grad():
        accuracy = (model(VOCABULARY.encode(reviews.texts)).argmax(1) == reviews.labels).float().mean().item()
    assert agree(accuracy, 400, card["held_out"]["accuracy"], card["data"]["held_out"]["reviews"])
    assert card["held_out"]["accuracy"] >= 0.9
    assert card["parameters"] == sum(p.numel() for p in model.parameters())


def test_all_readers_have_one_embedding(reader):
    assert torch.equal(reader[0].embedding.weight, load_model("reviews_bilstm").embedding.weight)


def test_the_order_of_words_counts(reader):
    """Turned round before the padding, a review has the same words."""
    model, _ = reader
    tokens = VOCABULARY.encode(make_reviews(20, seed=5).texts)
    turned = torch.stack([torch.cat([row[row > 0].flip(0), row[row == 0]]) for row in tokens])
    with torch.no_grad():
        assert ((model(tokens) - model(turned)).abs().amax(1) > 1e-3).all()


def test_padding_does_not_count(reader):
    """Neither its length nor what its vectors hold."""
    model, _ = reader
    tokens = VOCABULARY.encode([text for text in make_reviews(20, seed=5).texts if len(text) < 25])
    short = tokens[:, :25]
    with torch.no_grad():
        expected = model(short)
        torch.testing.assert_close(model(tokens), expected, rtol=1e-4, atol=1e-4)
        noise = torch.randn(*tokens.shape, 32, generator=torch.Generator().manual_seed(0))
        mask = tokens != 0
        noisy = model.embedding(tokens) + noise * ~mask[..., None]
        torch.testing.assert_close(model.classify(noisy, mask), expected, rtol=1e-4, atol=1e-4)
    assert tokens.shape[1] == LENGTH
