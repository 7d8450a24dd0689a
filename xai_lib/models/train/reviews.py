"""The networks for reviews. The embedding is learned with the BiLSTM and kept as it is in the three others.

Every twentieth word of a training review is replaced by the unknown word, so that the networks know it.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xai_lib.datasets.reviews import CLASSES, VOCABULARY, make_reviews
from xai_lib.models import load_model
from xai_lib.models.train.cards import half, save

SEED, TRAIN_SEED, TEST_SEED = 0, 1, 2
TRAIN_COUNT, TEST_COUNT = 9_600, 2_000
BATCH, UNKNOWN = 128, 0.05  # reviews per step, share of words replaced
EMBEDDING = "reviews_bilstm"  # whose word vectors the others use
RECIPES = {  # epochs, peak learning rate; the embedding's network first
    "reviews_bilstm": (8, 5e-3),
    "reviews_lstm": (10, 5e-3),
    "reviews_cnn": (12, 5e-3),
    "reviews_transformer": (16, 3e-3),
}


def train(model: nn.Module, tokens: Tensor, labels: Tensor, recipe: tuple[int, float], name: str) -> nn.Module:
    """Train what of a text classifier requires gradients, on word indices (n, T) of classes (n,)."""
    epochs, learning_rate = recipe
    learned = [p for p in model.train().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, weight_decay=0.01)
    steps = epochs * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    generator = torch.Generator().manual_seed(SEED)
    for epoch in range(epochs):
        total = 0.0
        order = torch.randperm(len(labels), generator=generator)[: len(labels) // BATCH * BATCH]
        for batch in order.view(-1, BATCH):
            words = tokens[batch]
            forgotten = (torch.rand(words.shape, generator=generator) < UNKNOWN) & (words > 0)
            loss = cross_entropy(model(words.where(~forgotten, 1)), labels[batch], label_smoothing=0.03)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() / (steps // epochs)
        print(f"{name}: epoch {epoch + 1}/{epochs}, loss {total:.3f}", flush=True)
    return model.eval()


def accuracy(model: nn.Module, tokens: Tensor, labels: Tensor) -> float:
    """Share of right predictions, to four digits."""
    with torch.no_grad():
        right = torch.cat([model(t).argmax(1) for t in tokens.split(200)]) == labels
    return round(right.float().mean().item(), 4)


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    reviews, held_out = make_reviews(TRAIN_COUNT, TRAIN_SEED), make_reviews(TEST_COUNT, TEST_SEED)
    tokens = VOCABULARY.encode(reviews.texts)
    for name in names:
        model = load_model(name, pretrained=False)
        if name != EMBEDDING:
            model.embedding = load_model(EMBEDDING).embedding.requires_grad_(False)
        train(model, tokens, reviews.labels, RECIPES[name], name)
        model.load_state_dict(half(model))
        epochs, learning_rate = RECIPES[name]
        save(
            name,
            model,
            classes=CLASSES,
            data={
                "module": "xai_lib.datasets.reviews",
                "train": {"seed": TRAIN_SEED, "reviews": TRAIN_COUNT},
                "held_out": {"seed": TEST_SEED, "reviews": TEST_COUNT},
            },
            training={
                "seed": SEED,
                "epochs": epochs,
                "batch": BATCH,
                "peak_learning_rate": learning_rate,
                "unknown_words": UNKNOWN,
                "embedding": EMBEDDING,
            },
            held_out={"accuracy": accuracy(model, VOCABULARY.encode(held_out.texts), held_out.labels)},
        )
