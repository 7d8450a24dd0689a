"""The network for words: M5, trained on recordings of one word, shifted and scaled at random."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xai_lib.datasets.words import CLASSES, make_words
from xai_lib.models import load_model
from xai_lib.models.train.cards import half, save

SEED, TRAIN_SEED, TEST_SEED = 0, 1, 2
TRAIN_COUNT, TEST_COUNT = 6_000, 1_000
RECIPES = {"words_m5": (20, 1e-2, 400)}  # epochs, peak learning rate, largest shift in samples
BATCH = 64


def train(model: nn.Module, waveforms: Tensor, labels: Tensor, recipe: tuple[int, float, int], name: str) -> nn.Module:
    """Train a network on waveforms (n, 1, samples) of classes (n,)."""
    epochs, learning_rate, shift = recipe
    optimizer = torch.optim.AdamW(model.train().parameters(), weight_decay=0.01)
    steps = epochs * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    generator = torch.Generator().manual_seed(SEED)
    for epoch in range(epochs):
        total = 0.0
        order = torch.randperm(len(labels), generator=generator)[: len(labels) // BATCH * BATCH]
        for batch in order.view(-1, BATCH):
            by = int(torch.randint(-shift, shift + 1, (), generator=generator))
            loudness = 10 ** (torch.rand(BATCH, 1, 1, generator=generator) - 0.7)
            loss = cross_entropy(model(loudness * waveforms[batch].roll(by, -1)), labels[batch], label_smoothing=0.03)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() / (steps // epochs)
        print(f"{name}: epoch {epoch + 1}/{epochs}, loss {total:.3f}", flush=True)
    return model.eval()


def evaluate(model: nn.Module) -> dict[str, float]:
    """The card's numbers, on held-out recordings of one word and of two."""
    one, two = (make_words(TEST_COUNT, TEST_SEED, words) for words in (1, 2))
    with torch.no_grad():
        right = model(one.waveforms).argmax(1) == one.labels[:, 0]
        top_two = model(two.waveforms).topk(2).indices.sort().values
    both = (top_two == two.labels.sort().values).all(1)
    return {
        "one_word": round(right.float().mean().item(), 4),
        "two_words_both_in_top_two": round(both.float().mean().item(), 4),
    }


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    words = make_words(TRAIN_COUNT, TRAIN_SEED)
    for name in names:
        model = load_model(name, pretrained=False)
        train(model, words.waveforms, words.labels[:, 0], RECIPES[name], name)
        model.load_state_dict(half(model))
        epochs, learning_rate, shift = RECIPES[name]
        save(
            name,
            model,
            classes=CLASSES,
            data={
                "module": "xai_lib.datasets.words",
                "train": {"seed": TRAIN_SEED, "one_word": TRAIN_COUNT},
                "held_out": {"seed": TEST_SEED, "one_word": TEST_COUNT, "two_words": TEST_COUNT},
            },
            training={
                "seed": SEED,
                "epochs": epochs,
                "batch": BATCH,
                "peak_learning_rate": learning_rate,
                "shift": shift,
            },
            held_out=evaluate(model),
        )
