"""Multi-scale prediction: the organ cut out at several magnifications, predicted, and averaged.

A network trained in one hospital has learnt how large an organ looks there. Where it looks larger
or smaller, or lies at the edge of a patch, the mask suffers. So the organ is located once, cut out
at several magnifications, and predicted at each; the predictions are mapped back and averaged. Each
magnification is weighted by its consistency: how well its mirrored predictions overlap, and how
well it overlaps with the next smaller and the next larger one. No label is needed.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from monai.transforms.utils import get_largest_connected_component_mask
from torch import Tensor
from torch.nn import functional

from grata_monai.adapt.equivariance import foreground_one_hot, overlap
from grata_monai.adapt.patches import PatchPlan
from grata_monai.adapt.views import Identity, Scale, WeakView, parse_view
from grata_monai.core.errors import RecipeError
from grata_monai.core.types import Images, Probabilities

__all__ = [
    "MultiscalePrediction",
    "OrganLocation",
    "ZoomedRoi",
    "consistency_scores",
    "locate_organ",
    "plan_rois",
    "predict_rois",
    "read_zoom",
    "weigh",
]

MARGIN = 1.2
"""A region is so much wider than the organ."""


@dataclass(frozen=True)
class OrganLocation:
    """Where the organ lies in the image.

    Attributes:
        centre: Centre of mass, in voxels per spatial axis.
        extent: Size of the bounding box, in voxels.
    """

    centre: tuple[float, ...]
    extent: tuple[int, ...]


@dataclass(frozen=True)
class ZoomedRoi:
    """A magnified region of an image, and the way back.

    Attributes:
        name: The view as recipes write it.
        centre: Of the region, in voxels of the image.
        factors: Magnification per axis.
        size: Of the region, in magnified voxels.
        is_constant: Whether zeros, not the border's values, lie outside the image.
    """

    name: str
    centre: tuple[float, ...]
    factors: tuple[float, ...]
    size: tuple[int, ...]
    is_constant: bool = True

    def apply(self, images: Images) -> Tensor:
        """Cut the region out of images (b, c, *s) by linear interpolation, (b, c, *size)."""
        scales, offsets = [], []
        for n, centre, factor, r in zip(
            images.shape[2:], self.centre, self.factors, self.size, strict=True
        ):
            scales.append(r / (n * factor))
            offsets.append((2 * centre + 1) / n - 1)
        return _sample(images, scales, offsets, self.size, is_constant=self.is_constant)

    def invert(self, maps: Probabilities, spatial_shape: Sequence[int]) -> Tensor:
        """Map a prediction (b, k, *size) back onto the image's grid; see `coverage` for where."""
        scales, offsets = [], []
        for n, centre, factor, r in zip(
            spatial_shape, self.centre, self.factors, self.size, strict=True
        ):
            scales.append(factor * n / r)
            offsets.append((n - 1 - 2 * centre) * factor / r)
        return _sample(maps, scales, offsets, spatial_shape, is_constant=False)

    def coverage(self, spatial_shape: Sequence[int], device: torch.device | str) -> Tensor:
        """Say where the region saw the image: (1, 1, *s), 1 or 0."""
        mask = torch.ones((1, 1, *spatial_shape), device=device)
        for axis, (n, centre, factor, r) in enumerate(
            zip(spatial_shape, self.centre, self.factors, self.size, strict=True)
        ):
            from_centre = (torch.arange(n, device=device) - centre).abs() * factor
            is_seen = (from_centre <= r / 2 * (1 + 1e-6)).float()
            mask = mask * is_seen.view([n if i == axis + 2 else 1 for i in range(mask.ndim)])
        return mask


@dataclass(frozen=True)
class MultiscalePrediction:
    """Predictions of the organ at several magnifications, averaged with weights.

    Attributes:
        maps: Mean probabilities (1, k, *s); 0 where no region saw the image.
        seen: (1, 1, *s), 1 where at least one region did.
        scores: Per magnification the consistency of its mirrored predictions and the consistency
            with its neighbours, each in [0, 1].
        weights: Per magnification, of sum 1.
        marked: uint8 (1, 1, *s); bit k is set where magnification k, of the first eight, marks
            foreground. For a reader's eyes; None if nobody gathered it.
    """

    maps: Tensor
    seen: Tensor
    scores: tuple[tuple[float, float], ...]
    weights: tuple[float, ...]
    marked: Tensor | None = None

    @property
    def consistency(self) -> float:
        """Weighted mean of all scores."""
        return sum(w * (a + b) / 2 for w, (a, b) in zip(self.weights, self.scores, strict=True))

    @property
    def mirrored(self) -> float:
        """Mean consistency of mirrored predictions under the weights."""
        return sum(w * a for w, (a, _) in zip(self.weights, self.scores, strict=True))

    def neighbours(self, weights: Sequence[float]) -> float:
        """Mean consistency of neighbouring magnifications under given weights."""
        return sum(w * b for w, (_, b) in zip(weights, self.scores, strict=True))


