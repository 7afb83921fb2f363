"""Normalisation statistics: of the source, of the image, or in between.

Statistics are always taken per sample, so that several views of a case can share one batch
without changing the result: with batch 1, batch statistics and sample statistics are the same.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["mix_statistics", "normalise"]


def mix_statistics(network: nn.Module, image_share: float) -> tuple[str, ...]:
    """Let layers that keep source statistics normalise with a mixture of source and image.

    Works on an episode's private copy: the layers' `forward` is replaced, their parameters,
    buffers and state-dict keys are not.

    Args:
        network: The private copy, in evaluation mode.
        image_share: α in [0, 1]: 0 keeps the source statistics, 1 uses the image's alone.

    Returns:
        Names of the layers whose statistics now depend on the image.
    """
    if image_share == 0:
        return ()
    layers = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, _NormBase) and layer.running_mean is not None
    }
    for layer in layers.values():
        setattr(layer, "forward", partial(_forward, layer, image_share))  # noqa: B010
    return tuple(layers)


def _forward(layer: _NormBase, image_share: float, images: Tensor) -> Tensor:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return normalise(
        images,
        source=(layer.running_mean, layer.running_var),
        affine=(layer.weight, layer.bias),
        image_share=image_share,
        eps=layer.eps,
    )


def normalise(
    images: Tensor,
    *,
    source: tuple[Tensor, Tensor],
    affine: tuple[Tensor | None, Tensor | None],
    image_share: float,
    eps: float,
) -> Tensor:
    """Normalise each sample with interpolated mean and variance.

    Args:
        images: (b, c, *s).
        source: Mean and variance per channel, each (c,).
        affine: Scale and shift per channel, each (c,) or None.
        image_share: α in [0, 1]; μ = (1-α)·μ_source + α·μ_image, and so for the variance.
        eps: Added to the variance.

    Returns:
        (b, c, *s) in the dtype of `images`.

    Source:
        Interpolated statistics as in InTEnt (Dong 2024) and DIGA (Wang 2023); biased variance as
        in batch normalisation.
    """
    spatial = list(range(2, images.ndim))
    values = images.float()
    variance, mean = torch.var_mean(values, spatial, correction=0, keepdim=True)
    axes = (1, -1) + (1,) * len(spatial)
    mean = torch.lerp(source[0].view(axes).float(), mean, image_share)
    variance = torch.lerp(source[1].view(axes).float(), variance, image_share)
    values = (values - mean) * torch.rsqrt(variance + eps)
    scale, shift = affine
    if scale is not None and shift is not None:
        values = values * scale.view(axes) + shift.view(axes)
    return values.to(images.dtype)
