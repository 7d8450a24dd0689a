"""The attribution methods that the papers' methods are compared with."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import captum.attr
import numpy as np
import torch
from captum.log import log_usage
from skimage.morphology import dilation, disk
from skimage.segmentation import felzenszwalb
from skimage.transform import resize
from torch import Tensor, nn
from tqdm.auto import tqdm

from xai_lib.gradients import (
    GradientMethod,
    Moments,
    Noise,
    SamplingInfo,
    accumulate,
    batch_size,
    check_count,
    generator_of,
    like_inputs,
)
from xai_lib.outputs import in_parts

BASELINES = ("black", "white", "black+white", "random", "grey")


class IntegratedGradients(GradientMethod):
    """Integrated gradients of images in [0, 1] by Captum, averaged over one or more named baselines.

    Args:
        forward_func: as in `GradientMethod`.
        baseline: "black", "white", "black+white" (the mean of both), "random" (the mean over images of uniform
            noise) or "grey" (the image without its colour, so that only colour is attributed).
        output: explained scalar.

    Reference: Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017.
    """

    def __init__(self, forward_func: Any, baseline: str = "black", output: str = "probability") -> None:
        super().__init__(forward_func, output)
        if baseline not in BASELINES:
            raise ValueError(f"baseline is {baseline!r}, expected one of {BASELINES}.")
        self.baseline = baseline

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        target: int | Sequence[int] | Tensor | None = None,
        *,
        n_steps: int = 50,
        n_random: int = 4,
        seed: int = 0,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        """Attribute the target's output to images (B, C, H, W), with `n_steps` gradients per image and baseline.

        Returns:
            Attributions shaped as the inputs; where asked for, the sum of each minus `F(x) - mean F(baseline)`, (B,).

        Raises:
            TypeError, ValueError: the inputs, the target or the model's output is invalid.
        """
        check_count("n_steps", n_steps)
        if n_steps < 2:
            raise ValueError(f"n_steps is {n_steps}, expected at least 2, as Captum does.")
        check_count("n_random", n_random)
        problem = self._pose_images(inputs, target, internal_batch_size)
        captum_ig = captum.attr.IntegratedGradients(self._explained)
        starts = self.baselines(inputs, n_random, seed)
        limit = batch_size((inputs,), internal_batch_size)
        parts = [
            captum_ig.attribute(
                inputs[rows],
                baselines=start[rows],
                additional_forward_args=problem.target_of(rows),
                n_steps=n_steps,
                method="riemann_middle",
                internal_batch_size=limit,
            )
            for start in starts
            for rows in problem.rows(limit)
        ]
        attributions = torch.cat(parts).unflatten(0, (len(starts), -1)).mean(0).to(inputs.dtype)
        if not return_convergence_delta:
            return attributions
        start_values = torch.stack([problem.evaluate((start,), limit) for start in starts]).mean(0)
        return attributions, attributions.flatten(1).sum(1) - (problem.clean - start_values)

    def has_convergence_delta(self) -> bool:
        return True

    def baselines(self, inputs: Tensor, n_random: int = 4, seed: int = 0) -> list[Tensor]:
        """The baseline images (B, C, H, W) that the path starts from; a random one serves all inputs."""
        black, white = torch.zeros_like(inputs), torch.ones_like(inputs)
        if self.baseline == "random":
            generator = torch.Generator(inputs.device).manual_seed(seed)
            shape = inputs.shape[1:]
            noise = torch.rand(n_random, *shape, generator=generator, dtype=inputs.dtype, device=inputs.device)
            return [image.expand_as(inputs) for image in noise]
        named = {"black": [black], "white": [white], "black+white": [black, white]}
        return named.get(self.baseline, [inputs.mean(1, keepdim=True).expand_as(inputs)])


class GradCAM(GradientMethod):
    """Grad-CAM of images by Captum: rectified, enlarged bilinearly and shared equally by the channels.

    Args:
        forward_func: the model, an `nn.Module`.
        layer: module of the model whose output (B, K, h, w) is weighted, or its dotted name; None takes the last one
            with such an output of more than one pixel.
        output: explained scalar.

    Raises:
        TypeError: the model is no `nn.Module`, which has layers.
        ValueError: the model has no layer of that name.

    Reference: Selvaraju et al.: Grad-CAM, ICCV 2017.
    """

    def __init__(self, forward_func: nn.Module, layer: nn.Module | str | None = None, output: str = "score") -> None:
        super().__init__(forward_func, output)
        if not isinstance(forward_func, nn.Module):
            raise TypeError(
                f"forward_func is a {type(forward_func).__name__}, expected an nn.Module, which has layers."
            )
        layers = dict(forward_func.named_modules())
        if isinstance(layer, str) and layer not in layers:
            raise ValueError(f"layer is {layer!r}, expected one of {', '.join(n for n in layers if n)}.")
        self.layer = layers[layer] if isinstance(layer, str) else layer

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        target: int | Sequence[int] | Tensor | None = None,
        *,
        internal_batch_size: int | None = None,
    ) -> Tensor:
        """Attribute the target's output to images (B, C, H, W), with one gradient per image.

        Raises:
            TypeError, ValueError: the inputs, the target or the model's output is invalid.
        """
        problem = self._pose_images(inputs, target, internal_batch_size)
        cam = captum.attr.LayerGradCam(self._explained, self.layer or _last_map(self.forward_func, inputs[:1]))
        maps = []
        for rows in problem.rows(batch_size((inputs,), internal_batch_size)):
            coarse = cam.attribute(
                inputs[rows], additional_forward_args=problem.target_of(rows), relu_attributions=True
            ).detach()
            if coarse.ndim != 4:
                raise ValueError(f"layer gives a map of shape {tuple(coarse.shape)}, expected (B, 1, h, w).")
            maps.append(nn.functional.interpolate(coarse, inputs.shape[2:], mode="bilinear"))
        return (torch.cat(maps) / inputs.shape[1]).expand_as(inputs)


def _last_map(model: nn.Module, image: Tensor) -> nn.Module:
    """The module that is the last to put out a map (1, K, h, w) of more than one pixel."""
    found: list[nn.Module] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            found.append(module)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError("layer is None, expected a module of the model: none puts out a map (B, K, h, w).")
    return found[-1]


class SmoothGrad(GradientMethod):
    """Mean gradient under Gaussian noise: `E[g(x + stdev eps)]`.

    Reference: Smilkov et al.: SmoothGrad: removing noise by adding noise, 2017, whose class score is explained.
    """

    def __init__(self, forward_func: Any, output: str = "score") -> None:
        super().__init__(forward_func, output)

    def _moments(self, unit: int) -> Moments:
        return Moments(unit=unit)

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: int | Sequence[int] | Tensor | None = None,
        *,
        n_samples: int = 50,
        stdev: float | Tensor | None = None,
        seed: int | Sequence[int] = 0,
        antithetic: bool = False,
        tolerance: float | None = None,
        additional_forward_args: Any = None,
        internal_batch_size: int | None = None,
        return_info: bool = False,
        show_progress: bool = False,
    ) -> Any:
        """Attribute the target's output to the inputs, in `n_samples` gradients per input.

        Args:
            inputs: float tensor (B, ...) or a tuple of them.
            target: class explained, one or one per input; None explains the class predicted on `inputs`.
            n_samples: noise samples per input; with `tolerance`, the most that are taken.
            stdev: of the noise in units of the input, one or one per input (B,); None takes 15 % of each input's range.
            seed: one integer gives every input the same noise, a sequence gives each input its own stream.
            antithetic: draw noise in pairs of opposite sign.
            tolerance: stop an input once its standard error is below this share of its map, both as norms.
            additional_forward_args: passed to `forward_func` behind the inputs.
            internal_batch_size: rows of one forward pass; changes the result by rounding only.
            return_info: also return `SamplingInfo`: the standard error and the samples used.
            show_progress: show a progress bar.

        Raises:
            TypeError, ValueError: an argument, or the model's output, is invalid.
        """
        if antithetic and isinstance(n_samples, int) and n_samples % 2:
            raise ValueError(f"n_samples is {n_samples}, expected an even number for antithetic pairs.")
        problem = self._pose(inputs, target, additional_forward_args, internal_batch_size)
        noise = Noise(seed, len(problem), antithetic)
        scales = [_stdev(stdev, x) for x in problem.inputs]

        def points(rows: Tensor, samples: range) -> tuple[Tensor, ...]:
            return tuple(
                x[rows] + s[rows] * noise.draw(rows, samples, x, i)
                for i, (x, s) in enumerate(zip(problem.inputs, scales, strict=True))
            )

        result = accumulate(
            problem,
            points,
            n_samples,
            lambda: self._moments(2 if antithetic else 1),
            internal_batch_size=internal_batch_size,
            tolerance=tolerance,
            show_progress=show_progress,
        )
        attributions = like_inputs(inputs, result.values)
        if not return_info:
            return attributions
        error = result.standard_error and like_inputs(inputs, result.standard_error)
        return attributions, SamplingInfo(error, result.n_samples)


class SmoothGradSQ(SmoothGrad):
    """Mean squared gradient under Gaussian noise: `E[g(x + stdev eps)^2]`.

    Reference: Hooker et al.: A benchmark for interpretability methods in deep neural networks, NeurIPS 2019.
    """

    def _moments(self, unit: int) -> Moments:
        return Moments(lambda gradients, values: gradients**2, unit)


class VarGrad(SmoothGrad):
    """Variance of the gradient under Gaussian noise: `E[g^2] - E[g]^2` (biased, as in Captum).

    Reference: Adebayo et al.: Sanity checks for saliency maps, NeurIPS 2018.
    """

    def _moments(self, unit: int) -> Moments:
        return Moments(variance=True)


def _stdev(stdev: float | Tensor | None, x: Tensor) -> Tensor:
    if stdev is None:
        flat = x.flatten(1)
        stdev = 0.15 * (flat.amax(1) - flat.amin(1))
    scale = torch.as_tensor(stdev, dtype=x.dtype, device=x.device)
    if scale.numel() not in (1, len(x)) or not (scale >= 0).all() or not scale.isfinite().all():
        raise ValueError(f"stdev is {stdev}, expected a finite number of at least 0, or one per input ({len(x)}).")
    return scale.flatten().expand(len(x)).view(-1, *[1] * (x.ndim - 1))


class Occlusion(GradientMethod):
    """Occlusion by Captum: how much the output falls when a patch of the image is replaced, averaged over the patches.

    Reference: Zeiler, Fergus: Visualizing and understanding convolutional networks, ECCV 2014.
    """

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        target: int | Sequence[int] | Tensor | None = None,
        *,
        patch: int = 15,
        stride: int | None = None,
        value: float = 0.0,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Tensor:
        """Attribute the target's output to images (B, C, H, W), in one forward pass per patch.

        Args:
            inputs: images (B, C, H, W).
            target: class explained, one or one per input; None explains the class predicted on `inputs`.
            patch: side of the square patches in pixels; they cover all channels.
            stride: distance between patches in pixels; None takes half the side.
            value: what a patch is filled with.
            internal_batch_size: rows of one forward pass.
            show_progress: show a progress bar.

        Raises:
            TypeError, ValueError: an argument, or the model's output, is invalid.
        """
        check_count("patch", patch)
        stride = max(1, patch // 2) if stride is None else stride
        _check_hiding(inputs, value, stride=stride)
        if not stride <= patch <= min(inputs.shape[2:]):
            raise ValueError(f"patch is {patch} and stride {stride}, expected stride <= patch <= the image's sides.")
        problem = self._pose_images(inputs, target, internal_batch_size)
        occlusion = captum.attr.Occlusion(self._explained)
        limit = batch_size((inputs,), internal_batch_size)
        parts = [
            occlusion.attribute(
                inputs[rows],
                sliding_window_shapes=(inputs.shape[1], patch, patch),
                strides=(1, stride, stride),
                baselines=value,
                additional_forward_args=problem.target_of(rows),
                perturbations_per_eval=max(1, limit // len(rows)),
                show_progress=show_progress,
            )
            for rows in problem.rows(limit)
        ]
        return torch.cat(parts).to(inputs.dtype) / inputs.shape[1]  # Captum gives the whole difference to every channel


class RISE(GradientMethod):
    """Randomised input sampling: the mean output over random masks that show a pixel, `E[f(x m) | m_i = 1]`.

    Masks are coarse grids of zeros and ones, enlarged bilinearly and shifted at random; the output is weighted by the
    mask and divided by the sum of the masks at each pixel, so that a constant output gives a constant map.

    Reference: Petsiuk, Das, Saenko: RISE, BMVC 2018, eqs. 4 to 6 (which divide by the masks' expectation).
    """

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        target: int | Sequence[int] | Tensor | None = None,
        *,
        n_samples: int = 4000,
        grid: int = 7,
        keep: float = 0.5,
        value: float = 0.0,
        seed: int = 0,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Tensor:
        """Attribute the target's output to images (B, C, H, W), in `n_samples` forward passes per image.

        Args:
            inputs: images (B, C, H, W).
            target: class explained, one or one per input; None explains the class predicted on `inputs`.
            n_samples: masks; all images are seen through the same ones.
            grid: cells of a mask along each side.
            keep: probability that a cell is shown.
            value: what hidden pixels are replaced by.
            seed: of the masks.
            internal_batch_size: rows of one forward pass; changes the result by rounding only.
            show_progress: show a progress bar that counts forward passes.

        Raises:
            TypeError, ValueError: an argument, or the model's output, is invalid.
        """
        _check_hiding(inputs, value, n_samples=n_samples, grid=grid)
        if not 0 < keep < 1:
            raise ValueError(f"keep is {keep!r}, expected a probability between 0 and 1.")
        problem = self._pose_images(inputs, target, internal_batch_size)
        limit = batch_size((inputs,), internal_batch_size)
        hidden = torch.full_like(inputs[:1], value)
        maps = []
        with torch.no_grad(), tqdm(total=len(inputs) * n_samples, disable=not show_progress, unit="pass") as progress:
            for rows in problem.rows(limit):
                seen, shown = 0.0, 0.0
                for samples in torch.arange(n_samples).split(max(1, limit // len(rows))):
                    masks = torch.stack([self.mask(inputs, grid, keep, seed, int(k)) for k in samples])
                    points = hidden.lerp(inputs[rows], masks[:, None, None]).flatten(0, 1)
                    at = rows.repeat(len(samples))
                    parts, limit = in_parts(lambda r, z=points, at=at: problem.values((z[r],), at[r]), len(at), limit)
                    values = torch.cat(parts).view(len(samples), len(rows))
                    seen = seen + torch.einsum("kb,khw->bhw", values, masks)
                    shown = shown + masks.sum(0)
                    progress.update(len(at))
                maps.append(seen / shown.clamp(min=torch.finfo(shown.dtype).tiny))
        return (torch.cat(maps)[:, None] / inputs.shape[1]).expand_as(inputs)

    @staticmethod
    def mask(images: Tensor, grid: int, keep: float, seed: int, sample: int) -> Tensor:
        """Mask number `sample` for images (B, C, H, W): how far each pixel is shown, (H, W) in [0, 1]."""
        generator = generator_of(torch.device("cpu"), seed, sample)
        cells = (torch.rand(1, 1, grid, grid, generator=generator) < keep).to(images)
        sides = [-(-side // grid) for side in images.shape[2:]]  # of a cell, rounded up
        large = nn.functional.interpolate(cells, [(grid + 1) * s for s in sides], mode="bilinear", align_corners=False)
        top, left = (int(torch.randint(s, (), generator=generator)) for s in sides)
        return large[0, 0, top : top + images.shape[2], left : left + images.shape[3]]


class KernelSHAP(GradientMethod):
    """Kernel SHAP by Captum on square patches: Shapley values of the patches, estimated by weighted regression.

    Reference: Lundberg, Lee: A unified approach to interpreting model predictions, NeurIPS 2017.
    """

    @log_usage()
    def attribute(
        self,
        inputs: Tensor,
        target: int | Sequence[int] | Tensor | None = None,
        *,
        n_samples: int = 256,
        grid: int = 7,
        value: float = 0.0,
        seed: int = 0,
        internal_batch_size: int | None = None,
    ) -> Tensor:
        """Attribute the target's output to images (B, C, H, W), in `n_samples` forward passes per image.

        Args:
            inputs: images (B, C, H, W).
            target: class explained, one or one per input; None explains the class predicted on `inputs`.
            n_samples: coalitions of patches, the same for all images; fewer than `grid^2` leave the regression open.
            grid: patches along each side.
            value: what absent patches are filled with.
            seed: of the coalitions.
            internal_batch_size: rows of one forward pass.

        Raises:
            TypeError, ValueError: an argument, or the model's output, is invalid.
        """
        _check_hiding(inputs, value, n_samples=n_samples, grid=grid)
        if not 2 <= grid <= min(inputs.shape[2:]):
            raise ValueError(f"grid is {grid}, expected at least 2 patches along each side, of at least a pixel each.")
        problem = self._pose_images(inputs, target, internal_batch_size)
        cells = torch.arange(grid**2, dtype=inputs.dtype, device=inputs.device).view(1, 1, grid, grid)
        patches = nn.functional.interpolate(cells, inputs.shape[2:], mode="nearest").long()
        maps = []
        for rows in problem.rows(1):

            def explained(points: Tensor, row: Tensor = rows) -> Tensor:
                return problem.values((points,), row.expand(len(points)))

            with torch.random.fork_rng():  # Captum draws from the global state
                torch.manual_seed(seed)
                coefficients = captum.attr.KernelShap(explained).attribute(
                    inputs[rows],
                    baselines=value,
                    feature_mask=patches,
                    n_samples=n_samples,
                    perturbations_per_eval=batch_size((inputs,), internal_batch_size),
                )
            maps.append(coefficients)
        return torch.cat(maps).to(inputs.dtype) / inputs.shape[1]  # Captum gives a patch's value to every channel


def _check_hiding(inputs: Tensor, value: float, **counts: int) -> None:
    """For methods that hide parts of images: raises unless there are images, and `value` and the counts make sense."""
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs is a {type(inputs).__name__}, expected images (B, C, H, W).")
    if inputs.ndim != 4:
        raise ValueError(f"inputs has shape {tuple(inputs.shape)}, expected images (B, C, H, W).")
    for name, count in counts.items():
        check_count(name, count)
    if not (isinstance(value, Real) and math.isfinite(value)):
        raise ValueError(f"value is {value!r}, expected a finite number.")


class XRAI:
    """Regions ranked by the attribution they hold: segments of the image, added greedily by their mean attribution.

    Args:
        method: any attribution method of this library or Captum's; the paper's is
            `IntegratedGradients(model, "black+white")`.

    The image is cut by Felzenszwalb's algorithm at six scales and the segments are dilated. Again and again the segment
    with the highest mean attribution over its pixels not yet covered is added, and gives them that mean.

    Reference: Kapishnikov et al.: XRAI: better attributions through regions, ICCV 2019, algorithm 1.
    """

    SCALES = (50, 100, 150, 250, 500, 1200)  # of the segmentation, at 224 pixels a side
    SIDE, SMALLEST, DILATION, NEW = 224, 150, 5, 50  # pixels at that size

    def __init__(self, method: Any) -> None:
        self.method = method

    def attribute(self, inputs: Tensor, target: int | Sequence[int] | Tensor | None = None, **settings: Any) -> Tensor:
        """Attribute the target's output to images (B, C, H, W); `settings` go to the underlying method."""
        return self.rank(inputs, self.method.attribute(inputs, target, **settings))

    def rank(self, inputs: Tensor, attributions: Tensor) -> Tensor:
        """Rank the regions of images (B, C, H, W) by attributions that are there already.

        They are shaped as the images, or (M, B, C, H, W), where M maps share the segments of their image.
        """
        stacked = attributions if attributions.ndim > inputs.ndim else attributions[None]
        ranked = []
        for image, values in zip(inputs, stacked.amax(2).unbind(1), strict=True):
            masks = self.segments(image)
            ranked.append(torch.stack([self._rank(masks, value) for value in values]))
        maps = torch.stack(ranked, 1).to(inputs)[:, :, None] / inputs.shape[1]
        return maps.expand_as(stacked).reshape(attributions.shape)

    def segments(self, image: Tensor) -> np.ndarray:
        """Dilated segments of all scales of an image (C, H, W), as masks (n, H, W)."""
        height, width = image.shape[1:]
        pixels = image.detach().cpu().double().movedim(0, -1).numpy()
        pixels = (pixels - pixels.min()) / max(np.ptp(pixels), 1e-12) * 2 - 1
        enlarged = resize(pixels, (self.SIDE, self.SIDE), order=3, mode="reflect", anti_aliasing=True)
        masks = []
        for scale in self.SCALES:
            labels = felzenszwalb(enlarged, scale=scale, sigma=0.8, min_size=self.SMALLEST)
            labels = resize(labels, (height, width), order=0, preserve_range=True, anti_aliasing=False)
            masks += [labels == label for label in np.unique(labels)]
        footprint = disk(max(1, round(self.DILATION * max(height, width) / self.SIDE)))
        return np.stack([dilation(mask, footprint) for mask in masks])

    def _rank(self, masks: np.ndarray, attribution: Tensor) -> Tensor:
        """The greedy cover of one image by segments (n, H, W); `attribution` is (H, W)."""
        value = attribution.detach().cpu().double().flatten().numpy()
        of_pixel = masks.reshape(len(masks), -1).T.astype(np.float64)  # (H W, n)
        count, total = of_pixel.sum(0), value @ of_pixel  # of what each segment would add
        uncovered, ranked = np.ones(len(value), dtype=bool), np.zeros_like(value)
        fewest = self.NEW * value.size / self.SIDE**2
        while (count >= fewest).any():
            gain = np.where(count >= fewest, total / np.maximum(count, 1), -np.inf)
            best = gain.argmax()
            chosen = np.flatnonzero((of_pixel[:, best] > 0) & uncovered)
            ranked[chosen], uncovered[chosen] = gain[best], False
            count -= of_pixel[chosen].sum(0)
            total -= value[chosen] @ of_pixel[chosen]
        ranked[uncovered] = value[uncovered].mean() if uncovered.any() else 0
        return torch.from_numpy(ranked).view(attribution.shape)


def contrast_map(images: Tensor) -> Tensor:
    """Distance of each pixel of images (B, C, H, W) from its image's mean colour, shared equally by the channels.

    No network takes part: what a method finds has to exceed what this control finds.
    """
    distance = (images - images.mean((2, 3), keepdim=True)).norm(dim=1, keepdim=True)
    return (distance / images.shape[1]).expand_as(images)
