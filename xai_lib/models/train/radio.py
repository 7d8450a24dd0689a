"""The networks for radio maps, all on the same cities, by squared error and Adam with a one-cycle schedule.

`radio_phi0` sees whole cities. `radio_phi` sees cities with up to three buildings missing, and 20 to 80 measurements,
both drawn anew in every step, as is one of the square's symmetries. `radio_phi_int` starts from a copy of `radio_phi`
before its last epochs and spends these with the interpretation loss added (section 4.3.2): on the missing buildings
the estimate should not depend on the city. The numbers in a card are those of the float16 weights as shipped, on
cities of another seed.
"""

import copy
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib.datasets.radio_maps import RadioMaps, make_radio_maps
from xai_lib.models import load_model, pick_device
from xai_lib.models.train.cards import half, save

SEED, TRAIN_SEED, TEST_SEED = 0, 1, 2
CITIES, TEST_CITIES = 2_000, 200
MISSING = 3  # buildings, at most
EPOCHS, LAST_EPOCHS, BATCH, RATE = 7, 2, 20, 4e-3
WEIGHT = 3.0  # of the interpretation loss
RECIPES = {"radio_phi0": RATE, "radio_phi": RATE, "radio_phi_int": RATE}  # peak learning rates


def make(names: Sequence[str]) -> None:
    """Train the networks `names` and write their weights and cards."""
    data = {
        "module": "xai_lib.datasets.radio_maps",
        "train": {"seed": TRAIN_SEED, "cities": CITIES},
        "held_out": {"seed": TEST_SEED, "cities": TEST_CITIES, "missing_in_sight": 1},
    }
    train(
        names,
        make_radio_maps(CITIES, TRAIN_SEED, (0, 0)),
        make_radio_maps(TEST_CITIES, TEST_SEED, (1, 1), sight=True),
        data,
    )


def train(names: Sequence[str], maps: RadioMaps, held_out: RadioMaps, data: dict[str, Any]) -> None:
    """Train <data>_phi0, <data>_phi and <data>_phi_int, or some of them, on a GPU where there is one."""
    device, source = pick_device(), names[0].partition("_")[0]
    if f"{source}_phi0" in names:
        phi0 = load_model(f"{source}_phi0", pretrained=False, device=device)
        fit(phi0, maps, EPOCHS, RATE)
        write(f"{source}_phi0", phi0, held_out, data)
    if {f"{source}_phi", f"{source}_phi_int"} & set(names):
        base = load_model(f"{source}_phi", pretrained=False, device=device)
        fit(base, maps, EPOCHS, RATE)
        for name, weight in ((f"{source}_phi", 0.0), (f"{source}_phi_int", WEIGHT)):
            if name in names:
                model = copy.deepcopy(base)
                fit(model, maps, LAST_EPOCHS, RATE / 4, weight)
                write(name, model, held_out, data)


def fit(model: nn.Module, maps: RadioMaps, epochs: int, rate: float, weight: float = 0.0) -> None:
    """Train in place; `weight` is that of the interpretation loss."""
    device = next(model.train().parameters()).device
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * (len(maps.gain) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    generator = torch.Generator().manual_seed(SEED)
    start = time.monotonic()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(maps.gain), generator=generator).view(-1, BATCH):
            drawn = draw(maps, batch, generator, MISSING if model.n_inputs == 3 else 0)
            x, gain, gone = (part.to(device) for part in drawn)
            out = model(x[:, : model.n_inputs])
            loss = (out - gain).square().mean()
            if weight:
                without = x * torch.tensor([1.0, 0.0, 1.0], device=device)[:, None, None]
                loss = loss + weight * ((out - model(without)) * gone).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch + 1}/{epochs}, loss {total / (steps / epochs):.5f}, {time.monotonic() - start:.0f} s",
            flush=True,
        )
    model.eval()


def draw(
    maps: RadioMaps, batch: Tensor, generator: torch.Generator, missing: int = MISSING
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (b, 3, S, S), gains (b, 1, S, S) and the missing buildings' pixels (b, 1, S, S) of some cities."""
    buildings, gain = maps.buildings[batch], maps.gain[batch]
    n, count = len(batch), maps.missing.shape[1]
    wanted = torch.randint(missing + 1, (n, 1), generator=generator)
    order = torch.rand(n, count, generator=generator).masked_fill(~_exists(buildings, count), 2).argsort(1).argsort(1)
    lost = torch.cat([torch.zeros(n, 1, dtype=torch.bool), order < wanted], 1)
    gone = lost.gather(1, buildings.flatten(1)).view_as(buildings)
    share = (20 + 60 * torch.rand(n, 1, 1, generator=generator)) / buildings[0].numel()
    measured = (torch.rand(buildings.shape, generator=generator) < share) & (buildings == 0)
    x = torch.stack([maps.inputs[batch, 0], ((buildings > 0) & ~gone).float(), gain[:, 0] * measured], 1)
    together = torch.cat([x, gain, gone[:, None].float()], 1)
    for change in (lambda t: t.flip(-1), lambda t: t.flip(-2), lambda t: t.mT):
        if torch.rand((), generator=generator) < 0.5:
            together = change(together)
    return together[:, :3], together[:, 3:4], together[:, 4:]


def _exists(buildings: Tensor, count: int) -> Tensor:
    """Which of the numbers 1 to `count` occur in each city, (b, count) bool."""
    return buildings.flatten(1).amax(1, keepdim=True) >= torch.arange(1, count + 1)


def write(name: str, model: nn.Module, maps: RadioMaps, data: dict[str, Any]) -> None:
    """Round to float16, measure on held-out cities, and save."""
    model.load_state_dict(half(model))
    x = maps.inputs.clone()
    if model.n_inputs == 2:
        x[:, 1] = (maps.buildings > 0).float()
    with torch.no_grad():
        device = next(model.parameters()).device
        out = torch.cat([model(part.to(device)).cpu() for part in x[:, : model.n_inputs].split(50)])
    error = (out - maps.gain).square().flatten(1)
    save(
        name,
        model,
        classes=(),
        data=data | {"train": data["train"] | {"missing": [0, 0 if model.n_inputs == 2 else MISSING]}},
        training={
            "seed": SEED,
            "epochs": EPOCHS + (0 if model.n_inputs == 2 else LAST_EPOCHS),
            "batch": BATCH,
            "peak_learning_rate": RATE,
            "interpretation_loss": WEIGHT if name.endswith("phi_int") else 0.0,
        },
        held_out={
            "mean_squared_error": round(error.mean().item(), 6),
            "normalised_mean_squared_error": round(
                (error.sum(1) / maps.gain.square().flatten(1).sum(1)).mean().item(), 4
            ),
        },
    )
