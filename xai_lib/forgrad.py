"""FORGrad: attributions without their high frequencies, and where in a network these come from.

Muzellec et al.: Gradient strikes back: How filtering out high frequencies improves explanations, 2023; numbers of
propositions and figures are those of its supplement. Frequencies are in cycles per image side.
"""

import copy
import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from numbers import Integral, Real
from typing import Any, NamedTuple

import scipy.stats
import torch
from torch import Tensor, nn

from xai_lib.gradients import Noise
from xai_lib.metrics import faithfulness, high_frequency_power, mean_blur
from xai_lib.outputs import batch_size, check_count, pose, select

SMALLEST_MAP = 8  # pixels a side; the spectrum of a smaller map says little
VARIANTS = ("paper", "xplique")
FAITHFULNESS = partial(faithfulness, fill=mean_blur)  # what hides a pixel is the mean of its surroundings
Measure = Callable[[Tensor], Any]


def low_pass(attributions: Tensor, sigma: float | Sequence[float], disk: bool = False) -> Tensor:
    """Keep the frequencies of maps up to `sigma` in both directions: `F^-1(F(phi) K_sigma)`.

    `K_sigma` is 1 where `|i - W/2| <= sigma` and `|j - H/2| <= sigma` on the centred spectrum, else 0 (section A).

    Args:
        attributions: (B, H, W) or (B, C, H, W), of any size, odd or even.
        sigma: cut-off in cycles per side; 0 keeps the mean, half the longer side keeps everything. A sequence, (K,),
            filters at each cut-off from one transform and gives the result a leading axis: (K, B, ...).
        disk: keep the frequencies within the circle of radius `sigma` instead of the square.

    Raises:
        TypeError: `attributions` is not a tensor of real floats.
        ValueError: `attributions` has no two spatial axes or is not finite, or a `sigma` is negative.
    """
    _check_maps(attributions)
    cuts = _checked_cutoffs(sigma)
    height, width = attributions.shape[-2:]
    # Channels-last maps stay as they are: rows of pixels of c channels, where other maps have rows of plain numbers.
    channels_last = attributions.is_contiguous(memory_format=torch.channels_last)
    maps = attributions.movedim(1, -1) if channels_last else attributions[..., None]  # (..., H, W, c)
    row = maps.shape[-2:]
    with torch.autocast(maps.device.type, enabled=False):  # exact when the model runs in bfloat16
        row_waves, column_waves, mask = _filter(height, width, cuts, disk, maps.dtype, maps.device)
        half = (maps.flatten(-2).mT @ row_waves).unflatten(-2, row).flatten(-2)  # (..., W, c m)
        spectrum = (column_waves.mT @ half).unflatten(-1, (row[1], -1))  # (..., n, c, m)
        if not math.isfinite(spectrum[..., 0].sum().item()):  # sums of a map's entries, finite only if all of these are
            raise ValueError("attributions contains NaN or infinity, expected finite values.")
        half = column_waves @ (spectrum * mask.view(len(cuts), *[1] * (maps.ndim - 3), *mask.shape[1:])).flatten(-2)
        half = half.unflatten(-1, (row[1], -1)).flatten(-3, -2)  # (..., W c, m)
        filtered = (row_waves @ half.mT).unflatten(-1, row)
    for k, cut in enumerate(cuts):
        if cut >= (math.hypot if disk else max)(height // 2, width // 2):
            filtered[k] = maps  # free of rounding, which would tell equal entries apart
    filtered = filtered.movedim(-1, -3) if channels_last else filtered[..., 0]
    return filtered[0] if isinstance(sigma, Real) else filtered


class FORGrad:
    """Any attribution method, low-pass filtered: `phi_sigma = F^-1(F(phi) K_sigma)`.

    Args:
        method: any attribution method of this library or Captum's, for images.
        sigma: cut-off in cycles per side; `optimal_cutoff` finds one.
        variant: "paper" filters the signed map of every channel (so also their sum); "xplique" filters, as that library
            does, the absolute mean over the channels within a circle, and takes absolute values again.

    Filtering keeps the sum of a map, so a complete attribution stays complete.

    Raises:
        TypeError: `method` has no `attribute`.
        ValueError: `sigma` is negative or `variant` is unknown.
    """

    def __init__(self, method: Any, sigma: float, variant: str = "paper") -> None:
        if not isinstance(sigma, Real) or not sigma >= 0:
            raise ValueError(f"sigma is {sigma!r}, expected a number of at least 0.")
        if variant not in VARIANTS:
            raise ValueError(f"variant is {variant!r}, expected one of {VARIANTS}.")
        if not hasattr(method, "attribute"):
            raise TypeError(
                f"method is a {type(method).__name__}, expected an attribution method such as BlurIG(model)."
            )
        self.method, self.sigma, self.variant = method, sigma, variant

    def attribute(self, inputs: Tensor | tuple[Tensor, ...], target: Any = None, **settings: Any) -> Any:
        """Attribute the target's output to images (B, C, H, W), or a tuple of them; `settings` go to the method.

        Returns:
            Attributions shaped as the method's, followed by whatever else the method returns (such as a delta).

        Raises:
            ValueError: the method's attribution has no spatial axes or is not finite.
        """
        result = self.method.attribute(inputs, target=target, **settings)
        if isinstance(result, Tensor):
            return self._filter(result)
        if isinstance(inputs, Tensor):
            return self._filter(result[0]), *result[1:]
        if isinstance(result[0], tuple):
            return tuple(self._filter(a) for a in result[0]), *result[1:]
        return tuple(self._filter(a) for a in result)

    def _filter(self, attributions: Tensor) -> Tensor:
        if self.variant == "paper":
            return low_pass(attributions, self.sigma)
        size = low_pass(attributions.mean(1, keepdim=True).abs(), self.sigma, disk=True).abs()
        return size.expand_as(attributions) / attributions.shape[1]


class Cutoff(NamedTuple):
    """What `optimal_cutoff` returns.

    Attributes:
        sigmas: the cut-offs tried, in cycles per side, in rising order, (K,).
        scores: faithfulness of every image at every cut-off, (K, B).
    """

    sigmas: tuple[float, ...]
    scores: Tensor

    @property
    def sigma(self) -> float:
        """The cut-off of the highest mean score; the largest of equals."""
        return self.sigmas[len(self.sigmas) - 1 - int(self.scores.mean(1).flip(0).argmax())]


def default_cutoffs(inputs: Tensor, n: int = 12) -> tuple[int, ...]:
    """At most `n` cut-offs for images (..., H, W), spaced geometrically from 1 to half the longer side (no filter).

    Raises:
        ValueError: `n` is less than 2.
    """
    if not isinstance(n, Integral) or n < 2:
        raise ValueError(f"n is {n!r}, expected an integer of at least 2.")
    half = max(inputs.shape[-2:]) // 2
    return tuple(sorted({round(half ** (k / (n - 1))) for k in range(n)}))


def optimal_cutoff(
    method: Any,
    model: Callable[[Tensor], Tensor],
    inputs: Tensor,
    target: int | Sequence[int] | Tensor | None = None,
    *,
    metric: Callable[..., Tensor] = FAITHFULNESS,
    sigmas: Sequence[float] | None = None,
    **settings: Any,
) -> Cutoff:
    """The cut-off whose filtered maps are most faithful on average: `argmax_sigma mean_x F(phi_sigma(x))`.

    Attributions are computed once, filtered at all cut-offs from one transform and scored in one stream. The result's
    `sigma` is the best cut-off; report faithfulness at it on other images than these.

    Args:
        method: the attribution method to filter, or its attributions (B, C, H, W) where they are there already.
        model: maps images (B, C, H, W) to logits (B, classes).
        inputs: validation images (B, C, H, W).
        target: class explained, one or one per image; None explains the class predicted on `inputs`.
        metric: maps model, images, maps (K, B, H, W) and classes (B,) to a number per map, (K, B); higher is better.
            By default insertion minus deletion of the class's probability, against a blurred image.
        sigmas: cut-offs in cycles per side; None takes `default_cutoffs`.
        settings: passed to the method's `attribute`.

    Raises:
        TypeError, ValueError: inputs, target, a cut-off or the model's output is invalid.
    """
    sigmas = default_cutoffs(inputs) if sigmas is None else tuple(sorted(sigmas))
    target = pose(model, inputs, target, None, "score", batch_size((inputs,), None)).target
    maps = method if isinstance(method, Tensor) else method.attribute(inputs, target=target, **settings)
    scores = metric(model, inputs, low_pass(maps.detach().sum(1), sigmas), target)
    return Cutoff(sigmas, scores)


# Where the high frequencies come from.


def layer_profile(
    model: nn.Module,
    inputs: Tensor,
    target: int | Sequence[int] | Tensor | None = None,
    measure: Measure = high_frequency_power,
    *,
    layers: Sequence[str] | None = None,
    internal_batch_size: int | None = None,
) -> dict[str, Tensor]:
    """A measure of the logit's gradient at the input and at every layer, in one backward pass (figures 2 to 6).

    The gradient with respect to a layer's output (b, C, h, w) is summed over its channels, as an attribution is;
    tokens (b, n, D) on a square grid, with or without a class token in front, are read as maps of D channels.

    Args:
        model: differentiable, with logits (B, classes); hooks are removed again, activations in place do no harm.
        inputs: images (B, C, H, W).
        target: class explained, one or one per image; None explains the class predicted on `inputs`.
        measure: maps gradient maps (b, h, w) to numbers (b, ...).
        layers: names of modules; None takes all modules without children whose output is a map of at least 8 x 8.
        internal_batch_size: rows of one backward pass.

    Returns:
        The measure, (B, ...), by layer from the input on; layers whose maps get no gradient are left out. A module that
        is called again is named `name (2)`.

    Raises:
        ValueError: `layers` is a single name, the model has no layer of a name given, or its output is no map of at
            least 8 x 8.
    """
    modules = dict(model.named_modules())
    if isinstance(layers, str):
        raise ValueError(f"layers is {layers!r}, expected a sequence of names of modules.")
    for name in layers or ():
        if name not in modules:
            near = difflib.get_close_matches(name, modules, 3, 0.3) or [n for n in modules if n][:3]
            raise ValueError(f"layers contains {name!r}, expected names of the model, such as {', '.join(near)}.")
    chosen = layers or [name for name, module in modules.items() if not list(module.children())]
    limit = batch_size((inputs,), internal_batch_size)
    problem = pose(model, inputs, target, None, "score", limit)
    parts = []
    for rows in problem.rows(limit):
        profile: dict[str, Any] = {}
        handles = [modules[name].register_forward_hook(_watch(name, profile, measure)) for name in chosen]
        try:
            with torch.enable_grad():
                x = inputs[rows].detach().requires_grad_()
                score = select(model(x), problem.target_of(rows), "score")
            (gradient,) = torch.autograd.grad(score.sum(), x)
        finally:
            for handle in handles:
                handle.remove()
        measured = {"input": measure(_as_maps(gradient).cpu())} | {k: v for k, v in profile.items() if v is not None}
        parts.append({name: torch.as_tensor(value) for name, value in measured.items()})
    absent = [name for name in layers or () if name not in parts[0]]
    if absent:
        raise ValueError(f"layers contains {absent[0]!r}, expected layers that pass maps of at least 8 x 8 on.")
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0] if all(name in part for part in parts)}


