"""Rate-distortion explanations: the fewest coefficients of an input that keep a model's output.

Kolek, Nguyen, Levie, Bruna, Kutyniok: A Rate-Distortion Framework for Explaining Black-box Model Decisions, 2022.
"""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor

from xai_lib.gradients import batch_size, check_count
from xai_lib.masks import (
    L1,
    Coefficients,
    Distortion,
    Gaussian,
    Inpainted,
    Obfuscation,
    Objective,
    OutputChange,
    Perturbation,
    ProbabilityChange,
    Representation,
    Solver,
    Wavelets,
    pixels,
)
from xai_lib.outputs import pose

EVALUATION = 10**9  # the first step whose noise final masks are evaluated on; no solver gets so far
BLOCK = 64  # samples of the evaluation that are drawn at once


class Details(NamedTuple):
    """What lies behind an explanation; M is the number of masks, one per input unless inputs share them.

    Attributes:
        mask: (M, k) in [0, 1].
        trace: the objective in every step of the solver, (n_steps, M); for matching pursuit the distortion with 0, 1,
            2, ... entries, (n_chosen + 1, M).
        distortion: of the final masks on fresh noise, (M,). A Bernoulli mask is taken as it is, theta as a soft mask.
        rate: mean of the final masks over their entries, (M,).
        order: entries in the order in which matching pursuit chose them, (M, n_chosen), -1 where it chose none; else
            None.
    """

    mask: Tensor
    trace: Tensor
    distortion: Tensor
    rate: Tensor
    order: Tensor | None


class RDE(Attribution):
    """Rate-distortion explanation: `min over s of E_v d(Phi(x), Phi(y)) + lambda mean(s)` (Definition 2, P1, P2),

    with obfuscations `y = f(s * h + (1 - s) * v)` of an input `x = f(h)`. Throughout, lambda multiplies the mean of s
    over its entries, not the sum.

    Args:
        forward_func: model, maps inputs (B, ...) to class scores (B, classes) before softmax, or to any output
            (B, ...) if the distortion compares whole outputs, as `OutputChange` does.
        representation: maps inputs to their coefficients h, such as `pixels` or `Wavelets()`.
        obfuscation: law of v, such as `Gaussian()`.
        distortion: d, such as `ProbabilityChange()`.
        solver: such as `L1(sparsity=0.6)`.

    Raises:
        TypeError: `solver` cannot solve.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        representation: Representation,
        obfuscation: Obfuscation,
        distortion: Distortion,
        solver: Solver,
    ) -> None:
        super().__init__(forward_func)
        if not hasattr(solver, "solve"):
            raise TypeError(f"solver is {solver!r}, expected one such as L1(0.6).")
        self.representation, self.obfuscation = representation, obfuscation
        self.distortion, self.solver = distortion, solver

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        target: int | Sequence[int] | Tensor | None = None,
        *,
        share: Sequence[int] | Tensor | None = None,
        seed: int | Sequence[int] = 0,
        n_evaluation: int = 512,
        additional_forward_args: Any = None,
        internal_batch_size: int | None = None,
        return_details: bool = False,
        show_progress: bool = False,
    ) -> Any:
        """Explain each input by a mask of its own, all side by side, or groups of inputs by shared ones.

        Args:
            inputs: float tensor (B, ...).
            target: class explained, one or one per input; None explains the class predicted on `inputs`. Where whole
                outputs are compared, there is none.
            share: numbers from 0 on, (B,): inputs with the same number share one mask, whose distortion is their mean.
            seed: of the noise: one for all inputs (they see the same noise) or one per input, which takes B times the
                memory for it.
            n_evaluation: samples of fresh noise for the distortion in the details.
            additional_forward_args: passed to `forward_func` behind the inputs.
            internal_batch_size: rows of one forward pass; changes the result by rounding only.
            return_details: also return `Details`.
            show_progress: show a progress bar.

        Returns:
            What the representation shows of the mask, shaped as the inputs (of pixels the mask itself, of wavelets
            the CartoonX picture); where asked for, followed by `Details`.

        Raises:
            TypeError: the inputs or the target have the wrong type.
            ValueError: a parameter of the four choices, `inputs`, `target`, `share`, `seed` or the output is invalid,
                or the solver takes gradients and the model has none.
        """
        check_count("n_evaluation", n_evaluation)
        objective = self._objective(inputs, target, share, seed, additional_forward_args, internal_batch_size)
        found = self.solver.solve(objective, show_progress)
        explanation = objective.h.explain(found.mask[objective.share])
        if not return_details:
            return explanation
        distortion = _final_distortion(objective, found.mask, n_evaluation)
        return explanation, Details(found.mask, found.trace, distortion, objective.rate(found.mask), found.order)

    def obfuscate(
        self,
        inputs: Tensor,
        mask: Tensor,
        *,
        n_samples: int = 1,
        seed: int | Sequence[int] = 0,
        additional_forward_args: Any = None,
    ) -> Tensor:
        """Obfuscations y of inputs (B, ...) under masks (B, k) in [0, 1]: (n_samples, B, ...).

        Raises:
            TypeError: the mask is no tensor.
            ValueError: the mask has another shape or leaves [0, 1], or an argument is invalid as in `attribute`.
        """
        check_count("n_samples", n_samples)
        if not isinstance(mask, Tensor):
            raise TypeError(f"mask is a {type(mask).__name__}, expected a tensor.")
        if not ((mask >= 0) & (mask <= 1)).all():
            raise ValueError(f"mask ranges from {float(mask.min()):.3g} to {float(mask.max()):.3g}, expected 0 to 1.")
        objective = self._objective(inputs, None, None, seed, additional_forward_args, None)
        if mask.shape != objective.exists.shape:
            raise ValueError(f"mask has shape {tuple(mask.shape)}, expected {tuple(objective.exists.shape)}.")
        mask = mask.to(inputs)
        with torch.no_grad():
            rows = torch.arange(len(inputs), device=inputs.device)
            mixed = objective.mixed(mask, rows, objective.noise(EVALUATION, n_samples))
            mixed = mixed.expand(n_samples, *mixed.shape[1:])
            return objective.h.signal(mixed.flatten(0, 1)).unflatten(0, mixed.shape[:2])

    def _objective(self, inputs, target, share, seed, additional_forward_args, internal_batch_size) -> Objective:
        if not isinstance(inputs, Tensor):
            raise TypeError(f"inputs is a {type(inputs).__name__}, expected a tensor.")
        limit = batch_size((inputs,), internal_batch_size) if inputs.numel() else 1
        output = "score" if getattr(self.distortion, "of_class", False) else None
        problem = pose(self.forward_func, inputs, target, additional_forward_args, output, limit)
        if isinstance(self.distortion, OutputChange):
            self.distortion.check(problem.outputs)
        _check_seed(seed, len(inputs))
        coefficients = self.representation(inputs)
        perturbation = self.obfuscation(coefficients, inputs)
        groups = _groups(share, inputs)
        return Objective(problem, coefficients, perturbation, self.distortion, seed, groups, limit)


class PixelRDE(RDE):
    """Pixel RDE: one mask entry per pixel, Gaussian noise with the image's own mean and standard deviation.

    The defaults are the paper's: 100 times the squared change of the probability, 2000 steps of 0.003 on 64 samples
    each, lambda 0.6. `solver=L1.fast(0.6)` takes a third of the gradients.
    """

    def __init__(self, forward_func: Callable[..., Tensor], solver: Solver | None = None) -> None:
        super().__init__(forward_func, pixels, Gaussian(), ProbabilityChange(), solver or L1(0.6))


class CartoonX(RDE):
    """CartoonX: one mask entry per wavelet coefficient, Gaussian noise with the statistics of each scale.

    The attribution is the picture: the masked coefficients of the grey image, inverted and clipped to [0, 1]. The
    defaults are the paper's, lambda 3 and the rest as in `PixelRDE`; `solver=L1.fast(3.0)` takes a third of the
    gradients.

    Args:
        forward_func: model of images (B, C, H, W) in [0, 1].
        solver: None takes the paper's.
        wavelet, levels, mode: as in `Wavelets`.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        solver: Solver | None = None,
        wavelet: str = "db3",
        levels: int | None = None,
        mode: str = "zero",
    ) -> None:
        wavelets = Wavelets(wavelet, levels, mode)
        super().__init__(forward_func, wavelets, Gaussian(), ProbabilityChange(), solver or L1(3.0))


