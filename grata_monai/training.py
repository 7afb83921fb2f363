"""What the training configuration asks of Python: losses of auxiliary heads, late handlers."""

from collections.abc import Iterable
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import IterationEvents
from monai.utils import CommonKeys
from torch import Tensor, nn

from grata_monai.adapt.heads import HEAD_LOSSES, SupportsAuxiliaryTasks
from grata_monai.core.errors import NetworkError
from grata_monai.core.precision import autocast

__all__ = ["HeadTraining", "attach_handlers"]


class HeadTraining:
    """Handler of a trainer: add the losses of a network's heads to the segmentation loss.

    The heads see the batch of the segmentation, augmented as it is. Rotation needs patches that are
    square in axes 0 and 1.

    Args:
        network: The network that is trained, with heads.
        weight: Of each head's loss; the segmentation loss has 1.
        precision: Of the heads' forward passes: ``fp32`` or ``bf16``.
        seed: Of the generator that draws turns and noise.

    Raises:
        NetworkError: If the network has no heads.
    """

    def __init__(
        self, network: nn.Module, *, weight: float = 0.1, precision: str = "fp32", seed: int = 0
    ) -> None:
        if not isinstance(network, SupportsAuxiliaryTasks):
            raise NetworkError(
                f"network must have heads, got {type(network).__name__}. "
                "Add them with grata_monai.networks.add_heads, or leave this handler out."
            )
        self.network = network
        self.tasks = sorted(network.auxiliary_tasks)
        self.weight = weight
        self.precision = precision
        self._generator = torch.Generator().manual_seed(seed)

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, between its loss and its backward pass."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Add the weighted losses of this iteration's images."""
        output = engine.state.output
        images: Tensor = output[CommonKeys.IMAGE]  # type: ignore[index]
        with autocast(images.device, self.precision):
            losses = [
                HEAD_LOSSES[task](self.network, images, generator=self._generator)
                for task in self.tasks
            ]
        output[CommonKeys.LOSS] = output[CommonKeys.LOSS] + self.weight * sum(losses)  # type: ignore[index]


def attach_handlers(engine: Engine, handlers: Iterable[Any]) -> None:
    """Attach handlers that an engine could not be built with, because they refer to it.

    Args:
        engine: The trainer, built.
        handlers: Each with a method `attach`.
    """
    for handler in handlers:
        handler.attach(engine)
