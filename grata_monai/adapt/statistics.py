"""Normalisation statistics: of the source, of the image, or in between.

Statistics are always taken per sample, so that several views of a case can share one batch
without changing the result: with batch 1, batch statistics and sample statistics are the same.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["layers_with_statistics", "mix_statistics", "normalise", "sample_moments"]


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
    layers = layers_with_statistics(network)
    for layer in layers.values():
        setattr(layer, "forward", partial(_forward, layer, image_share))  # noqa: B010
    return tuple(layers)


def layers_with_statistics(network: nn.Module) -> dict[str, _NormBase]:
    """List the layers that normalise with statistics of their training, by name."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, _NormBase) and layer.running_mean is not None
    }


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
    axes = (1, -1) + (1,) * (images.ndim - 2)
    values, mean, variance = sample_moments(images)
    origin, spread = (value.to(mean) for value in source)
    offset = (1 - image_share) * (mean - origin)
    variance = torch.lerp(spread.expand_as(variance), variance, image_share)
    scale = torch.rsqrt(variance + eps)
    if affine[0] is not None and affine[1] is not None:
        scale = scale * affine[0].to(mean)
        shift = affine[1].to(mean) + offset * scale
    else:
        shift = offset * scale
    shape = scale.shape + axes[2:]
    return torch.addcmul(shift.view(shape), values, scale.view(shape)).to(images.dtype)


def sample_moments(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre every channel of every sample; several times as fast on a CPU as `torch.var_mean`.

    Args:
        images: (b, c, *s).

    Returns:
        Values less their mean (b, c, *s), the mean, and the biased variance, each (b, c); float32,
        or float64 as the images.
    """
    mean = images.flatten(2).mean(-1, dtype=torch.promote_types(images.dtype, torch.float32))
    values = images - mean.view(*mean.shape, *(1,) * (images.ndim - 2))
    flat = values.flatten(2)
    variance = torch.linalg.vector_norm(flat, dim=-1).square() / flat.shape[-1]
    return values, mean, variance
