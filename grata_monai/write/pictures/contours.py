"""Outlines of a mask in one plane of pixels, and where they lie in the patient.

Coordinates in the plane are (row, column), counted from the centre of the first pixel. Outlines
run half-way between the centres of pixels inside and outside, and cut the corners; so every
pixel's centre is on its own side of the outline, by at least 0.35 of a pixel.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

from grata_monai.read.dicom.volume import DicomVolume

__all__ = ["to_patient", "trace_regions", "trace_rings"]

Ring = NDArray[np.float64]
"""Vertices (n, 2) of a closed line, row and column; the first is not repeated at the end."""

Vertex = tuple[float, float]
Guest = tuple[int, Ring, Ring]
"""A hole at a ring: the vertex after which it comes, where its channel lands, its own ring."""


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
    holes = [_begin_at_door(ring) for ring in traced if area(ring) < 0]
    holes.sort(key=lambda hole: -hole[0, 1])  # what a channel meets is further to the left
    outlines = [ring for ring in traced if area(ring) > 0]
    if not holes:
        return [_straighten(ring) for ring in outlines]
    rings = outlines + holes
    guests: list[list[Guest]] = [[] for _ in rings]
    owners = {
        (row, column): (ring, index)
        for ring, vertices in enumerate(rings)
        for index, (row, column) in enumerate(vertices.tolist())
    }
    solid = np.pad(np.asarray(plane, dtype=np.bool_), 1)
    for number in range(len(outlines), len(rings)):
        loop = _take_in(rings[number], guests[number])
        landing = _walk_left(solid, loop[0])
        host, index = _find_host(owners, landing)
        guests[host].append((index, np.asarray([landing]), loop))
    return [_straighten(_take_in(*pair)) for pair in zip(outlines, guests, strict=False)]


def area(ring: Ring) -> float:
    """Area in pixels; negative for the outline of a hole."""
    row, column = ring.T
    return float(np.dot(row, np.roll(column, 1)) - np.dot(column, np.roll(row, 1))) / 2


def to_patient(ring: Ring, volume: DicomVolume, frame: int) -> NDArray[np.float64]:
    """Carry an outline into the patient, by the position of its own frame.

    Args:
        ring: (n, 2), row and column.
        volume: Whose frame it is.
        frame: Index in `volume.frames`.

    Returns:
        (n, 3), LPS in mm.
    """
    down = np.asarray(volume.column_direction) * volume.row_spacing
    along = np.asarray(volume.row_direction) * volume.column_spacing
    position = np.asarray(volume.frames[frame].position_lps)
    return np.asarray(position + ring[:, :1] * down + ring[:, 1:] * along, dtype=np.float64)


def _begin_at_door(hole: Ring) -> Ring:
    """Begin the outline of a hole with the leftmost of its vertices between two rows."""
    between = np.flatnonzero(hole[:, 0] % 1)
    return np.roll(hole, -int(between[hole[between, 1].argmin()]), axis=0)


def _walk_left(solid: NDArray[np.bool_], door: Ring) -> Vertex:
    """Walk from a hole's door through the mask to the next outline; `solid` has a margin."""
    upper, column = int(np.floor(door[0])) + 1, int(door[1]) + 1
    pairs = solid[upper : upper + 2, :column]
    stop = int(np.flatnonzero(~pairs.all(axis=0))[-1])
    return float(door[0]), stop - 1 + (0.0 if pairs[:, stop].any() else 0.5)


def _find_host(owners: dict[Vertex, tuple[int, int]], landing: Vertex) -> tuple[int, int]:
    """Find the ring that passes a point between two rows, and the last vertex before the point."""
    if landing in owners:
        return owners[landing]
    row, column = landing  # half-way between two vertices, whichever of them comes first
    (host, one), (_, other) = owners[row - 0.5, column], owners[row + 0.5, column]
    return host, min(one, other) if abs(one - other) == 1 else max(one, other)


def _take_in(ring: Ring, guests: list[Guest]) -> Ring:
    """Go around a ring, on the way to each guest, around it and back."""
    pieces, begin = [], 0
    for index, landing, loop in sorted(guests, key=lambda guest: guest[0]):
        pieces += [ring[begin : index + 1], landing, loop, loop[:1], landing]
        begin = index + 1
    return np.concatenate([*pieces, ring[begin:]])


def _straighten(ring: Ring) -> Ring:
    """Leave out vertices that repeat their neighbour or lie on the line through both."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    back, forth = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = back[:, 0] * forth[:, 1] - back[:, 1] * forth[:, 0]
    is_reversal = (back * forth).sum(axis=1) < 0  # the end of a channel
    return np.asarray(ring[(turn != 0) | is_reversal], dtype=np.float64)
