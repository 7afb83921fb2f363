"""Turn a volume into planes as radiologists look at them, with its geometry."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

__all__ = ["Planes", "cut_into_planes"]

ORDERS = ((0, 2, 1), (1, 2, 0), (2, 1, 0))  # axes of frames, rows, columns, by the frames' axis
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from RAS


@dataclass(frozen=True, eq=False)
class Planes:
    """A volume as planes.

    Attributes:
        values: (frames, rows, columns).
        affine_lps: 4×4, index (column, row, frame) to LPS in mm.
    """

    values: NDArray[Any]
    affine_lps: NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Between frames along their normal, rows and columns, in mm."""
        columns, rows = np.linalg.norm(self.affine_lps[:3, :2], axis=0)
        volume = abs(float(np.linalg.det(self.affine_lps[:3, :3])))
        return volume / float(columns * rows), float(rows), float(columns)


def cut_into_planes(volume: NDArray[Any], affine_ras: NDArray[Any]) -> Planes:
    """Turn a volume so that its thickest axis counts the planes; axial ones if all are equal.

    Left of the picture is the patient's right, top is anterior in axial planes and the head in
    others.

    Args:
        volume: (x, y, z).
        affine_ras: 4×4, voxel index to RAS in mm.

    Returns:
        The planes; voxels are turned, never resampled.
    """
    axes = io_orientation(affine_ras)[:, 0].astype(int)  # patient's axis of every array axis
    spacing = np.linalg.norm(affine_ras[:3, :3], axis=0)
    thickness = dict(zip(axes, spacing.round(3), strict=True))
    frames = max(thickness, key=lambda axis: (thickness[axis], axis))
    wanted = axcodes2ornt(("L", "P", "S" if frames == 2 else "I"))
    turn = ornt_transform(io_orientation(affine_ras), wanted)
    turned = apply_orientation(volume, turn)
    affine = LPS @ affine_ras @ inv_ornt_aff(turn, volume.shape)
    order = ORDERS[frames]
    return Planes(
        values=np.ascontiguousarray(turned.transpose(order)),
        affine_lps=affine[:, [*reversed(order), 3]],
    )
