"""What methods that take gradient steps carry along: a private copy, what moves, an optimiser."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from grata_monai.adapt.alignment import gradients
from grata_monai.adapt.network import copy_network
from grata_monai.adapt.parameters import MovingParameters, resolve_parameters
from grata_monai.adapt.statistics import mix_statistics
from grata_monai.core.types import Scalar
from grata_monai.methods.common import descend, gradient_mode

__all__ = ["SteppingState", "start_stepping"]


@dataclass
class SteppingState:
    """A network that an optimiser moves.

    Attributes:
        network: The private copy, in evaluation mode.
        moving: Its parameters that move.
        optimizer: Moves them.
    """

    network: nn.Module
    moving: MovingParameters
    optimizer: torch.optim.Optimizer

    def descend(self, loss: Scalar) -> None:
        """Take one step down the gradient of a loss; see `grata_monai.methods.common.descend`."""
        descend(loss, self.moving.tensors, self.optimizer)

    def descend_mean(self, losses: Iterable[Scalar]) -> None:
        """Take one step down the mean of losses, each of which is freed before the next is made.

        Args:
            losses: At least one; a generator, for the sake of memory.

        Raises:
            AdaptationError: If a gradient is not finite; nothing has moved then.
        """
        tensors = self.moving.tensors
        found = [gradients(loss, tensors) for loss in losses]
        means = [torch.stack(of_one).mean(0) for of_one in zip(*found, strict=True)]
        # a linear function whose gradient is the mean
        pairs = zip(tensors, means, strict=True)
        self.descend(torch.stack([(tensor * mean).sum() for tensor, mean in pairs]).sum())


def start_stepping(
    network: nn.Module,
    groups: Sequence[str],
    make_optimizer: Callable[[list[nn.Parameter]], Any],
    *,
    image_share: float = 0.0,
) -> SteppingState:
    """Copy a network and put an optimiser over what may move.

    Args:
        network: Stays as it is.
        groups: Names out of `grata_monai.adapt.parameters.PARAMETER_GROUPS`.
        make_optimizer: Parameters to an optimiser.
        image_share: Of the image in BatchNorm's statistics; see `mix_statistics`.

    Returns:
        The state, whose tensors also work for callers under inference mode.
    """
    with gradient_mode(is_enabled=True):
        copied = copy_network(network)
        mix_statistics(copied, image_share)
        moving = resolve_parameters(copied, groups)
        return SteppingState(copied, moving, make_optimizer(moving.tensors))
