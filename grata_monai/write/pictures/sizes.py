"""How large a segment is, from its pixels and the true geometry of its frames."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from grata_monai.read.dicom.volume import DicomVolume

__all__ = ["SegmentSize", "measure_segment"]


@dataclass(frozen=True)
class SegmentSize:
    """Size of one segment; all zero if it is empty.

    Attributes:
        pixels: How many pixels it has on all frames.
        volume_ml: Their number times pixel area times distance of the frames along the normal.
        long_axis_mm: Longest distance within one frame, from outer edge to outer edge.
        depth_mm: From the first to the last frame with it, along the normal, slices included.
    """

    pixels: int
    volume_ml: float
    long_axis_mm: float
    depth_mm: float


def measure_segment(masks: NDArray[Any], volume: DicomVolume, number: int) -> SegmentSize:
    """Measure one segment.

    Args:
        masks: Labels, (frames, rows, columns), in the order of ``volume.frames``.
        volume: The source, whose spacing counts; tilted frames do not enlarge the volume.
        number: The label.

    Returns:
        Its size.
    """
    segment = masks == number
    pixels = int(np.count_nonzero(segment))
    spacing = abs(float(volume.step @ volume.normal))
    frames = np.flatnonzero(segment.any(axis=(1, 2)))
    if not pixels:
        return SegmentSize(0, 0.0, 0.0, 0.0)
    return SegmentSize(
        pixels=pixels,
        volume_ml=pixels * volume.row_spacing * volume.column_spacing * spacing / 1000,
        long_axis_mm=max(_longest_distance(segment[frame], volume) for frame in frames),
        depth_mm=float(frames[-1] - frames[0] + 1) * spacing,
    )


def _longest_distance(plane: NDArray[Any], volume: DicomVolume) -> float:
    """Longest distance between corners of pixels: it ends on the convex hull."""
    rows = np.flatnonzero(plane.any(axis=1))
    first = plane[rows].argmax(axis=1)
    last = plane.shape[1] - plane[rows, ::-1].argmax(axis=1)
    left_and_right = np.concatenate([np.stack([rows, ends], axis=1) for ends in (first, last)])
    corners = np.concatenate([left_and_right, left_and_right + np.array([1, 0])])
    edges = corners * (volume.row_spacing, volume.column_spacing)
    return float(pdist(edges[ConvexHull(edges).vertices]).max())
