"""Gradients of two objectives, how well they agree, and the step that follows from it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from grata_monai.core.types import Scalar

__all__ = ["cosine", "gradients", "is_finite", "perturbed", "step_size"]


def gradients(loss: Scalar, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Differentiate a loss; a parameter that the loss does not depend on gets zeros.

    Args:
        loss: The loss.
        parameters: What may move.

    Returns:
        One gradient per parameter, in the parameters' own shapes.
    """
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ]


def cosine(first: Sequence[Tensor], second: Sequence[Tensor]) -> Scalar:
    """Cosine between two gradients over all parameters together.

    Args:
        first: One tensor per parameter.
        second: Tensors of the same shapes.

    Returns:
        Cosine in [-1, 1]; 0 if either gradient is zero.

    Source:
        Chen et al., AAAI 2025; all moving parameters form one vector, as in the authors' code.
    """
    one = torch.cat([gradient.flatten() for gradient in first]).double()
    two = torch.cat([gradient.flatten() for gradient in second]).double()
    return torch.nn.functional.cosine_similarity(one, two, dim=0).clamp(-1, 1)


def step_size(agreement: Scalar, *, base_rate: float) -> Scalar:
    """Scale the learning rate by the agreement of two gradients: η₀·(c + 1)²/4.

    Args:
        agreement: Cosine between auxiliary and pseudo gradient, in [-1, 1].
        base_rate: Rate at full agreement, at least 0; no unit.

    Returns:
        Rate in [0, base_rate].

    Raises:
        ValueError: If `agreement` lies outside [-1, 1].

    Source:
        Chen et al., AAAI 2025, dynamic learning rate; authors' code `custom_activation`.
    """
    if not -1 <= float(agreement) <= 1:
        raise ValueError(
            f"agreement must lie in [-1, 1], got {float(agreement)}. "
            "Pass the cosine of two finite gradients."
        )
    return base_rate * (agreement + 1) ** 2 / 4


@contextmanager
def perturbed(
    parameters: Sequence[nn.Parameter], gradient: Sequence[Tensor], length: float
) -> Iterator[None]:
    """Move parameters to θ − length·g for a while, then back to θ, bit for bit.

    Args:
        parameters: What moves, changed in place.
        gradient: One tensor per parameter.
        length: Step length; 0 leaves everything where it is.
    """
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter, direction in zip(parameters, gradient, strict=True):
                parameter.sub_(direction, alpha=length)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)


def is_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether every value of every tensor is finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
