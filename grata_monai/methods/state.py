"""What methods that take gradient steps carry along: a private copy, what moves, an optimiser."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import nn

from grata_monai.adapt.alignment import gradients
from grata_monai.adapt.method import Episode, State, Step
from grata_monai.adapt.network import copy_network
from grata_monai.adapt.parameters import MovingParameters, resolve_parameters
from grata_monai.adapt.statistics import mix_statistics
from grata_monai.core.types import Scalar
from grata_monai.methods.common import descend

__all__ = ["SteppingState", "start_stepping"]


@dataclass(kw_only=True)
class SteppingState(State):
    """A network that an optimiser moves.

    Attributes:
        moving: Parameters of the private copy that move.
        optimizer: Moves them.
    """

    moving: MovingParameters
    optimizer: torch.optim.Optimizer

    def descend(self, loss: Scalar) -> Step:
        """Take one step down the gradient of a loss; see `grata_monai.methods.common.descend`."""
        descend(loss, self.moving.tensors, self.optimizer)
        return Step(loss=float(loss.detach()), rate=float(self.optimizer.param_groups[0]["lr"]))

    def descend_mean(self, losses: Iterable[Scalar]) -> Step:
        """Take one step down the mean of losses, each of which is freed before the next is made.

        Args:
            losses: At least one; a generator, for the sake of memory.

        Returns:
            With the mean of the losses.

        Raises:
            AdaptationError: If a gradient is not finite; nothing has moved then.
        """
        tensors = self.moving.tensors
        found, values = [], []
        for loss in losses:
            found.append(gradients(loss, tensors))
            values.append(float(loss.detach()))
        means = [torch.stack(of_one).mean(0) for of_one in zip(*found, strict=True)]
        # a linear function whose gradient is the mean
        pairs = zip(tensors, means, strict=True)
        linear = torch.stack([(tensor * mean).sum() for tensor, mean in pairs]).sum()
        return replace(self.descend(linear), loss=fmean(values))


def start_stepping(
    network: nn.Module,
    episode: Episode,
    groups: Sequence[str],
    make_optimizer: Callable[[list[nn.Parameter]], Any],
    *,
    image_share: float = 0.0,
) -> SteppingState:
    """Copy a network and put an optimiser over what may move.

    Args:
        network: Stays as it is.
        episode: The case at hand.
        groups: Names out of `grata_monai.adapt.parameters.PARAMETER_GROUPS`.
        make_optimizer: Parameters to an optimiser.
        image_share: Of the image in BatchNorm's statistics; see `mix_statistics`.

    Returns:
        The state.
    """
    copied = copy_network(network)
    statistics = mix_statistics(copied, image_share)
    moving = resolve_parameters(copied, groups)
    return SteppingState(
        episode=episode,
        network=copied,
        moving=moving,
        image_statistics=statistics,
        is_foreign=bool(statistics),
        optimizer=make_optimizer(moving.tensors),
    )