def inpainted_measurements(phi0: Callable[[Tensor], Tensor], share: float = 1.0) -> Obfuscation:
    """For radio maps (B, 3, H, W): buildings that are switched off vanish, measurements are taken from an estimate.

    A measurement that is switched off gets, with probability `share`, the value that `phi0` estimates there from the
    transmitter and the buildings that are switched on, and else vanishes (section 4.3.1): `share=1` asks what darkens
    the free-space map, `share=0` what brightens an empty one.

    Raises:
        ValueError: `share` is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share!r}, expected a number from 0 to 1.")

    def generator(x: Tensor, s: Tensor, z: Tensor | None) -> Tensor:
        estimate = phi0(torch.cat([x[:, :1], x[:, 1:2] * s[:, 1:2]], 1)).clamp(min=0)
        filled = torch.full_like(estimate, float(share)) if z is None else torch.special.ndtr(z)[:, None] < share
        return torch.cat([torch.zeros_like(x[:, :2]), estimate * filled], 1)

    def obfuscation(h: Coefficients, x: Tensor) -> Perturbation:
        return Inpainted(generator, None if share in (0, 1) else tuple(x.shape[-2:]))(h, x)

    return obfuscation


def _final_distortion(objective: Objective, mask: Tensor, n_samples: int) -> Tensor:
    """Of masks (M, k) on fresh noise, drawn in blocks, since with a seed per input it is B times as large: (M,)."""
    if objective.perturbation.noise_shape is None:
        return objective.value(mask, None)
    total = 0
    for start in range(0, n_samples, BLOCK):
        z = objective.noise(EVALUATION + start, min(BLOCK, n_samples - start))
        total = total + len(z) * objective.value(mask, z)
    return total / n_samples


def _check_seed(seed: int | Sequence[int], n_inputs: int) -> None:
    seeds = [seed] * n_inputs if isinstance(seed, Integral) else seed
    listed = isinstance(seeds, Sequence | np.ndarray) and len(seeds) == n_inputs
    if not listed or not all(isinstance(s, Integral) and s >= 0 for s in seeds):
        raise ValueError(f"seed is {seed!r}, expected a non-negative integer or one per input ({n_inputs}).")


def _groups(share: Sequence[int] | Tensor | None, inputs: Tensor) -> Tensor | None:
    if share is None:
        return None
    groups = torch.as_tensor(share, device=inputs.device)
    if (
        groups.shape != inputs.shape[:1]
        or groups.is_floating_point()
        or groups.dtype == torch.bool
        or groups.unique().tolist() != list(range(int(groups.max()) + 1))
    ):
        raise ValueError(
            f"share is {groups.tolist()}, expected one of the numbers 0, 1, 2, ..., none left out, for each of "
            f"{len(inputs)} inputs."
        )
    return groups.long()
