"""Which weak views a network follows, measured on source cases before any case is adapted.

A weak view is worth having only if the network is nearly equivariant to it: if its prediction on
the view, mapped back, is the one that it makes on the image itself.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from grata_monai.adapt.losses import foreground, probabilities
from grata_monai.adapt.views import parse_view

__all__ = ["admit_views", "foreground_one_hot", "measure_equivariance", "overlap"]


@torch.no_grad()
def measure_equivariance(
    predict: Callable[[Tensor], Tensor],
    images: Iterable[Tensor],
    views: Sequence[str],
    *,
    activation: str,
) -> dict[str, float]:
    """Measure how little a network's prediction depends on the view.

    Meant for source cases, where the network is right: a view that it does not follow there makes
    a bad pseudo-label everywhere.

    Args:
        predict: Images (b, c, *s) to logits (b, k, *s).
        images: Cases, each (b, c, *s).
        views: Views by name.
        activation: ``sigmoid`` or ``softmax``.

    Returns:
        Per view the mean over cases and foreground channels of the Dice overlap, in [0, 1], between
        the label maps of the image and of the view mapped back, where the view saw the image;
        classes absent from both do not count, and two empty maps are equal: 1.

    Raises:
        ValueError: If there is no image.
        RecipeError: If a view's name is wrong.
    """
    parsed = {name: parse_view(name) for name in views}
    scores: dict[str, list[Tensor]] = {name: [] for name in views}
    for case in images:
        plain = foreground_one_hot(probabilities(predict(case), activation), activation)
        for name, view in parsed.items():
            maps = view.invert(probabilities(predict(view.apply(case)), activation))
            seen = view.coverage(case.shape[2:], case.device)
            scores[name].append(overlap(plain * seen, foreground_one_hot(maps, activation) * seen))
    if not all(scores.values()):
        raise ValueError("images must hold at least one case, got none. Pass source cases.")
    return {name: float(torch.cat(values).mean()) for name, values in scores.items()}


def admit_views(equivariance: Mapping[str, float], *, minimum: float) -> tuple[str, ...]:
    """Choose the views that a network follows well enough.

    Args:
        equivariance: Dice per view, as `measure_equivariance` returns it.
        minimum: Least Dice of an admitted view, in [0, 1].

    Returns:
        Names of the admitted views, the identity always first.
    """
    others = (name for name, dice in equivariance.items() if dice >= minimum)
    return ("identity", *(name for name in others if name != "identity"))


def foreground_one_hot(maps: Tensor, activation: str) -> Tensor:
    """Foreground channels of the label map that probabilities mean, as 0 and 1."""
    if activation == "sigmoid":
        return (maps > 0.5).float()
    one_hot = torch.zeros_like(maps).scatter_(1, maps.argmax(1, keepdim=True), 1.0)
    return foreground(one_hot, activation)


def overlap(one: Tensor, two: Tensor) -> Tensor:
    """Dice of each sample, averaged over the channels that either marks, (b,); 1 if none does."""
    common = (one * two).flatten(2).sum(2)
    total = (one + two).flatten(2).sum(2)
    present = (total > 0).sum(1)
    dice = (2 * common / total.clamp_min(1)).sum(1) / present.clamp_min(1)
    return torch.where(present > 0, dice, 1.0)