def _watch(name: str, profile: dict[str, Any], measure: Measure) -> Callable[[nn.Module, Any, Any], None]:
    """A forward hook that will enter the measure of the gradient of the layer's output into `profile`."""

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or not output.requires_grad or _as_maps(output.detach()) is None:
            return
        calls = sum(key == name or key.startswith(f"{name} (") for key in profile)
        key = f"{name} ({calls + 1})" if calls else name
        profile[key] = None  # its place in the order of the forward pass

        def enter(gradient: Tensor) -> None:
            maps = _as_maps(gradient).cpu()
            if maps.any():  # the last block of a ViT passes nothing on but the class token
                profile[key] = measure(maps)

        output.register_hook(enter)  # of the tensor, as it is now: a later change in place does not touch it

    return hook


def _as_maps(x: Tensor) -> Tensor | None:
    """Maps (b, C, h, w), or tokens (b, n, D) on a square grid, summed over channels, (b, h, w); None if too small."""
    if x.ndim == 3:
        side = math.isqrt(x.shape[1])
        if x.shape[1] - side**2 > 1:
            return None
        x = x[:, -(side**2) :].movedim(2, 1).unflatten(2, (side, side))
    return x.sum(1) if x.ndim == 4 and min(x.shape[2:]) >= SMALLEST_MAP else None


