"""MedBN: batch normalisation about the median instead of the mean."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from grata_monai.adapt.method import Episode, Method, State
from grata_monai.adapt.network import copy_network
from grata_monai.methods.common import batch_norm_layers, refuse_without_batch_norm

__all__ = ["MedBN"]


@dataclass(frozen=True)
class MedBN(Method):
    """Normalise with the image's median and its mean squared deviation from that median.

    Source:
        Park et al., MedBN: Robust Test-Time Adaptation against Malicious Test Samples, CVPR 2024;
        authors' code github.com/ml-postech/MedBN-robust-test-time-adaptation, `RobustMedBN2d`.
        No hyper-parameter: source statistics have no share.

    Deviations:
        The median is taken over the voxels of one window, the authors' over a batch of 200 images.
        One of the authors' layers (`RBN.find_med_var`) divides the sum of squares by the number of
        images alone; we divide by the number of voxels, as their other layers and the paper do.
    """

    name: ClassVar[str] = "medbn"

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without BatchNorm."""
        return refuse_without_batch_norm(network)

    def start(self, network: nn.Module, episode: Episode) -> State:
        """Copy the network and let the copy's layers use the median."""
        copied = copy_network(network)
        for layer in batch_norm_layers(copied):
            setattr(layer, "forward", partial(_normalise_by_median, layer))  # noqa: B010
        return State(episode=episode, network=copied, is_foreign=True)


def _normalise_by_median(layer: _BatchNorm, images: Tensor) -> Tensor:
    """Normalise each sample of (b, c, *s); of two middle values the lower is the median."""
    axes = (1, -1) + (1,) * (images.ndim - 2)
    values = images.flatten(2).float()
    deviations = values - values.median(2, keepdim=True).values
    variance = deviations.square().mean(2, keepdim=True)
    values = (deviations * torch.rsqrt(variance + layer.eps)).view(images.shape)
    if layer.affine:
        values = values * layer.weight.view(axes) + layer.bias.view(axes)
    return values.to(images.dtype)
