"""The signs of one prediction that need no label: what its quality is predicted from."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from grata_monai.adapt.equivariance import foreground_one_hot, overlap
from grata_monai.adapt.organ import OrganProfile, Plausibility, describe_organ
from grata_monai.adapt.profile import Shift, SourceProfile
from grata_monai.adapt.shape import describe_outline
from grata_monai.core.types import Images, Probabilities

__all__ = ["excess_distance", "judge_organ", "mark_organ", "measure_entropy", "measure_signs"]

_ODDEST = 3.0  # e³ times as odd as source labels, or empty


def measure_signs(  # noqa: PLR0913  # each is a part of the case
    maps: Probabilities,
    source: Probabilities | None,
    *,
    images: Images,
    spacing: tuple[float, ...] | None,
    activation: str,
    profile: SourceProfile,
    shift: Shift,
    consistency: float | None = None,
) -> dict[str, float]:
    """Measure what speaks against a prediction; every sign is at least 0.

    Args:
        maps: The prediction, probabilities (1, k, *s).
        source: The source network's; None if `maps` are these.
        images: (1, c, *s).
        spacing: In mm per axis; None counts voxels.
        activation: ``sigmoid`` or ``softmax``.
        profile: Of the source cases.
        shift: Of the case.
        consistency: Of the magnified views, in [0, 1]; None for a prediction without them.

    Returns:
        ``shift``, ``organ`` and ``shape``: logarithm of the distance over the median of source
        cases; ``entropy`` inside the mask, 1 is the most; ``disagreement`` and ``change``: 1 minus
        a Dice. ``organ`` and ``shape`` are missing without labelled source cases, ``disagreement``
        without magnified views, ``change`` of the source network's own prediction.
    """
    signs = {
        "shift": excess_distance(shift.distance, profile.distances),
        "entropy": measure_entropy(maps, activation),
    }
    if profile.organ is not None:
        found = judge_organ(
            maps, profile.organ, images=images, spacing=spacing, activation=activation
        )
        distance = math.inf if found is None else found.distance
        signs["organ"] = min(excess_distance(distance, profile.organ.distances), _ODDEST)
    if profile.shape is not None:
        outline = describe_outline(mark_organ(maps, activation))
        distance = math.inf if outline is None else profile.shape.distance(outline)
        signs["shape"] = min(excess_distance(distance, profile.shape.distances), _ODDEST)
    if consistency is not None:
        signs["disagreement"] = 1 - min(consistency, 1.0)
    if source is not None:
        masks = [foreground_one_hot(m, activation).amax(1, keepdim=True) for m in (maps, source)]
        signs["change"] = 1 - float(overlap(*masks).mean())
    return {name: round(value, 6) for name, value in signs.items()}


def judge_organ(
    maps: Probabilities,
    known: OrganProfile,
    *,
    images: Images,
    spacing: tuple[float, ...] | None,
    activation: str,
) -> Plausibility | None:
    """Say how well a prediction fits the organ of source cases; None if it marks nothing.

    Args:
        maps: Probabilities (1, k, *s); all classes together are the organ.
        known: Of the source labels.
        images: (1, c, *s).
        spacing: In mm per axis; None counts voxels.
        activation: ``sigmoid`` or ``softmax``.
    """
    mask = mark_organ(maps, activation)
    image = images[0, 0].float().cpu().numpy()
    found = describe_organ(mask, image, spacing or (1.0,) * mask.ndim)
    return None if found is None else known.judge(found)


def mark_organ(maps: Probabilities, activation: str) -> NDArray[np.bool_]:
    """The mask (*s) of all classes together in probabilities (1, k, *s)."""
    return np.asarray((foreground_one_hot(maps, activation).amax(1)[0] > 0).cpu())


def excess_distance(distance: float, known: tuple[float, ...]) -> float:
    """Logarithm of a distance over the median of source cases, at least 0."""
    return max(math.log(max(distance, 1e-6) / max(float(np.median(known)), 1e-6)), 0.0)


def measure_entropy(maps: Probabilities, activation: str) -> float:
    """Mean entropy of the voxels in the mask over the largest possible one; 1 if it is empty.

    Args:
        maps: (1, k, *s).
        activation: ``sigmoid``: of every class alone, averaged; ``softmax``: of all together.

    Returns:
        In [0, 1].
    """
    inside = foreground_one_hot(maps, activation).amax(1) > 0
    if not bool(inside.any()):
        return 1.0
    chosen = maps.movedim(1, -1)[inside]
    if activation == "sigmoid":
        chosen = torch.stack([chosen, 1 - chosen], 1).movedim(2, 1)
    else:
        chosen = chosen[:, None]
    entropy = torch.special.entr(chosen).sum(2) / math.log(chosen.shape[2])
    return min(float(entropy.mean()), 1.0)
