"""What several systems share: gradient modes, one step of an optimiser, logits, refusals."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from grata_monai.adapt.alignment import gradients, is_finite
from grata_monai.adapt.parameters import normalisation_layers
from grata_monai.core.errors import AdaptationError
from grata_monai.core.types import Logits, Probabilities, Scalar
from grata_monai.methods.method import Case

__all__ = [
    "batch_norm_layers",
    "descend",
    "gradient_mode",
    "own",
    "predict",
    "refuse_without_batch_norm",
    "refuse_without_normalisation",
    "to_logits",
]


@contextmanager
def gradient_mode(*, is_enabled: bool) -> Iterator[None]:
    """Switch gradients on or off, also for a caller that runs under inference mode.

    Whatever is made inside may outlive the caller's inference mode: states, weights, moments.
    """
    with torch.inference_mode(False), torch.set_grad_enabled(is_enabled):
        yield


def own(images: Tensor) -> Tensor:
    """Take images that autograd may save: cloned if they were made under inference mode."""
    return images.clone() if images.is_inference() else images.detach()


def predict(case: Case, network: nn.Module, images: Tensor | None = None) -> Logits:
    """Predict the whole case, or these images in its place, without gradients.

    Args:
        case: The case, asked for its predictor.
        network: What the predictor calls.
        images: (1, c, *s); the case's own if None.

    Returns:
        Logits (1, k, *s), float32.
    """
    with gradient_mode(is_enabled=False):
        return case.predict(case.images if images is None else images, network).float()


def to_logits(probabilities: Probabilities, activation: str) -> Logits:
    """Write probabilities (b, k, *s) as finite logits that the activation turns back into them."""
    if activation == "sigmoid":
        return torch.logit(probabilities, eps=1e-7)
    return probabilities.clamp_min(1e-7).log()


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
