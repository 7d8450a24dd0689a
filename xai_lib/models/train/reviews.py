"""The networks for reviews. The embedding is learned with the BiLSTM and kept as it is in the three others.

Every twentieth word of a training review is replaced by the unknown word, so that the networks know it.
"""

import torch
from torch import Tensor

from xai_lib.datasets.reviews import CLASSES, VOCABULARY, make_reviews
from xai_lib.models import load_model
from xai_lib.models.train.cards import half, save
from xai_lib.models.train.fit import accuracy, fit

TRAIN_SEED, TEST_SEED = 1, 2
TRAIN_COUNT, TEST_COUNT = 8_000, 2_000
UNKNOWN = 0.05  # share of words replaced
EMBEDDING = "reviews_bilstm"  # whose word vectors the others use
RECIPES = {  # the embedding's network first
    "reviews_bilstm": {"epochs": 6, "learning_rate": 5e-3},
    "reviews_lstm": {"epochs": 8, "learning_rate": 5e-3},
    "reviews_cnn": {"epochs": 6, "learning_rate": 5e-3},
    "reviews_transformer": {"epochs": 24, "learning_rate": 2e-3, "batch": 32},
}


def forget_words(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Word indices (n, T), some replaced by that of the unknown word."""
    forgotten = (torch.rand(tokens.shape, generator=generator) < UNKNOWN).to(tokens.device) & (tokens > 0)
    return tokens.where(~forgotten, 1)


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    reviews, held_out = make_reviews(TRAIN_COUNT, TRAIN_SEED), make_reviews(TEST_COUNT, TEST_SEED)
    tokens = VOCABULARY.encode(reviews.texts)
    for name in names:
        model = load_model(name, pretrained=False)
        if name != EMBEDDING:
            model.embedding = load_model(EMBEDDING).embedding.requires_grad_(False)
        fit(model, tokens, reviews.labels, forget_words, name=name, **RECIPES[name])
        model.load_state_dict(half(model))
        save(
            name,
            model,
            classes=CLASSES,
            data={
                "module": "xai_lib.datasets.reviews",
                "train": {"seed": TRAIN_SEED, "reviews": TRAIN_COUNT},
                "held_out": {"seed": TEST_SEED, "reviews": TEST_COUNT},
            },
            training=RECIPES[name] | {"unknown_words": UNKNOWN, "embedding": EMBEDDING},
            held_out={"accuracy": accuracy(model, VOCABULARY.encode(held_out.texts), held_out.labels)},
        )
