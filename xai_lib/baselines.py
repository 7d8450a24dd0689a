"""The attribution methods that the papers' methods are compared with."""

from collections.abc import Sequence
from typing import Any

import captum.attr
import torch
from captum.log import log_usage
from torch import Tensor, nn

from xai_lib.gradients import GradientMethod, Moments, Noise, SamplingInfo, accumulate, batch_size, like_inputs
from xai_lib.outputs import select

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
        problem = self._pose(inputs, target, None, internal_batch_size)
        captum_ig = captum.attr.IntegratedGradients(
            lambda x, classes=None: select(self.forward_func(x), classes, self.output)
        )
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
        layer: module of the model whose output (B, K, h, w) is weighted, or its dotted name.
        output: explained scalar.

    Raises:
        ValueError: the model has no layer of that name.

    Reference: Selvaraju et al.: Grad-CAM, ICCV 2017.
    """

    def __init__(self, forward_func: nn.Module, layer: nn.Module | str, output: str = "score") -> None:
        super().__init__(forward_func, output)
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
        problem = self._pose(inputs, target, None, internal_batch_size)
        cam = captum.attr.LayerGradCam(
            lambda x, classes=None: select(self.forward_func(x), classes, self.output), self.layer
        )
        maps = []
        for rows in problem.rows(batch_size((inputs,), internal_batch_size)):
            coarse = cam.attribute(
                inputs[rows], additional_forward_args=problem.target_of(rows), relu_attributions=True
            ).detach()
            maps.append(nn.functional.interpolate(coarse, inputs.shape[2:], mode="bilinear"))
        return (torch.cat(maps) / inputs.shape[1]).expand_as(inputs)


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
        problem = self._pose(inputs, target, additional_forward_args, internal_batch_size)
        noise = Noise(seed, len(problem), antithetic)
        scales = [_stdev(stdev, x) for x in problem.inputs]

        def points(rows: Tensor, samples: range) -> tuple[tuple[Tensor, ...], None]:
            return tuple(
                x[rows] + s[rows] * noise.draw(rows, samples, x, i)
                for i, (x, s) in enumerate(zip(problem.inputs, scales, strict=True))
            ), None

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
