"""What a network says of mirror images: which it takes, and which of its labels have sides."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from grata_monai.core.errors import RecipeError

__all__ = ["ANY_MIRRORING", "Mirroring"]


@dataclass(frozen=True)
class Mirroring:
    """Which mirrored views a network takes, and how their predictions are mapped back.

    Attributes:
        axes: Spatial axes along which it may be shown mirror images, counted from 0; None for all.
            A network that was trained without any takes none: ``()``.
        pairs: Output channels of left and right parts, such as both kidneys: they change places
            where a view is mirrored along `side_axis`. Leave it empty for a network that was
            trained on mirrored images whose labels were not exchanged.
        side_axis: The axis from left to right; 0 of images that are oriented to RAS or LPS.

    Raises:
        RecipeError: If an axis or a pair makes no sense.
    """

    axes: tuple[int, ...] | None = None
    pairs: tuple[tuple[int, int], ...] = ()
    side_axis: int = 0

    def __post_init__(self) -> None:
        """Check axes and pairs."""
        wrong = [axis for axis in (*(self.axes or ()), self.side_axis) if axis not in (0, 1, 2)]
        if wrong:
            raise RecipeError(
                f"axes of mirroring must be 0, 1 or 2, got {wrong[0]!r}. Count spatial axes only."
            )
        channels = [channel for pair in self.pairs for channel in pair]
        if len(set(channels)) < len(channels) or min(channels, default=0) < 0:
            raise RecipeError(
                f"pairs of mirroring must name each channel once, counted from 0, got {self.pairs}."
            )

    @classmethod
    def resolve(cls, given: Any) -> "Mirroring":
        """Take what a configuration may hold: nothing, a mapping, or the value itself.

        Raises:
            RecipeError: If a name is unknown, or a value makes no sense.
        """
        if isinstance(given, cls):
            return given
        names = [field.name for field in fields(cls)]
        if unknown := [name for name in given or {} if name not in names]:
            raise RecipeError(
                f"mirroring must have the keys {', '.join(names)}, got {unknown[0]!r}."
            )
        values = dict(given or {})
        try:
            if values.get("axes") is not None:
                values["axes"] = tuple(int(axis) for axis in values["axes"])
            values["pairs"] = tuple((int(a), int(b)) for a, b in values.get("pairs", ()))
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"mirroring must be as {{'axes': [0], 'pairs': [[1, 2]]}}, got {given!r}: {error}"
            ) from error
        return cls(**values)

    def reason_against(self, mirrored: Sequence[int] = (), turned: Sequence[int] = ()) -> str:
        """Say why the network takes no view that is mirrored or turned so; empty if it does.

        Args:
            mirrored: Axes along which the view is mirrored.
            turned: Axes of the plane in which it is turned.
        """
        refused = [a for a in mirrored if self.axes is not None and a not in self.axes]
        if refused:
            return f"the network takes no images mirrored along axis {refused[0]}"
        if self.pairs and self.side_axis in turned:
            return "it would turn left into right, which the network tells apart"
        return ""

    def exchange(self, maps: Tensor, mirrored: Sequence[int]) -> Tensor:
        """Let left and right channels of (b, k, *s) change places, if the view exchanged them.

        Raises:
            RecipeError: If the network has no such channel.
        """
        if not self.pairs or self.side_axis not in mirrored:
            return maps
        order = list(range(maps.shape[1]))
        for one, two in self.pairs:
            if max(one, two) >= len(order):
                raise RecipeError(
                    f"pairs of mirroring must name output channels, got {max(one, two)} of "
                    f"{len(order)}. Count channels from 0, background included."
                )
            order[one], order[two] = two, one
        return maps[:, order]


ANY_MIRRORING = Mirroring()
"""Of a network that takes any mirror image and whose labels have no sides."""
