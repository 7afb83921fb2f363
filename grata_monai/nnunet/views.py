"""Turn a recipe's views to the axes of an nnU-Net, and its flips to those that training knew."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from grata_monai.adapt.recipe import Recipe
from grata_monai.adapt.views import Flip, Identity, Rot90, Scale, WeakView, parse_view

__all__ = ["fit_recipe", "network_axes"]

FIELDS = ("weak_views", "prediction_views", "focus_views", "search_views")


def network_axes(transpose_forward: Sequence[int]) -> dict[int, int]:
    """Say where the axes x, y, z of an image file lie in what the network sees.

    nnU-Net reads images as (z, y, x), and its plans may then exchange axes.

    Args:
        transpose_forward: Of the plans.

    Returns:
        Axis of the file to axis of the network, both counted from 0.

    >>> network_axes([0, 1, 2])
    {0: 2, 1: 1, 2: 0}
    """
    return {axis: list(transpose_forward).index(2 - axis) for axis in range(3)}


def fit_recipe(
    recipe: Recipe, axes: Mapping[int, int], mirroring: Sequence[int] | None, dims: int = 3
) -> Recipe:
    """Make the recipe that does to the network's images what it says of a file's x, y and z.

    A flip along an axis that training did not mirror becomes one along the first axis that it did;
    where it mirrored none, the flip stays, and the inferer leaves it out with the reason.

    Args:
        recipe: With views along the axes of the image file: x, y, z are 0, 1, 2.
        axes: By `network_axes`.
        mirroring: Axes of the network that training mirrored; of a 2D network counted in its plane.
        dims: Spatial axes of the network: 2 sees the last two of (slice, row, column).

    Returns:
        The recipe, whose views go by the network's axes.
    """
    allowed = [axis + 3 - dims for axis in mirroring or ()]
    settings = recipe.to_dict()
    changes: dict[str, Any] = {}
    for name in FIELDS:
        turned = (_turn(parse_view(view), axes, allowed).name for view in settings[name])
        changes[name] = tuple(dict.fromkeys(turned))
    return recipe.changed(**changes)


def _turn(view: WeakView, axes: Mapping[int, int], allowed: Sequence[int]) -> WeakView:
    if isinstance(view, Identity):
        return view
    assert isinstance(view, Flip | Rot90 | Scale)
    found = tuple(axes[axis] for axis in view.axes)
    turned = replace(view, axes=found if isinstance(view, Rot90) else tuple(sorted(found)))
    if isinstance(turned, Flip) and allowed and not set(turned.axes) <= set(allowed):
        return replace(turned, axes=(allowed[0],))
    return turned