def read_zoom(name: str, dims: int) -> tuple[float, ...]:
    """Turn ``identity``, ``scale:1.33`` or ``scale:1.33:0,1`` into a factor per axis.

    Raises:
        RecipeError: If the name is another view, or names an axis that does not exist.
    """
    view = parse_view(name)
    if isinstance(view, Identity):
        return (1.0,) * dims
    if not isinstance(view, Scale):
        raise RecipeError(
            f"focus_views must be identity or scales, got {name!r}. "
            "Mirrored predictions come from prediction_views."
        )
    missing = [axis for axis in view.axes if axis >= dims]
    if missing:
        raise RecipeError(
            f"focus_views must name axes of the image, {name!r} names {missing[0]} of {dims}."
        )
    return tuple(view.factor if not view.axes or axis in view.axes else 1.0 for axis in range(dims))


def locate_organ(maps: Probabilities, activation: str) -> OrganLocation | None:
    """Find the largest connected piece of foreground.

    Args:
        maps: Probabilities (1, k, *s).
        activation: ``sigmoid`` or ``softmax``.

    Returns:
        Where it lies; None if there is no foreground.
    """
    mask = foreground_one_hot(maps, activation).amax(1)[0]
    if not bool(mask.any()):
        return None
    largest = torch.as_tensor(get_largest_connected_component_mask(mask)) > 0
    voxels = largest.nonzero().double()
    extent = voxels.amax(0) - voxels.amin(0) + 1
    return OrganLocation(tuple(voxels.mean(0).tolist()), tuple(int(n) for n in extent))


def plan_rois(
    names: Sequence[str], location: OrganLocation, plan: PatchPlan, spatial_shape: Sequence[int]
) -> tuple[list[ZoomedRoi], dict[str, str]]:
    """Lay a region about the organ for every magnification.

    Args:
        names: Views by name: ``identity`` or scales.
        location: Of the organ.
        plan: The inferer's patch. Along an axis that a 2D network does not see, the region is the
            whole image and nothing is magnified.
        spatial_shape: Of the image, in voxels.

    Returns:
        The regions, from the smallest magnification to the largest, and the views left out, with
        the reason: an organ that does not fit into a patch once it is magnified.
    """
    kept: list[ZoomedRoi] = []
    dropped: dict[str, str] = {}
    for name in names:
        factors = list(read_zoom(name, len(spatial_shape)))
        centre, size = list(location.centre), list(plan.roi_size)
        if plan.slice_axis is not None:
            factors[plan.slice_axis] = 1.0
            centre[plan.slice_axis] = (spatial_shape[plan.slice_axis] - 1) / 2
            size[plan.slice_axis] = spatial_shape[plan.slice_axis]
        wanted = [math.ceil(MARGIN * e * f) for e, f in zip(location.extent, factors, strict=True)]
        if plan.slice_axis is not None:
            wanted[plan.slice_axis] = size[plan.slice_axis]
        too_large = [w > s and f > 1 for w, s, f in zip(wanted, size, factors, strict=True)]
        if any(too_large):
            dropped[name] = "the organ does not fit into the window so magnified"
            continue
        # a magnification below 1 may need a region beyond roi_size, but none beyond the image
        most = [math.ceil(n * f) for n, f in zip(spatial_shape, factors, strict=True)]
        size = [max(s, min(w, m)) for w, s, m in zip(wanted, size, most, strict=True)]
        kept.append(
            ZoomedRoi(
                name, tuple(centre), tuple(factors), tuple(size), plan.padding_mode == "constant"
            )
        )
    return sorted(kept, key=lambda roi: math.prod(roi.factors)), dropped


def predict_rois(
    images: Images,
    rois: Sequence[ZoomedRoi],
    views: Sequence[WeakView],
    predict: Callable[[Tensor], Tensor],
    *,
    activation: str,
    sharpness: float,
) -> MultiscalePrediction:
    """Predict every region, mirrored and not, and average with weights by consistency.

    Args:
        images: (1, c, *s).
        rois: Of `plan_rois`, at least one.
        views: Flips or turns, the identity first, that fit the regions.
        predict: A region (1, c, *size) to probabilities (1, k, *size).
        activation: ``sigmoid`` or ``softmax``.
        sharpness: How much consistency counts; 0 weighs all magnifications alike.

    Returns:
        Predictions on the image's grid.
    """
    shape = tuple(images.shape[2:])
    box = _surround(rois, shape)
    where = (slice(None), slice(None), *box)
    start = [part.start for part in box]
    size = [part.stop - part.start for part in box]
    scores_own, means, coverages = [], [], []
    for roi in rois:
        centre = tuple(c - s for c, s in zip(roi.centre, start, strict=True))
        inside = replace(roi, centre=centre)
        cut = roi.apply(images)
        total, marked_by = None, []
        for view in views:  # summed as they are made: never are there copies of all of them
            part = inside.invert(view.invert(predict(view.apply(cut))), size)
            marked_by.append(_mark(part, activation))
            total = part if total is None else total.add_(part)
            del part
        assert total is not None
        scores_own.append(_score_own(marked_by))
        means.append(total.div_(len(views)))
        coverages.append(inside.coverage(size, images.device))
    masks = [_mark(mean, activation) for mean in means]
    scores = list(zip(scores_own, _score_neighbours(masks, coverages), strict=True))
    weights = weigh(scores, sharpness)
    mean = weights[0] * coverages[0] * means.pop(0)
    for weight, seen in zip(weights[1:], coverages[1:], strict=True):
        mean += weight * seen * means.pop(0)
    share = torch.as_tensor(sum(w * seen for w, seen in zip(weights, coverages, strict=True)))
    mean /= share.clamp_min(1e-6)
    result = mean.new_zeros((1, mean.shape[1], *shape))
    result[where] = mean
    seen = mean.new_zeros((1, 1, *shape))
    seen[where] = (share > 0).float()
    marked = torch.zeros_like(seen, dtype=torch.uint8)
    marked[where] = _pack(masks)
    return MultiscalePrediction(result, seen, tuple(scores), tuple(weights), marked)