def with_average_pooling(model: nn.Module) -> nn.Module:
    """A copy of a model with the same weights whose max-pooling and strides are replaced by average pooling.

    `MaxPool2d` becomes `AvgPool2d` of the same extent; a `Conv2d` of stride s is evaluated everywhere and averaged over
    blocks of s x s, so that all maps keep their size (figures 2 to 4). Pooling that the model's code calls as a
    function is no module and stays.

    Raises:
        ValueError: the model has no such module.
    """
    model = copy.deepcopy(model)
    swapped = {module: _averaged(module) for module in list(model.modules())}  # one for a module that serves twice
    if all(module is other for module, other in swapped.items()):
        raise ValueError(f"model is a {type(model).__name__}, expected one with MaxPool2d or strided Conv2d modules.")
    for module in swapped:
        for name, child in module._modules.items():  # named_children() would leave out the second name of a child
            setattr(module, name, swapped.get(child))
    return swapped[model]


def _averaged(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.MaxPool2d):
        return nn.AvgPool2d(
            module.kernel_size, module.stride, module.padding, module.ceil_mode, count_include_pad=False
        )
    if isinstance(module, nn.Conv2d) and max(module.stride) > 1:
        pool = nn.AvgPool2d(module.stride, ceil_mode=True)
        module.stride = (1, 1)
        return nn.Sequential(module, pool)
    return module


