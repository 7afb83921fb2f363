"""Resample a tilted stack onto the orthogonal grid that a network gets, and results back to frames.

An orthogonal stack is its own grid. A gantry tilt shears the stack: each frame is shifted within
its plane against the one before. The planes stay parallel, so moving every frame back by its own
shift makes the grid orthogonal; nothing is interpolated between frames.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from grata_monai.core.errors import GeometryError
from grata_monai.read.dicom.volume import LPS_TO_RAS, DicomVolume

__all__ = ["FrameGrid"]

Float64 = NDArray[np.float64]
Array = NDArray[Any]

SMALLEST_TILT = 0.01  # degrees: 0.05 mm over a stack of 300 mm
SHIFT_DECIMALS = 6  # of a pixel; rounding in positions is no shift
AFFINE_TOLERANCE = 1e-3  # mm


@dataclass(frozen=True)
class FrameGrid:
    """The smallest orthogonal grid that covers all frames of a volume.

    It has the volume's in-plane spacing; its planes are the frames' planes.

    Attributes:
        volume: What triage accepted.
    """

    volume: DicomVolume

    @property
    def is_tilted(self) -> bool:
        """Whether frames are resampled; else the grid is the stack itself."""
        return self.volume.tilt_degrees > SMALLEST_TILT

    @cached_property
    def shifts(self) -> Float64:
        """Pixels along (row, column) from the first frame's first pixel to each one's; (n, 2)."""
        if not self.is_tilted:
            return np.zeros((len(self.volume.frames), 2))
        volume = self.volume
        along_row = volume.step @ np.asarray(volume.row_direction) / volume.column_spacing
        along_column = volume.step @ np.asarray(volume.column_direction) / volume.row_spacing
        numbers = np.arange(len(volume.frames))[:, None]
        shifts = numbers * np.array([along_row, along_column])
        return np.asarray(np.round(shifts, SHIFT_DECIMALS), dtype=np.float64)

    @cached_property
    def first(self) -> tuple[int, int]:
        """Pixels along (row, column) from the first frame's first pixel to the grid's."""
        low = np.floor(self.shifts.min(axis=0))
        return int(low[0]), int(low[1])

    @property
    def spatial_shape(self) -> tuple[int, int, int]:
        """Columns, rows, frames."""
        columns, rows, frames = self.volume.spatial_shape
        high = np.ceil(self.shifts.max(axis=0)).astype(int)
        return columns + int(high[0]) - self.first[0], rows + int(high[1]) - self.first[1], frames

    @property
    def affine_ras(self) -> Float64:
        """4×4, voxel index to RAS in mm; exactly the volume's if that is orthogonal."""
        affine = self.volume.affine_lps.copy()
        if self.is_tilted:
            normal = self.volume.normal / np.linalg.norm(self.volume.normal)
            affine[:3, 2] = (self.volume.step @ normal) * normal
            affine[:3, 3] += affine[:3, :2] @ np.asarray(self.first, np.float64)
        return np.asarray(LPS_TO_RAS @ affine, dtype=np.float64)

    def resample(self, stack: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring a stack of frames onto the grid, linearly within each plane.

        Args:
            stack: (columns, rows, frames) of the volume.

        Returns:
            (columns, rows, frames) of the grid, with the stack's minimum where no frame is;
            the stack itself if it is orthogonal.
        """
        if not self.is_tilted:
            return stack
        grid = np.empty(self.spatial_shape, np.float32)
        for number, shift in enumerate(self.shifts):
            ndimage.affine_transform(
                stack[:, :, number],
                np.ones(2),
                offset=np.asarray(self.first) - shift,
                output=grid[:, :, number],
                output_shape=grid.shape[:2],
                order=1,
                cval=float(stack.min()),
            )
        return grid

    def map_back(self, values: Array, *, order: int) -> Array:
        """Bring values on the grid to the source frames.

        Args:
            values: (columns, rows, frames) of the grid.
            order: 0 takes the nearest voxel, 1 is linear.

        Returns:
            (frames, rows, columns), of the same type.
        """
        if not self.is_tilted:
            return np.ascontiguousarray(values.transpose(2, 1, 0))
        columns, rows, count = self.volume.spatial_shape
        frames = np.empty((count, rows, columns), values.dtype)
        for number, shift in enumerate(self.shifts):
            ndimage.affine_transform(
                values[:, :, number],
                np.ones(2),
                offset=shift - np.asarray(self.first),
                output=frames[number].T,
                output_shape=(columns, rows),
                order=order,
                mode="nearest",
            )
        return frames

    def check(self, spatial_shape: tuple[int, ...], affine_ras: Array) -> None:
        """Reject values that do not lie on this grid.

        Args:
            spatial_shape: Of the values.
            affine_ras: 4×4, their index to RAS in mm.

        Raises:
            GeometryError: If shape or affine differ.
        """
        name = self.volume.name
        if tuple(spatial_shape) != self.spatial_shape:
            raise GeometryError(
                f"mask must have the shape of its volume's grid, {self.spatial_shape}, {name!r} "
                f"has {tuple(spatial_shape)}. Put argmax and Invertd before."
            )
        if affine_ras.shape != (4, 4) or not np.allclose(
            affine_ras, self.affine_ras, rtol=0, atol=AFFINE_TOLERANCE
        ):
            raise GeometryError(
                f"mask must have the affine of its volume's grid, {name!r} has another. "
                "Put Invertd with all of preprocessing before."
            )