def _pack(masks: Sequence[Tensor]) -> Tensor:
    """Say in one bit each which of the first eight magnifications mark a voxel."""
    bits = [mask.amax(1, keepdim=True) << k for k, mask in enumerate(masks[:8])]
    return torch.stack(bits).sum(0, dtype=torch.uint8)


def _surround(rois: Sequence[ZoomedRoi], shape: Sequence[int]) -> list[slice]:
    """The smallest part of the image that holds all that the regions see."""
    box = []
    for axis, n in enumerate(shape):
        reach = [(w.centre[axis], w.size[axis] / (2 * w.factors[axis])) for w in rois]
        first = math.floor(min(c - r for c, r in reach))
        last = math.ceil(max(c + r for c, r in reach))
        box.append(slice(max(first, 0), min(last + 1, n)))
    return box


def consistency_scores(
    predictions: Sequence[Sequence[Tensor]], coverages: Sequence[Tensor], activation: str
) -> list[tuple[float, float]]:
    """Score every magnification without a label.

    Args:
        predictions: Per magnification the probabilities (1, k, *s) of its views (mirrored or not),
            mapped back onto the image's grid.
        coverages: Per magnification, (1, 1, *s), where it saw the image.
        activation: ``sigmoid`` or ``softmax``.

    Returns:
        Per magnification two Dice overlaps in [0, 1]: of its first view with its others, 1 if there
        is one alone; and of its mean with the means of its neighbours, where both saw the image, 1
        if there are none. Classes that neither marks do not count.
    """
    own = [_score_own([_mark(view, activation) for view in views]) for views in predictions]
    if len(own) == 1:  # without a neighbour
        return [(own[0], 1.0)]
    means = [_mark(torch.stack(list(views)).mean(0), activation) for views in predictions]
    return list(zip(own, _score_neighbours(means, coverages), strict=True))


def _mark(maps: Tensor, activation: str) -> Tensor:
    """What probabilities mark, one byte a voxel and class."""
    return foreground_one_hot(maps, activation).to(torch.uint8)


def _score_own(masks: Sequence[Tensor]) -> float:
    """Mean Dice of the first view's mask with the others'."""
    return _mean([_dice(masks[0], other) for other in masks[1:]])


def _score_neighbours(masks: Sequence[Tensor], coverages: Sequence[Tensor]) -> list[float]:
    """Per magnification the mean Dice of its mask with its neighbours', where both saw."""
    beside: list[list[float]] = [[] for _ in masks]
    for k, (one, two) in enumerate(itertools.pairwise(masks)):
        seen = (coverages[k] * coverages[k + 1]).to(torch.uint8)
        value = _dice(one * seen, two * seen)
        beside[k].append(value)
        beside[k + 1].append(value)
    return [_mean(values) for values in beside]


def weigh(scores: Sequence[tuple[float, float]], sharpness: float) -> list[float]:
    """Turn scores into weights of sum 1: the softmax of `sharpness` times their means."""
    means = torch.tensor([sum(pair) / 2 for pair in scores], dtype=torch.float64)
    return torch.softmax(sharpness * means, 0).tolist()


def _dice(one: Tensor, two: Tensor) -> float:
    return float(overlap(one, two).mean())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 1.0


def _sample(
    maps: Tensor,
    scales: Sequence[float],
    offsets: Sequence[float],
    size: Sequence[int],
    *,
    is_constant: bool,
) -> Tensor:
    """Interpolate maps where each axis' coordinate is scale · out + offset, both from -1 to 1."""
    exact = maps.to(torch.promote_types(maps.dtype, torch.float32))
    # grid_sample counts coordinates from the last axis to the first
    theta = torch.cat(
        [
            torch.diag(exact.new_tensor(list(reversed(scales)))),
            exact.new_tensor(list(reversed(offsets)))[:, None],
        ],
        1,
    )
    grid = functional.affine_grid(
        theta.expand(len(maps), -1, -1), [*maps.shape[:2], *size], align_corners=False
    )
    padding = "zeros" if is_constant else "border"
    sampled = functional.grid_sample(
        exact, grid, mode="bilinear", padding_mode=padding, align_corners=False
    )
    return sampled.to(maps.dtype)
