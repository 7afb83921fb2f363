"""Find the organs of a prediction, the largest first: pieces that fit a window, else classes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from grata_monai.adapt.multiscale import MARGIN, OrganLocation
from grata_monai.adapt.patches import PatchPlan

__all__ = ["OrganPart", "find_organs"]

_SMALLEST_SHARE = 0.1  # of the largest piece of its kind; what is smaller is a splinter
_MOST_PIECES = 64  # that are told apart: a prediction with more is noise, of any number of pieces

Mask = NDArray[np.bool_]
Box = tuple[slice, ...]


@dataclass(frozen=True)
class OrganPart:
    """One organ of a prediction.

    Attributes:
        channel: Output channel; None for a piece of all foreground together.
        location: In voxels of the image.
        voxels: Of its largest piece.
        box: The part of the image in which it is looked at.
    """

    channel: int | None
    location: OrganLocation
    voxels: int
    box: Box = ()


def find_organs(
    masks: Tensor, activation: str, window: PatchPlan, *, most: int
) -> tuple[tuple[OrganPart, ...], int]:
    """Find what is worth looking at by itself.

    Args:
        masks: What a prediction marks, as of `grata_monai.adapt.result.mark`.
        activation: ``sigmoid`` or ``softmax``.
        window: Of the inferer: a connected piece of foreground that fits into it, such as two zones
            of one organ, is one organ; a larger one is taken apart by classes.
        most: How many to return.

    Returns:
        The organs, by volume, and the number of further ones. An organ that the window about a
        larger one shows anyway is not counted, nor is what is not among the 64 largest.
    """
    labels = masks[0].cpu().numpy()
    union: Mask = np.asarray(labels.any(0) if activation == "sigmoid" else labels[0] > 0)
    found: list[OrganPart] = []
    rest = np.zeros_like(union)
    for piece, box, location, voxels in _pieces(union):
        if _fits(location, window):
            found.append(OrganPart(None, location, voxels))
        else:
            rest[box] |= piece
    if rest.any():
        for channel, mask in _classes(labels, activation):
            found += [OrganPart(channel, loc, n) for _, _, loc, n in _pieces(mask & rest)]
    kept: list[OrganPart] = []
    for organ in sorted(found, key=lambda organ: -organ.voxels)[:_MOST_PIECES]:
        if not any(_shows(other, organ, window) for other in kept):
            kept.append(organ)
    return tuple(kept[:most]), max(len(kept) - most, 0)


def _classes(labels: NDArray[np.generic], activation: str) -> Iterator[tuple[int, Mask]]:
    if activation == "sigmoid":
        yield from enumerate(labels.astype(bool))
    else:
        present = np.flatnonzero(np.bincount(labels[0].ravel()))
        yield from ((int(channel), labels[0] == channel) for channel in present if channel > 0)


def _pieces(mask: Mask) -> Iterator[tuple[Mask, Box, OrganLocation, int]]:
    """The largest connected pieces, without splinters: each within its box."""
    pieces, count = ndimage.label(mask)
    if not count:
        return
    sizes = np.bincount(pieces.ravel())[1:]
    boxes = ndimage.find_objects(pieces)
    largest = np.argsort(-sizes, kind="stable")[:_MOST_PIECES]
    for index in np.sort(largest[sizes[largest] >= _SMALLEST_SHARE * sizes.max()]):
        box = boxes[index]
        piece = pieces[box] == index + 1
        inside = ndimage.center_of_mass(piece)
        centre = tuple(float(c) + part.start for c, part in zip(inside, box, strict=True))
        extent = tuple(int(part.stop - part.start) for part in box)
        yield piece, box, OrganLocation(centre, extent), int(sizes[index])


def _fits(location: OrganLocation, window: PatchPlan) -> bool:
    return all(
        axis == window.slice_axis or MARGIN * extent <= size
        for axis, (extent, size) in enumerate(zip(location.extent, window.roi_size, strict=True))
    )


def _shows(larger: OrganPart, organ: OrganPart, window: PatchPlan) -> bool:
    """Whether the window about a larger organ holds a smaller one as well."""
    return all(
        axis == window.slice_axis or abs(a - b) + extent / 2 <= size / 2
        for axis, (a, b, extent, size) in enumerate(
            zip(
                larger.location.centre,
                organ.location.centre,
                organ.location.extent,
                window.roi_size,
                strict=True,
            )
        )
    )
