"""Where nnU-Net's arrays lie in the patient, and the way from its network's grid back to them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from torch.nn import functional

__all__ = ["affine_ras", "invert_layout", "network_affine", "plan_layout", "restore"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_ras(properties: Mapping[str, Any]) -> NDArray[np.float64]:
    """Find the affine of an image that one of nnU-Net's readers has read.

    Args:
        properties: What the reader keeps.

    Returns:
        4×4, index (x, y, z) to RAS in mm; spacing alone where the reader knows no more.
    """
    if "sitk_stuff" in properties:
        found = properties["sitk_stuff"]
        dims = len(found["spacing"])
        affine = np.eye(4)
        direction = np.reshape(found["direction"], (dims, dims))
        affine[:dims, :dims] = direction @ np.diag(found["spacing"])
        affine[:dims, 3] = found["origin"]
        return np.asarray(LPS_TO_RAS @ affine, dtype=np.float64)
    if "nibabel_stuff" in properties:
        found = properties["nibabel_stuff"]
        affine = found.get("reoriented_affine", found["original_affine"])
        return np.asarray(affine, dtype=np.float64)
    return np.diag([*(float(step) for step in properties["spacing"][::-1]), 1.0])


def network_affine(
    affine: NDArray[Any],
    properties: Mapping[str, Any],
    *,
    shape: Sequence[int],
    spacing: Sequence[float],
    transpose_forward: Sequence[int],
) -> NDArray[np.float64]:
    """Find where the network's grid lies.

    Args:
        affine: 4×4 of the image, index (x, y, z) to RAS in mm.
        properties: What preprocessing noted.
        shape: Of the network's grid.
        spacing: Of its axes, mm. The extent is rounded to whole voxels, so that ends lie up to half
            a voxel beside those of the image; centres agree.
        transpose_forward: Of the plans.

    Returns:
        4×4, index of the network's axes to RAS in mm.
    """
    axes = [2 - axis for axis in transpose_forward]
    directions = affine[:3, axes] / np.linalg.norm(affine[:3, axes], axis=0)
    middle = np.ones(4)
    middle[axes] = [(low + high - 1) / 2 for low, high in properties["bbox_used_for_cropping"]]
    found = np.eye(4)
    found[:3, :3] = directions * spacing
    found[:3, 3] = (affine @ middle)[:3] - found[:3, :3] @ ((np.array(shape) - 1) / 2)
    return found


def restore(
    maps: torch.Tensor, properties: Mapping[str, Any], transpose_backward: Sequence[int]
) -> NDArray[np.uint8]:
    """Bring label maps from the network's grid to the image's, as nnU-Net brings back its mask.

    Args:
        maps: (n, *s), whole numbers from 0 to 255.
        properties: What preprocessing noted.
        transpose_backward: Of the plans.

    Returns:
        (n, x, y, z), the nearest values; 0 outside of what preprocessing kept.
    """
    shape = [int(extent) for extent in properties["shape_after_cropping_and_before_resampling"]]
    resized = functional.interpolate(maps[None].float(), shape, mode="nearest-exact")[0]
    whole = np.zeros((len(maps), *properties["shape_before_cropping"]), dtype=np.uint8)
    box = tuple(slice(int(low), int(high)) for low, high in properties["bbox_used_for_cropping"])
    whole[(slice(None), *box)] = resized.to(torch.uint8).cpu().numpy()
    back = whole.transpose(0, *(axis + 1 for axis in transpose_backward))
    return np.ascontiguousarray(back.transpose(0, 3, 2, 1))


def plan_layout(affine: NDArray[Any], orientation: str) -> NDArray[np.float64]:
    """Say how the axes of a DICOM stack are turned for a network that knows none of DICOM.

    Args:
        affine: 4×4, index (column, row, frame) to RAS in mm.
        orientation: Where the axes shall lead, such as ``RAS``; empty for rows from the bottom to
            the top and else as they are, as dcm2niix writes a series.

    Returns:
        For `nibabel.apply_orientation`: axis and direction of each axis.
    """
    if not orientation:
        return np.array([[0, 1], [1, -1], [2, 1]], dtype=np.float64)
    wanted = axcodes2ornt(tuple(orientation))
    return np.asarray(ornt_transform(io_orientation(affine), wanted), dtype=np.float64)


def invert_layout(layout: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the layout that undoes one."""
    back = np.empty_like(layout)
    for axis, (place, direction) in enumerate(layout):
        back[int(place)] = axis, direction
    return back