def first_order_residual(
    model: Callable[[Tensor], Tensor],
    inputs: Tensor,
    gradients: Mapping[str, Tensor],
    radii: Sequence[float],
    target: int | Sequence[int] | Tensor | None = None,
    *,
    n_directions: int = 8,
    seed: int | Sequence[int] = 0,
    internal_batch_size: int | None = None,
) -> dict[str, Tensor]:
    """How far the logit is from its first-order expansion: mean of `|f(x + eps) - f(x) - <eps, g>|`, figures 7 to 9.

    `eps` points in random directions, the same for all gradients and radii, and has norm `r`.

    Args:
        model: maps images (B, C, H, W) to logits (B, classes).
        inputs: images x, (B, C, H, W).
        gradients: named stand-ins g for the gradient, each (B, C, H, W).
        radii: norms r of the perturbation, (R,), in units of the input.
        target: class explained, one or one per image; None explains the class predicted on `inputs`.
        n_directions: random directions per image.
        seed: of the directions; one integer for all images, or one per image.
        internal_batch_size: rows of one forward pass.

    Returns:
        For every name the mean over directions, (R, B).

    Raises:
        ValueError: a gradient's shape differs from the inputs', or another argument is invalid.
    """
    check_count("n_directions", n_directions)
    for name, gradient in gradients.items():
        if gradient.shape != inputs.shape:
            raise ValueError(
                f"gradients[{name!r}] has shape {tuple(gradient.shape)}, expected {tuple(inputs.shape)} as inputs."
            )
    limit = batch_size((inputs,), internal_batch_size)
    problem = pose(model, inputs, target, None, "score", limit)
    noise, rows = Noise(seed, len(inputs)), torch.arange(len(inputs), device=inputs.device)
    residual = {name: inputs.new_zeros(len(radii), len(inputs)) for name in gradients}
    for k in range(n_directions):
        unit = nn.functional.normalize(noise.draw(rows, range(k, k + 1), inputs)[0].flatten(1)).view(
            -1, *inputs.shape[1:]
        )
        slopes = {name: (unit * gradient).flatten(1).sum(1) for name, gradient in gradients.items()}
        for i, r in enumerate(radii):
            change = problem.evaluate((inputs + r * unit,), limit) - problem.clean
            for name, slope in slopes.items():
                residual[name][i] += (change - r * slope).abs() / n_directions
    return residual


