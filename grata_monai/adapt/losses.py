"""Auxiliary and pseudo losses, by the names that recipes use.

An entropy needs nothing but the prediction; a consistency compares it with a pseudo-label; the
loss of a head needs a network that was trained with that head (`grata_monai.adapt.heads`).
Every loss returns a float32 scalar, whatever precision the network ran in.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from grata_monai.adapt.heads import HEAD_LOSSES
from grata_monai.core.types import Logits, Probabilities, Scalar

__all__ = [
    "CONSISTENCIES",
    "ENTROPIES",
    "HEAD_LOSSES",
    "balanced_entropy",
    "consistency",
    "entropy",
    "entropy_half",
    "foreground",
    "probabilities",
    "soft_dice",
    "to_logits",
]

_DICE_EPSILON = 1e-5

Weights = Float[Tensor, "#b 1 *s"]


def probabilities(logits: Logits, activation: str) -> Probabilities:
    """Turn logits into probabilities.

    Args:
        logits: (b, k, *s).
        activation: ``sigmoid``: k independent classes; ``softmax``: k exclusive ones, the first of
            which is background.

    Returns:
        (b, k, *s) in [0, 1], float32.

    Raises:
        ValueError: If the activation is neither, or softmax has a single channel.
    """
    if _is_softmax(logits, activation):
        return logits.float().softmax(1)
    return logits.float().sigmoid()


def foreground(maps: Tensor, activation: str) -> Tensor:
    """Take the channels of (b, k, *s) that are not background: all for sigmoid, 1… for softmax."""
    return maps[:, 1:] if _is_softmax(maps, activation) else maps


def entropy_half(logits: Logits, activation: str) -> Scalar:
    """Mean over cases and voxels of Σ −p·log(p + 1e−6) over the channels.

    With sigmoid this is half of an entropy: it has no (1 − p) term.

    Args:
        logits: (b, k, *s).
        activation: ``sigmoid`` or ``softmax``.

    Returns:
        Loss in nats, at least about 0.

    Source:
        Chen et al., AAAI 2025; authors' code `cal_ent_loss`.
    """
    p = probabilities(logits, activation)
    return -(p * torch.log(p + 1e-6)).sum(1).mean()


def entropy(logits: Logits, activation: str) -> Scalar:
    """Mean over cases and voxels of the whole entropy, summed over independent channels.

    Args:
        logits: (b, k, *s).
        activation: ``sigmoid`` or ``softmax``.

    Returns:
        Loss in nats, in [0, k·log 2] or [0, log k].
    """
    return _entropy_maps(logits, activation).sum(1).mean()


def balanced_entropy(logits: Logits, activation: str) -> Scalar:
    """Entropy averaged within each predicted class, then over the classes that were predicted.

    A small organ weighs as much as the background around it. Voxels of all cases of the batch
    count together; with sigmoid, inside and outside of each channel are the classes, and the
    channels are summed.

    Args:
        logits: (b, k, *s).
        activation: ``sigmoid`` or ``softmax``.

    Returns:
        Loss in nats, on the scale of `entropy`.

    Source:
        Dong et al. 2024 (InTEnt) weigh with this entropy; as a loss it is ours.
    """
    maps = _entropy_maps(logits, activation)
    if _is_softmax(logits, activation):
        classes = torch.zeros_like(maps).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
        return _mean_of_means(maps.sum(1, keepdim=True), classes)
    inside = (logits > 0).float()
    channels = [
        _mean_of_means(maps[:, [i]], torch.stack([inside[:, i], 1 - inside[:, i]], 1))
        for i in range(maps.shape[1])
    ]
    return torch.stack(channels).sum()


def consistency(
    logits: Logits,
    target_probabilities: Probabilities,
    activation: str,
    weights: Weights | None = None,
) -> Scalar:
    """Cross entropy of a prediction against a soft pseudo-label.

    Args:
        logits: (b, k, *s).
        target_probabilities: Pseudo-label, in [0, 1].
        activation: ``sigmoid``: mean over cases, channels and voxels; ``softmax``: over cases and
            voxels.
        weights: Of each voxel, at least 0; None weighs all alike.

    Returns:
        Loss in nats, at least 0; 0 if no voxel has a weight.

    Source:
        Chen et al., AAAI 2025; authors' code `cal_consis_loss` (`BCEWithLogitsLoss`).
    """
    logits, target = logits.float(), target_probabilities.float()
    if _is_softmax(logits, activation):
        maps = -(target * logits.log_softmax(1)).sum(1, keepdim=True)
    else:
        maps = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if weights is None:
        return maps.mean()
    weights = weights.float().expand_as(maps)
    return (maps * weights).sum() / weights.sum().clamp_min(1e-12)


def soft_dice(
    logits: Logits,
    target_probabilities: Probabilities,
    activation: str,
    weights: Weights | None = None,
) -> Scalar:
    """One minus the soft Dice overlap of foreground channels, averaged over channels and cases.

    The denominator sums squares, so that the loss is least where the prediction equals the
    pseudo-label, also a soft one; a denominator of plain sums would sharpen it further.

    Args:
        logits: (b, k, *s).
        target_probabilities: Pseudo-label, in [0, 1].
        activation: ``sigmoid``: every channel is foreground; ``softmax``: all but the first.
        weights: Of each voxel, at least 0; None weighs all alike.

    Returns:
        Loss in [0, 1]; 0 if prediction and pseudo-label are both empty.

    Source:
        Milletari et al. 2016 (V-Net).
    """
    p = foreground(probabilities(logits, activation), activation)
    target = foreground(target_probabilities.float(), activation)
    w = torch.ones_like(p[:, :1]) if weights is None else weights.float()
    common = (w * p * target).flatten(2).sum(2)
    total = (w * (p.square() + target.square())).flatten(2).sum(2)
    return 1 - ((2 * common + _DICE_EPSILON) / (total + _DICE_EPSILON)).mean()


def _consistency_and_soft_dice(
    logits: Logits,
    target_probabilities: Probabilities,
    activation: str,
    weights: Weights | None = None,
) -> Scalar:
    """Sum of `consistency` and `soft_dice`."""
    args = (logits, target_probabilities, activation, weights)
    return consistency(*args) + soft_dice(*args)


ENTROPIES: Mapping[str, Callable[[Tensor, str], Tensor]] = {
    "entropy_half": entropy_half,
    "entropy": entropy,
    "balanced_entropy": balanced_entropy,
}
"""Losses of a prediction alone: ``(logits, activation)``."""

CONSISTENCIES: Mapping[str, Callable[[Tensor, Tensor, str, Tensor | None], Tensor]] = {
    "consistency": consistency,
    "soft_dice": soft_dice,
    "consistency+soft_dice": _consistency_and_soft_dice,
}
"""Losses against a pseudo-label: ``(logits, target_probabilities, activation, weights)``."""


def _is_softmax(maps: Tensor, activation: str) -> bool:
    if activation not in ("sigmoid", "softmax"):
        raise ValueError(
            f"activation must be 'sigmoid' or 'softmax', got {activation!r}. "
            "Name the one that the network was trained with."
        )
    if activation == "softmax" and maps.shape[1] < 2:
        raise ValueError(
            "softmax must have at least 2 output channels, got 1. Use activation='sigmoid'."
        )
    return activation == "softmax"


def _entropy_maps(logits: Tensor, activation: str) -> Tensor:
    """Each channel's share of the entropy, (b, k, *s); finite without epsilon."""
    logits = logits.float()
    if _is_softmax(logits, activation):
        return -logits.softmax(1) * logits.log_softmax(1)
    p = logits.sigmoid()
    return p * functional.softplus(-logits) + (1 - p) * functional.softplus(logits)


def _mean_of_means(maps: Tensor, classes: Tensor) -> Tensor:
    """Mean of (b, 1, *s) within each class of the one-hot (b, n, *s), then over those present."""
    axes = [0, *range(2, maps.ndim)]
    counts = classes.sum(axes)
    means = (maps * classes).sum(axes) / counts.clamp_min(1)
    return means.sum() / (counts > 0).sum()


def to_logits(probabilities: Probabilities, activation: str) -> Logits:
    """Write probabilities (b, k, *s) as finite logits that the activation turns back into them."""
    if activation == "sigmoid":
        return torch.logit(probabilities, eps=1e-7)
    return probabilities.clamp_min(1e-7).log()
