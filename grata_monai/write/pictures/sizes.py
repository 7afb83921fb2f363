"""Measure the size of a segment from its pixels and their spacing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

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


def measure_segment(
    masks: NDArray[Any], number: int, *, spacing: tuple[float, float, float]
) -> SegmentSize:
    """Measure one segment.

    Args:
        masks: Labels, (frames, rows, columns).
        number: The label.
        spacing: Between frames along their normal, rows and columns, mm; so measured, a tilt does
            not enlarge the volume.

    Returns:
        Its size.
    """
    segment = masks == number
    pixels = int(np.count_nonzero(segment))
    between_frames, *in_plane = spacing
    frames = np.flatnonzero(segment.any(axis=(1, 2)))
    if not pixels:
        return SegmentSize(0, 0.0, 0.0, 0.0)
    return SegmentSize(
        pixels=pixels,
        volume_ml=pixels * in_plane[0] * in_plane[1] * between_frames / 1000,
        long_axis_mm=max(_longest_distance(segment[frame], in_plane) for frame in frames),
        depth_mm=float(frames[-1] - frames[0] + 1) * between_frames,
    )


def _longest_distance(plane: NDArray[Any], spacing: Sequence[float]) -> float:
    """Find the longest distance between corners of pixels; its ends are on the convex hull."""
    rows = np.flatnonzero(plane.any(axis=1))
    first = plane[rows].argmax(axis=1)
    last = plane.shape[1] - plane[rows, ::-1].argmax(axis=1)
    left_and_right = np.concatenate([np.stack([rows, ends], axis=1) for ends in (first, last)])
    corners = np.concatenate([left_and_right, left_and_right + np.array([1, 0])])
    edges = corners * np.asarray(spacing)
    return float(pdist(edges[ConvexHull(edges).vertices]).max())