def control_gradients(gradient: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """The three controls of section C for gradients (B, ...): zero, permuted entries, uniform noise of their range."""
    generator = torch.Generator().manual_seed(seed)
    flat = gradient.flatten(1)
    order = torch.rand(flat.shape, generator=generator).argsort(1).to(flat.device)
    share = torch.rand(flat.shape, generator=generator).to(flat)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    controls = {
        "zero": torch.zeros_like(flat),
        "permuted": flat.gather(1, order),
        "uniform": low + share * (high - low),
    }
    return {name: control.view_as(gradient) for name, control in controls.items()}


# What the filter and averaging leave of noise.


def kept_frequencies(height: int, width: int, sigma: float) -> int:
    """The number of frequencies that `low_pass` keeps of a map (height, width): `(2 sigma + 1)^2`, up to all."""
    return math.prod(2 * math.floor(sigma) + 1 if sigma < n // 2 else n for n in (height, width))


def kept_energy_law(height: int, width: int, sigma: float) -> Any:
    """The law of the share of the energy that `low_pass` keeps of white Gaussian noise, as a scipy distribution.

    `||K_sigma noise||^2 / ||noise||^2 ~ Beta(d/2, (W H - d)/2)` with `d` the number of frequencies kept: the filter is
    an orthogonal projection on d of W H real dimensions. (Proposition A.3 prints a beta-prime law instead.)
    """
    kept = kept_frequencies(height, width, sigma)
    return scipy.stats.beta(kept / 2, (height * width - kept) / 2)


def bernstein_bound(t: float, variance: float, lipschitz: float, n: int, height: int, width: int) -> float:
    """The matrix Bernstein bound on `P(||SG - E SG||_2 >= t)` for a mean of `n` gradients (height, width).

    `(W + H) exp(-(t^2 / 2) / (V + 2 L t / (3 n)))` with `V` the variance of the mean and gradients of spectral norm at
    most L. (Proposition A.4 prints other powers of n.)
    """
    return (height + width) * math.exp(-(t**2) / 2 / (variance + 2 * lipschitz * t / (3 * n)))


@lru_cache(maxsize=16)
def _filter(
    height: int, width: int, cuts: tuple[float, ...], disk: bool, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """What `low_pass` multiplies by: waves along y, (H, m), and x, (W, n), and a mask per cut-off, (K, n, 1, m)."""
    (rows, row_waves), (columns, column_waves) = (_waves(n, max(cuts), device) for n in (height, width))
    size = (torch.hypot if disk else torch.maximum)(columns[:, None, None], rows)
    mask = size <= torch.tensor(cuts, dtype=size.dtype, device=device)[:, None, None, None]
    return row_waves.to(dtype), column_waves.to(dtype), mask.to(dtype)


def _waves(n: int, cut: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cycles, (m,), of the waves of up to `cut` cycles on n pixels, and these waves, orthonormal: (n, m).

    Wave k is cos + sin of 2 pi k x / n (Hartley): k and n - k together span the frequency min(k, n - k). Some more
    waves make m a multiple of 16, for which products are faster.
    """
    place = torch.arange(n, device=device)
    cycles = torch.minimum(place, n - place).double()
    needed = int((cycles <= cut).sum())
    kept = cycles.argsort(stable=True)[: math.ceil(needed / 16) * 16]
    angles = 2 * math.pi / n * place.double()
    first = (angles.cos() + angles.sin()) / math.sqrt(n)
    return cycles[kept], first[place[:, None] * kept % n]


def _checked_cutoffs(sigma: float | Sequence[float]) -> tuple[float, ...]:
    cuts = (sigma,) if not isinstance(sigma, Iterable) else tuple(sigma)
    if not cuts or not all(isinstance(cut, Real) and cut >= 0 for cut in cuts):
        raise ValueError(f"sigma is {sigma!r}, expected a number of at least 0, or a sequence of them.")
    return tuple(float(cut) for cut in cuts)


def _check_maps(maps: Any) -> None:
    if not isinstance(maps, Tensor) or not maps.is_floating_point():
        given = maps.dtype if isinstance(maps, Tensor) else type(maps).__name__
        raise TypeError(f"attributions is {given}, expected a tensor of floats.")
    if maps.ndim < 3 or not maps.numel():
        raise ValueError(f"attributions has shape {tuple(maps.shape)}, expected (B, H, W) or (B, C, H, W).")
