"""Trace the outlines of a mask in one plane of pixels.

Coordinates in the plane are (row, column), counted from the centre of the first pixel. Outlines
run half-way between the centres of pixels inside and outside, and cut the corners, so that every
centre of a pixel is at least 0.35 pixels from the outline.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

__all__ = ["Ring", "area", "trace_regions", "trace_rings"]

Ring = NDArray[np.float64]
"""Vertices (n, 2) of a closed line, row and column; the first is not repeated at the end."""

Vertex = tuple[float, float]
Channel = tuple[int, Ring, Ring]
"""From a ring to a hole: the vertex after which it begins, its point on the ring, the hole."""


def trace_rings(plane: NDArray[np.bool_]) -> list[Ring]:
    """Trace every outline of a mask, those of its holes too.

    Pixels that touch at a corner only are not connected. The area within an outline is that of
    its pixels less half a pixel, the area within a hole's outline likewise more half a pixel.

    Args:
        plane: (rows, columns).

    Returns:
        Outlines that turn one way, and those of holes, which turn the other way: see `area`.
    """
    padded = np.pad(np.asarray(plane, dtype=np.float64), 1)
    rings = find_contours(  # type: ignore[no-untyped-call]
        padded, 0.5, fully_connected="low", positive_orientation="low"
    )
    return [np.asarray(ring[:-1] - 1, dtype=np.float64) for ring in rings]


def trace_regions(plane: NDArray[np.bool_]) -> list[Ring]:
    """Trace every connected region of a mask with one line that goes around its holes as well.

    Holes follow DICOM's keyhole technique (PS3.3 C.8.8.6.3): a channel of no width joins a hole to
    the outline left of it, between two rows of pixels, so that it meets the centre of none.

    Args:
        plane: (rows, columns).

    Returns:
        One line per region, without vertices on straight stretches.
    """
    traced = trace_rings(plane)
    holes = [_begin_at_channel(ring) for ring in traced if area(ring) < 0]
    holes.sort(key=lambda hole: -hole[0, 1])  # a channel ends further to the left
    outlines = [ring for ring in traced if area(ring) > 0]
    if not holes:
        return [_straighten(ring) for ring in outlines]
    rings = outlines + holes
    channels: list[list[Channel]] = [[] for _ in rings]
    owners = {
        (row, column): (ring, index)
        for ring, vertices in enumerate(rings)
        for index, (row, column) in enumerate(vertices.tolist())
    }
    solid = np.pad(np.asarray(plane, dtype=np.bool_), 1)
    for number in range(len(outlines), len(rings)):
        loop = _insert_holes(rings[number], channels[number])
        point = _end_channel(solid, loop[0])
        outer, index = _find_ring(owners, point)
        channels[outer].append((index, np.asarray([point]), loop))
    return [_straighten(_insert_holes(*pair)) for pair in zip(outlines, channels, strict=False)]


def area(ring: Ring) -> float:
    """Area in pixels; negative for the outline of a hole."""
    row, column = ring.T
    return float(np.dot(row, np.roll(column, 1)) - np.dot(column, np.roll(row, 1))) / 2


def _begin_at_channel(hole: Ring) -> Ring:
    """Begin the outline of a hole with the leftmost of its vertices between two rows."""
    between = np.flatnonzero(hole[:, 0] % 1)
    return np.roll(hole, -int(between[hole[between, 1].argmin()]), axis=0)


def _end_channel(solid: NDArray[np.bool_], start: Ring) -> Vertex:
    """Go left from a channel's start at a hole, through the mask, to the next outline.

    `solid` has a margin of one pixel.
    """
    upper, column = int(np.floor(start[0])) + 1, int(start[1]) + 1
    pairs = solid[upper : upper + 2, :column]
    stop = int(np.flatnonzero(~pairs.all(axis=0))[-1])
    return float(start[0]), stop - 1 + (0.0 if pairs[:, stop].any() else 0.5)


def _find_ring(owners: dict[Vertex, tuple[int, int]], point: Vertex) -> tuple[int, int]:
    """Find the ring that passes a point between two rows, and the last vertex before the point."""
    if point in owners:
        return owners[point]
    row, column = point  # half-way between two vertices, whichever of them comes first
    (ring, one), (_, other) = owners[row - 0.5, column], owners[row + 0.5, column]
    return ring, min(one, other) if abs(one - other) == 1 else max(one, other)


def _insert_holes(ring: Ring, channels: list[Channel]) -> Ring:
    """Follow a ring; at each channel, go to the hole, around it and back."""
    pieces, begin = [], 0
    for index, point, loop in sorted(channels, key=lambda channel: channel[0]):
        pieces += [ring[begin : index + 1], point, loop, loop[:1], point]
        begin = index + 1
    return np.concatenate([*pieces, ring[begin:]])


def _straighten(ring: Ring) -> Ring:
    """Leave out vertices that repeat their neighbour or lie on the line through both."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    back, forth = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = back[:, 0] * forth[:, 1] - back[:, 1] * forth[:, 0]
    is_reversal = (back * forth).sum(axis=1) < 0  # the end of a channel
    return np.asarray(ring[(turn != 0) | is_reversal], dtype=np.float64)
