"""Weak views: flips, quarter turns and scales whose effect on a prediction can be undone.

A weak view is named by a string, as recipes write it:

======================  ====================================================================
``identity``            the image itself
``flip:0``              mirrored along spatial axis 0; ``flip:0,1`` along both
``rot90:0,1``           a quarter turn from axis 0 to axis 1; so ``rot180``, ``rot270``
``scale:1.25``          magnified about the centre; ``scale:1.25:0,1`` along these axes only
======================  ====================================================================

Spatial axes are counted from 0, without batch and channel. A view is worth having only if the
network is nearly equivariant to it: `grata_monai.adapt.equivariance` measures that on source cases.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from grata_monai.adapt.mirroring import ANY_MIRRORING, Mirroring
from grata_monai.core.errors import RecipeError
from grata_monai.core.types import Images, Probabilities

__all__ = [
    "Flip",
    "Identity",
    "Rot90",
    "Scale",
    "WeakView",
    "admissible_views",
    "average_views",
    "is_admissible",
    "parse_view",
]

_FORMS = "identity, flip:0, flip:0,1, rot90:0,1, rot180:0,1, rot270:0,1, scale:1.25, scale:1.25:0,1"
_TURNS = {f"{word}{90 * turns}": turns for word in ("rot", "turn") for turns in (1, 2, 3)}
_KINDS = ("identity", "flip", "scale", *_TURNS)
_SPACING_TOLERANCE = 0.01
_LARGEST_SCALE = 10.0

Coverage = Float[Tensor, "1 1 *s"]


@dataclass(frozen=True)
class WeakView(ABC):
    """A change of geometry that leaves the meaning of the image alone and can be undone."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The view as recipes write it."""

    @abstractmethod
    def apply(self, images: Images) -> Tensor:
        """Return the view of images (b, c, *s); the images stay as they are."""

    @abstractmethod
    def invert(self, maps: Probabilities) -> Tensor:
        """Map a prediction (b, k, *s) on the view back onto the grid of the original images."""

    def coverage(
        self, spatial_shape: Sequence[int], device: torch.device | str = "cpu"
    ) -> Coverage:
        """Say where the view saw the image.

        Args:
            spatial_shape: Of the original images, in voxels.
            device: Where the mask shall lie.

        Returns:
            (1, 1, *s), float32: 1 where a mapped-back prediction counts, 0 where it was never seen.
        """
        return torch.ones((1, 1, *spatial_shape), device=device)

    def reason_against(
        self, spatial_shape: Sequence[int], spacing: Sequence[float] | None = None
    ) -> str:
        """Say why the view does not fit images of this shape and spacing (mm); empty if it does."""
        return ""


@dataclass(frozen=True)
class Identity(WeakView):
    """The image itself."""

    @property
    def name(self) -> str:
        """The view as recipes write it."""
        return "identity"

    def apply(self, images: Images) -> Tensor:
        """Return the images."""
        return images

    def invert(self, maps: Probabilities) -> Tensor:
        """Return the prediction."""
        return maps


@dataclass(frozen=True)
class Flip(WeakView):
    """Mirror along spatial axes; undone bit for bit.

    Attributes:
        axes: Spatial axes, counted from 0.
        mirroring: Of the network: which labels have sides.
    """

    axes: tuple[int, ...]
    mirroring: Mirroring = ANY_MIRRORING

    def __post_init__(self) -> None:
        """Check the axes."""
        _check_axes(self.axes)

    @property
    def name(self) -> str:
        """The view as recipes write it."""
        return f"flip:{_join(self.axes)}"

    def apply(self, images: Images) -> Tensor:
        """Mirror the images."""
        return images.flip([axis + 2 for axis in self.axes])

    def invert(self, maps: Probabilities) -> Tensor:
        """Mirror the prediction back; left and right labels change places."""
        return self.mirroring.exchange(self.apply(maps), self.axes)

    def reason_against(
        self, spatial_shape: Sequence[int], spacing: Sequence[float] | None = None
    ) -> str:
        """Refuse images without these axes, and networks that take no such mirror images."""
        return _missing_axis(self.axes, spatial_shape) or self.mirroring.reason_against(self.axes)


