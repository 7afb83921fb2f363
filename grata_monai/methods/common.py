"""What several methods share: a step, batch statistics, why a network is not supported."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from grata_monai.adapt.alignment import gradients, is_finite
from grata_monai.adapt.parameters import normalisation_layers
from grata_monai.core.errors import AdaptationError
from grata_monai.core.types import Scalar

__all__ = [
    "batch_norm_layers",
    "batch_statistics",
    "descend",
    "refuse_without_batch_norm",
    "refuse_without_normalisation",
]


def descend(
    loss: Scalar, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Take one step of an optimiser down the gradient of a loss.

    Args:
        loss: Depends on the parameters.
        parameters: What the optimiser moves.
        optimizer: Keeps its moments.

    Raises:
        AdaptationError: If loss or gradient is not finite; nothing has moved then.
    """
    found = gradients(loss, parameters)
    if not is_finite([loss, *found]):
        raise AdaptationError(
            "losses and gradients must be finite, got NaN or infinity. "
            "Use a smaller rate, or leave the method out for this network."
        )
    for parameter, gradient in zip(parameters, found, strict=True):
        parameter.grad = gradient
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def batch_norm_layers(network: nn.Module) -> list[_BatchNorm]:
    """List the batch-normalisation layers that keep statistics of the source."""
    return [
        layer
        for layer in network.modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    ]


@contextmanager
def batch_statistics(network: nn.Module, *, is_kept: bool) -> Iterator[None]:
    """Let batch normalisation use the statistics of whatever batch comes, as in training.

    Args:
        network: A private copy, in evaluation mode, which it is in again afterwards.
        is_kept: Whether the running statistics follow each batch, by the layers' momentum.
    """
    layers = batch_norm_layers(network)
    try:
        for layer in layers:
            layer.train()
            layer.track_running_stats = is_kept
        yield
    finally:
        for layer in layers:
            layer.eval()
            layer.track_running_stats = True


def refuse_without_batch_norm(network: nn.Module) -> str:
    """Say that there are no source statistics to replace; empty if there are."""
    if batch_norm_layers(network):
        return ""
    return (
        f"{type(network).__name__} has no BatchNorm layer with running statistics, "
        "which is all that the method changes."
    )


def refuse_without_normalisation(network: nn.Module) -> str:
    """Say that there is no normalisation layer; empty if there is one."""
    if normalisation_layers(network):
        return ""
    return f"{type(network).__name__} has no normalisation layer whose scale and shift could move."
