"""One training loop: AdamW with a one-cycle schedule and clipped gradients, by default with label smoothing."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Augment = Callable[[Tensor, torch.Generator], Tensor]
SMOOTHED = partial(cross_entropy, label_smoothing=0.03)


def fit(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    augment: Augment,
    *,
    name: str,
    epochs: int,
    learning_rate: float,
    batch: int = 64,
    seed: int = 0,
    loss: Callable[[Tensor, Tensor], Tensor] = SMOOTHED,
) -> nn.Module:
    """Train what of a classifier requires gradients, on inputs (n, ...) of labels (n, ...), each batch augmented."""
    learned = [p for p in model.train().parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, weight_decay=0.01)
    per_epoch = len(labels) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * per_epoch)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        total = 0.0
        order = torch.randperm(len(labels), generator=generator).to(inputs.device)
        for rows in order[: per_epoch * batch].view(-1, batch):
            outputs = model(augment(inputs[rows], generator))
            error = loss(outputs, labels[rows])
            optimizer.zero_grad()
            error.backward()
            nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            schedule.step()
            total += error.item() / per_epoch
        print(f"{name}: epoch {epoch + 1}/{epochs}, loss {total:.3f}", flush=True)
    return model.eval()


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of right predictions, to four digits."""
    with torch.no_grad():
        right = torch.cat([model(x).argmax(1) for x in inputs.split(200)]) == labels
    return round(right.float().mean().item(), 4)