@dataclass(frozen=True)
class Rot90(WeakView):
    """Turn by quarters in the plane of two spatial axes; undone bit for bit.

    Attributes:
        turns: Quarter turns, 1 to 3.
        axes: Two spatial axes, the plane; a quarter turn leads from the first axis to the second.
        mirroring: Of the network: a turn in the plane of left and right exchanges them.
    """

    turns: int
    axes: tuple[int, ...]
    mirroring: Mirroring = ANY_MIRRORING

    def __post_init__(self) -> None:
        """Check turns and axes."""
        if self.turns not in (1, 2, 3):
            raise RecipeError(f"turns must be 1, 2 or 3, got {self.turns}. Use one of them.")
        _check_axes(self.axes)
        if len(self.axes) != 2:
            raise RecipeError(
                f"axes must be the two of a plane, got {_join(self.axes)!r}. Write them as '0,1'."
            )

    @property
    def name(self) -> str:
        """The view as recipes write it."""
        return f"turn{90 * self.turns}:{_join(self.axes)}"

    def apply(self, images: Images) -> Tensor:
        """Turn the images; unequal extents change places with odd turns."""
        return images.rot90(self.turns, [axis + 2 for axis in self.axes])

    def invert(self, maps: Probabilities) -> Tensor:
        """Turn the prediction back."""
        return maps.rot90(-self.turns, [axis + 2 for axis in self.axes])

    def reason_against(
        self, spatial_shape: Sequence[int], spacing: Sequence[float] | None = None
    ) -> str:
        """Refuse missing axes, labels with sides and, for odd turns, unequal extents or spacing."""
        refused = _missing_axis(self.axes, spatial_shape)
        refused = refused or self.mirroring.reason_against(turned=self.axes)
        if refused or self.turns == 2:
            return refused
        one, two = self.axes
        if spatial_shape[one] != spatial_shape[two]:
            return f"extents {spatial_shape[one]} and {spatial_shape[two]} of its axes differ"
        if spacing is not None:
            widest = max(spacing[one], spacing[two])
            if abs(spacing[one] - spacing[two]) > _SPACING_TOLERANCE * widest:
                return f"spacings {spacing[one]:g} and {spacing[two]:g} mm of its axes differ"
        return ""


