"""Precision of a forward pass: one policy for training, adaptation and prediction."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from grata_monai.core.errors import RecipeError

__all__ = ["PRECISIONS", "AutocastInferer", "autocast", "memory_format", "to_channels_last"]

PRECISIONS: dict[str, torch.dtype | None] = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Run what is inside at a precision, whatever autocast is active outside.

    Args:
        device: Where the tensors live.
        precision: ``fp32``, ``bf16`` or ``fp16``.

    Returns:
        A context manager; ``fp32`` switches an outer autocast off.

    Raises:
        RecipeError: If `precision` is none of these.
    """
    if precision not in PRECISIONS:
        raise RecipeError(
            f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}. "
            "Use 'fp32' if in doubt."
        )
    dtype = PRECISIONS[precision]
    if dtype is None:
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=dtype)


def memory_format(spatial_dims: int) -> torch.memory_format:
    """Name the channels-last layout of images with two or three spatial axes."""
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


def to_channels_last(network: nn.Module) -> nn.Module:
    """Put a network's weights into the channels-last layout, in place.

    Convolutions sum in another order then: the last bits of all results depend on it.

    Args:
        network: Of two or three spatial axes; its largest weight tells.

    Returns:
        The same network.
    """
    spatial_dims = max((p.ndim for p in network.parameters()), default=5) - 2
    return network.to(memory_format=memory_format(spatial_dims))  # type: ignore[call-overload, no-any-return]


class AutocastInferer(Inferer):
    """Run a wrapped inferer under autocast, on any kind of device, and return float32.

    MONAI's own `amp` knows only CUDA; on a CPU with AVX512-BF16, bfloat16 in the channels-last
    layout trains several times faster.

    Args:
        inferer: The inferer that calls the network.
        precision: ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        RecipeError: If `precision` is none of these.
    """

    def __init__(self, inferer: Inferer, precision: str = "bf16") -> None:
        with autocast(torch.device("cpu"), precision):
            self.inferer = inferer
            self.precision = precision

    def __call__(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Predict logits (b, k, *s) from images (b, c, *s) at the chosen precision."""
        images = inputs.contiguous(memory_format=memory_format(inputs.ndim - 2))
        with autocast(inputs.device, self.precision):
            logits: Tensor = self.inferer(images, network, *args, **kwargs)
        return logits.float()
