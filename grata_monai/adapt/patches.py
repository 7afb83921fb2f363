"""Where in a volume to adapt: a few patches of the size that the network was trained on.

Arbitrary crops break skip connections, and whole volumes cost time and memory without bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import Inferer, SliceInferer
from monai.utils import fall_back_tuple
from torch import Tensor
from torch.nn import functional

from grata_monai.core.types import Windows

__all__ = [
    "PatchPlan",
    "Patches",
    "choose_patches",
    "cut_patches",
    "extract_patches",
    "plan_patches",
]


@dataclass(frozen=True)
class PatchPlan:
    """How an inferer cuts a volume.

    Attributes:
        roi_size: Patch in voxels, one entry per spatial axis of the volume.
        slice_axis: The axis that a 2D network does not see, or None.
        padding_mode: As in `torch.nn.functional.pad`.
        cval: Fill value of constant padding.
    """

    roi_size: tuple[int, ...]
    slice_axis: int | None = None
    padding_mode: str = "constant"
    cval: float = 0.0


@dataclass(frozen=True)
class Patches:
    """What a method adapts to: parts of the case, of the size that the network was trained on.

    Attributes:
        images: (n, c, *roi_size), without the axis that a 2D network does not see.
        extents: (n, d, 2), where each patch lies in the image, from -1 to 1.
        starts: First voxel of each patch.
        roi_size: Of a patch, in voxels.
    """

    images: Windows
    extents: Tensor
    starts: tuple[tuple[int, ...], ...] = ()
    roi_size: tuple[int, ...] = ()


def plan_patches(inferer: Inferer, spatial_shape: Sequence[int]) -> PatchPlan:
    """Read the patch size off an inferer; the whole image if it has none."""
    roi_size = getattr(inferer, "roi_size", None)
    if roi_size is None:
        return PatchPlan(tuple(spatial_shape))
    axis = None
    if isinstance(inferer, SliceInferer):
        axis, roi_size = inferer.spatial_dim, list(inferer.orig_roi_size)
        roi_size.insert(axis, 1)
    return PatchPlan(
        roi_size=tuple(fall_back_tuple(roi_size, spatial_shape)),
        slice_axis=axis,
        padding_mode=str(getattr(inferer, "padding_mode", "constant")),
        cval=float(getattr(inferer, "cval", 0.0)),
    )


def cut_patches(
    images: Tensor, maps: Tensor, plan: PatchPlan, *, count: int, rule: str, activation: str
) -> Patches:
    """Cut the patches that promise most out of one image.

    Args:
        images: (1, c, *s).
        maps: Probabilities (1, k, *s) of the image.
        plan: Patch size and padding.
        count: Most patches.
        rule: ``foreground`` or ``uncertainty``, as of `choose_patches`.
        activation: ``sigmoid`` or ``softmax``.

    Returns:
        At least one patch.
    """
    is_softmax = activation == "softmax"
    starts = choose_patches(maps, plan, count=count, rule=rule, is_softmax=is_softmax)
    cut, extents = extract_patches(images, starts, plan)
    return Patches(cut, extents, starts, plan.roi_size)


def choose_patches(
    probabilities: Tensor, plan: PatchPlan, *, count: int, rule: str, is_softmax: bool
) -> tuple[tuple[int, ...], ...]:
    """Choose the patches that promise most: foreground first, or uncertainty first.

    Args:
        probabilities: (1, k, *s) of the first pass.
        plan: Patch size.
        count: Most patches to return.
        rule: ``foreground`` or ``uncertainty``; a case without foreground goes by uncertainty.
        is_softmax: Whether channel 0 is background.

    Returns:
        First voxel of each patch, best first; patches do not share their best voxels.
    """
    foreground = probabilities[:, 1:] if is_softmax else probabilities
    uncertainty = -(probabilities * probabilities.clamp_min(1e-6).log()).sum(1)[0]
    score = foreground.amax(1)[0].clone()
    if rule == "uncertainty" or not bool((score > 0.5).any()):
        score = uncertainty
    size = tuple(min(w, s) for w, s in zip(plan.roi_size, score.shape, strict=True))
    stride = tuple(max(1, extent // 4) for extent in size)
    slices = dense_patch_slices(tuple(score.shape), size, stride)
    chosen: list[tuple[int, ...]] = []
    for _ in range(min(count, len(slices))):
        totals = torch.stack([score[part].sum(dtype=torch.float64) for part in slices])
        best = int(totals.argmax())
        if chosen and float(totals[best]) <= 0:
            break
        chosen.append(tuple(int(part.start) for part in slices[best]))
        score[slices[best]] = 0
    return tuple(chosen)


def extract_patches(
    images: Tensor, starts: Sequence[tuple[int, ...]], plan: PatchPlan
) -> tuple[Tensor, Tensor]:
    """Cut patches out of one image, padded to `roi_size` as a sliding-window inferer pads.

    Args:
        images: (1, c, *s).
        starts: First voxel of each patch.
        plan: Patch size and padding.

    Returns:
        Patches (n, c, *roi_size), without the slice axis of a 2D network, and their extents
        (n, d, 2): where each patch's first and last voxel lie in the image, from -1 to 1.
    """
    shape = images.shape[2:]
    cut, extents = [], []
    for start in starts:
        stop = [min(s + w, n) for s, w, n in zip(start, plan.roi_size, shape, strict=True)]
        part = images[(slice(None), slice(None), *map(slice, start, stop))]
        cut.append(_pad(part, plan))
        extents.append(
            [_extent(s, w, n) for s, w, n in zip(start, plan.roi_size, shape, strict=True)]
        )
    batch, where = torch.cat(cut), torch.tensor(extents, device=images.device)
    if plan.slice_axis is not None:
        keep = [axis for axis in range(len(shape)) if axis != plan.slice_axis]
        batch, where = batch.squeeze(plan.slice_axis + 2), where[:, keep]
    return batch, where


def _pad(part: Tensor, plan: PatchPlan) -> Tensor:
    padding: list[int] = []
    for have, want in zip(reversed(part.shape[2:]), reversed(plan.roi_size), strict=True):
        missing = max(want - have, 0)
        padding += [missing // 2, missing - missing // 2]
    if not any(padding):
        return part
    if plan.padding_mode == "constant":
        return functional.pad(part, padding, value=plan.cval)
    return functional.pad(part, padding, mode=plan.padding_mode)


def _extent(start: int, width: int, size: int) -> tuple[float, float]:
    shown = min(width, size)
    margin = (width - shown) // 2
    last = max(size - 1, 1)
    return (2 * (start - margin) / last - 1, 2 * (start - margin + width - 1) / last - 1)