@dataclass(frozen=True)
class Scale(WeakView):
    """Magnify about the centre without changing the tensor's shape; undone up to interpolation.

    Above 1 the outer rim leaves the view, and `coverage` says so; below 1 the border's values
    surround the image. Linear interpolation, as in `torch.nn.functional.grid_sample` with
    ``align_corners=False``.

    Attributes:
        factor: Magnification, from 0.1 to 10, not 1.
        axes: Spatial axes that are magnified; empty for all.
    """

    factor: float
    axes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check factor and axes."""
        if not 1 / _LARGEST_SCALE <= self.factor <= _LARGEST_SCALE or self.factor == 1:
            raise RecipeError(
                f"factor must lie in [0.1, 10] and not be 1, got {self.factor:g}. "
                "Use 'identity' for the image itself."
            )
        if self.axes:
            _check_axes(self.axes)

    @property
    def name(self) -> str:
        """The view as recipes write it."""
        return f"scale:{self.factor:g}" + (f":{_join(self.axes)}" if self.axes else "")

    def apply(self, images: Images) -> Tensor:
        """Magnify the images."""
        return _resample(images, self._factors(images.ndim - 2))

    def invert(self, maps: Probabilities) -> Tensor:
        """Map the prediction back; outside `coverage` it repeats the border of the view."""
        return _resample(maps, [1 / factor for factor in self._factors(maps.ndim - 2)])

    def coverage(
        self, spatial_shape: Sequence[int], device: torch.device | str = "cpu"
    ) -> Coverage:
        """Say where the view saw the image: 1 for voxels whose centre lies inside it."""
        mask = torch.ones((1, 1, *spatial_shape), device=device)
        for axis, factor in enumerate(self._factors(len(spatial_shape))):
            extent = spatial_shape[axis]
            from_centre = (2 * torch.arange(extent, device=device) + 1 - extent).abs()
            is_seen = (from_centre * factor <= extent * (1 + 1e-6)).float()
            mask = mask * is_seen.view([extent if i == axis + 2 else 1 for i in range(mask.ndim)])
        return mask

    def reason_against(
        self, spatial_shape: Sequence[int], spacing: Sequence[float] | None = None
    ) -> str:
        """Refuse images without these axes."""
        return _missing_axis(self.axes, spatial_shape)

    def _factors(self, dims: int) -> list[float]:
        return [self.factor if not self.axes or axis in self.axes else 1.0 for axis in range(dims)]


def parse_view(name: str, mirroring: Mirroring = ANY_MIRRORING) -> WeakView:
    """Build a weak view from its name.

    Args:
        name: As in the table at the top of this module.
        mirroring: Of the network that shall predict it.

    Returns:
        The view.

    Raises:
        RecipeError: If the name is none of these forms, or its axes or factor make no sense.
    """
    kind, *rest = name.split(":")
    try:
        if kind == "identity" and not rest:
            return Identity()
        if kind == "flip" and len(rest) == 1:
            return Flip(_split(rest[0]), mirroring)
        if kind in _TURNS and len(rest) == 1:
            return Rot90(_TURNS[kind], _split(rest[0]), mirroring)
        if kind == "scale" and len(rest) in (1, 2):
            return Scale(float(rest[0]), _split(rest[1]) if len(rest) == 2 else ())
    except ValueError as error:
        raise RecipeError(_describe(name, reason=str(error))) from error
    raise RecipeError(_describe(name))


def is_admissible(
    view: WeakView, *, spatial_shape: Sequence[int], spacing: Sequence[float] | None = None
) -> bool:
    """Whether a view fits images of this shape (voxels) and spacing (mm, if known).

    Odd quarter turns need equal extents and, within 1 %, equal spacing of both axes.
    """
    return not view.reason_against(spatial_shape, spacing)


def admissible_views(
    names: Sequence[str],
    *,
    spatial_shape: Sequence[int],
    spacing: Sequence[float] | None = None,
    mirroring: Mirroring = ANY_MIRRORING,
) -> tuple[list[WeakView], dict[str, str]]:
    """Split views into those that fit images and network, and those that do not.

    Args:
        names: Views by name.
        spatial_shape: Of the images, in voxels.
        spacing: Of the images, in mm per axis, if known.
        mirroring: Of the network that shall predict them.

    Returns:
        The views that fit, in order, or the identity if none does; and of the others, why not.
    """
    kept: list[WeakView] = []
    dropped: dict[str, str] = {}
    for name in names:
        view = parse_view(name, mirroring)
        reason = view.reason_against(spatial_shape, spacing)
        if reason:
            dropped[name] = reason
        else:
            kept.append(view)
    return kept or [Identity()], dropped


def _resample(images: Tensor, factors: Sequence[float]) -> Tensor:
    """Magnify each spatial axis about the centre by its factor."""
    exact = images.to(torch.promote_types(images.dtype, torch.float32))
    # grid_sample counts coordinates from the last axis to the first
    theta = torch.diag(exact.new_tensor([1 / factor for factor in reversed(factors)]))
    theta = functional.pad(theta, (0, 1)).expand(len(images), -1, -1)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    resampled = functional.grid_sample(
        exact, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return resampled.to(images.dtype)


def average_views(
    images: Tensor, views: Sequence[WeakView], predict: Callable[[WeakView], Tensor]
) -> tuple[Tensor, Tensor]:
    """Average predictions on views, each over the voxels that the view saw.

    Args:
        images: (b, c, *s), the images that the views are views of.
        views: At least one.
        predict: A view to the probabilities (b, k, *s) of `images` seen through it.

    Returns:
        Mean probabilities on the grid of `images`, and how many views saw each voxel (1, 1, *s).
    """
    total: Tensor | float = 0.0
    seen: Tensor | float = 0.0
    for view in views:
        coverage = view.coverage(tuple(images.shape[2:]), images.device)
        total = total + coverage * view.invert(predict(view))
        seen = seen + coverage
    counts = torch.as_tensor(seen)
    return torch.as_tensor(total) / counts.clamp_min(1e-6), counts


def _split(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _join(axes: Sequence[int]) -> str:
    return ",".join(str(axis) for axis in axes)


def _check_axes(axes: Sequence[int]) -> None:
    if not axes or len(set(axes)) < len(axes) or not all(0 <= axis <= 2 for axis in axes):
        raise RecipeError(
            f"axes must be different spatial axes out of 0, 1, 2, got {_join(axes)!r}. "
            "Count axes without batch and channel."
        )


def _missing_axis(axes: Sequence[int], spatial_shape: Sequence[int]) -> str:
    missing = [axis for axis in axes if axis >= len(spatial_shape)]
    dims = len(spatial_shape)
    return f"images have {dims} spatial axes, none is number {missing[0]}" if missing else ""


def _describe(name: str, *, reason: str = "") -> str:
    kind, separator, rest = name.partition(":")
    near = difflib.get_close_matches(kind, _KINDS, n=1)
    hint = f" Did you mean {near[0] + separator + rest!r}?" if near and near[0] != kind else ""
    because = f" ({reason})" if reason else ""
    return f"weak view must be of the form {_FORMS}; got {name!r}{because}.{hint}"
