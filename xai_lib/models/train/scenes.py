"""The networks for scenes.

The recipe is the same for all: AdamW with a one-cycle schedule, label smoothing, flips and transposition,
one- and two-object scenes (labels 0.5 / 0.5). Part of every batch is blurred under its true labels; without
that some class becomes a sink for blurred inputs. Everything is drawn from one seed; the numbers in a card
are those of the float16 weights as shipped, on scenes of another seed.
"""

import time

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot, pad

from xai_lib.datasets.scenes import CLASSES, COARSE, FINE, SIZE, make_scenes
from xai_lib.models import load_model
from xai_lib.models.train.cards import half, save

SEED, TRAIN_SEED, TEST_SEED = 0, 1, 2
TRAIN_COUNTS, TEST_COUNTS = (12_000, 4_000), (1_000, 600)  # scenes of one and of two objects
BATCH, BLURRED = 64, 20  # images per step, and how many of them are blurred
BLUR_SIGMAS = np.geomspace(0.4, 18, 32)  # px
RECIPES = {  # epochs, peak learning rate, largest shift in px
    "scenes_resnet": (14, 4e-3, 4),
    "scenes_vgg": (12, 4e-3, 0),
    "scenes_vit": (16, 2e-3, 4),
    "scenes_convnext": (12, 4e-3, 4),
}


def blur_matrix(sigma: float, size: int = SIZE) -> Tensor:
    """(size, size) matrix m, so that m @ image @ m.T is scipy's gaussian_filter of mode reflect; sigma in px."""
    return torch.from_numpy(gaussian_filter1d(np.eye(size, dtype=np.float32), sigma, axis=0, mode="reflect"))


def training_set() -> tuple[Tensor, Tensor]:
    """Images (n, 3, 64, 64) and class probabilities (n, 10): 1 for one object, 0.5 / 0.5 for two."""
    parts = [make_scenes(n, TRAIN_SEED, objects) for objects, n in enumerate(TRAIN_COUNTS, 1)]
    targets = [one_hot(part.labels, len(CLASSES)).float().mean(1) for part in parts]
    return torch.cat([part.images for part in parts]), torch.cat(targets)


def train(name: str, images: Tensor, targets: Tensor) -> nn.Module:
    """The network of that name, trained on images (n, 3, 64, 64) and class probabilities (n, 10)."""
    epochs, learning_rate, shift = RECIPES[name]
    model = load_model(name, pretrained=False).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    generator = torch.Generator().manual_seed(SEED)
    blurs = torch.stack([blur_matrix(sigma) for sigma in BLUR_SIGMAS])
    start = time.monotonic()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(images), generator=generator).view(-1, BATCH):
            x = augment(images[batch], shift, blurs, generator)
            loss = cross_entropy(model(x.to(memory_format=torch.channels_last)), targets[batch], label_smoothing=0.03)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        mean, seconds = total * BATCH / len(images), time.monotonic() - start
        print(f"{name}: epoch {epoch + 1}/{epochs}, loss {mean:.3f}, {seconds:.0f} s", flush=True)
    return model.eval()


def augment(x: Tensor, shift: int, blurs: Tensor, generator: torch.Generator) -> Tensor:
    """A common shift of at most `shift` px, one of the square's symmetries each, and a blur for the first BLURRED."""
    if shift:
        top, left = torch.randint(2 * shift + 1, (2,), generator=generator)
        x = pad(x, 4 * (shift,), "reflect")[..., top : top + SIZE, left : left + SIZE]
    x = x.clone()
    for change in (lambda t: t.flip(-1), lambda t: t.flip(-2), lambda t: t.mT):
        chosen = torch.rand(len(x), generator=generator) < 0.5
        x[chosen] = change(x[chosen])
    blur = blurs[torch.randint(len(blurs), (BLURRED, 1), generator=generator)]
    x[:BLURRED] = blur @ x[:BLURRED] @ blur.mT
    return x


def logits(model: nn.Module, images: Tensor, sigma: float = 0) -> Tensor:
    """Logits (n, 10) of images blurred by sigma px."""
    blur = blur_matrix(sigma) if sigma else torch.eye(SIZE)
    with torch.no_grad():
        return torch.cat([model(blur @ x @ blur.T) for x in images.split(100)])


def level(model: nn.Module) -> bool:
    """Where one class takes over 40 % of scenes blurred at 16 px, shift the last bias until all take equally many.

    The logits of such scenes hardly vary, so that an offset of a few tenths makes a class a sink. Returns whether
    that was so.
    """
    blurred = logits(model, make_scenes(1_000, TRAIN_SEED).images, 16)
    offset = torch.zeros(len(CLASSES))

    def shares() -> Tensor:
        return blurred.sub(offset).argmax(1).bincount(minlength=len(CLASSES)) / len(blurred)

    if shares().max() <= 0.4:
        return False
    for _ in range(300):
        offset += 0.02 * (shares() - 1 / len(CLASSES))
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    head.bias.data -= offset
    return True


def evaluate(model: nn.Module) -> dict[str, float | dict[str, float]]:
    """The card's numbers, on held-out scenes; sigma in px."""
    one, two = (make_scenes(n, TEST_SEED, objects) for objects, n in enumerate(TEST_COUNTS, 1))
    labels = one.labels[:, 0]
    sigmas = np.array([0, *np.geomspace(0.5, 30, 24)])
    own = torch.stack([logits(model, one.images, s).softmax(1).gather(1, one.labels)[:, 0] for s in sigmas])

    def sigma_at_half(group: tuple[int, ...]) -> float:
        members = torch.isin(labels, torch.tensor(group))
        halved = own[:, members].mean(1) < 0.5 * own[0, members].mean()
        return round(sigmas[halved.int().argmax()].item(), 2)

    right = logits(model, one.images).argmax(1) == labels
    top_two = logits(model, two.images).topk(2).indices.sort().values
    both = (top_two == two.labels.sort().values).all(1)
    blurred = logits(model, one.images, 16).softmax(1)
    shares = blurred.argmax(1).bincount(minlength=len(CLASSES)) / len(blurred)
    return {
        "one_object": round(right.float().mean().item(), 4),
        "two_objects_both_in_top_two": round(both.float().mean().item(), 4),
        "blurred_sigma_16": {
            "largest_share_of_predictions": round(shares.max().item(), 4),
            "largest_mean_probability": round(blurred.mean(0).max().item(), 4),
            "smallest_mean_probability": round(blurred.mean(0).min().item(), 4),
        },
        "sigma_at_half_probability": {"coarse": sigma_at_half(COARSE), "fine": sigma_at_half(FINE)},
    }


def make(names: list[str]) -> None:
    """Train the networks named and write their weights and cards."""
    images, targets = training_set()
    for name in names:
        model = train(name, images, targets)
        model.load_state_dict(half(model))
        levelled = level(model)  # after rounding, so that it is the weights as shipped that are level
        model.load_state_dict(half(model))
        epochs, learning_rate, shift = RECIPES[name]
        save(
            name,
            model,
            classes=CLASSES,
            data={
                "module": "xai_lib.datasets.scenes",
                "train": {"seed": TRAIN_SEED, "one_object": TRAIN_COUNTS[0], "two_objects": TRAIN_COUNTS[1]},
                "held_out": {"seed": TEST_SEED, "one_object": TEST_COUNTS[0], "two_objects": TEST_COUNTS[1]},
            },
            training={
                "seed": SEED,
                "epochs": epochs,
                "batch": BATCH,
                "peak_learning_rate": learning_rate,
                "shift": shift,
                "levelled": levelled,
            },
            held_out=evaluate(model),
        )
