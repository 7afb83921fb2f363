"""Whether a mask has the outline of the organ: principal components of source labels.

Size and place say nothing of form: a neighbouring organ may have both. The largest piece of a mask
is brought to one small grid, whatever its size and place, and compared with what the principal
components of source labels can make.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from grata_monai.adapt.organ import ROOM, find_largest_piece

__all__ = ["Outline", "ShapeModel", "describe_outline", "profile_outlines"]

Outline = NDArray[np.float64]
"""(n,): how full every cell of the mask's bounding box is, in [0, 1]."""

_CELLS = {1: 64, 2: 16, 3: 8}
"""Axes to cells per axis."""
_SHARE = 0.9  # of the variance that components make up
_LEAST_VARIANCE = 1e-4  # of one cell


@dataclass(frozen=True)
class ShapeModel:
    """Outlines of the organ in source labels.

    Attributes:
        mean: (n,).
        components: (k, n), each of length 1.
        variances: (k,), along the components.
        rest: Variance of a cell that no component makes up.
        distances: Of every source label from the others, ascending.
    """

    mean: tuple[float, ...]
    components: tuple[tuple[float, ...], ...]
    variances: tuple[float, ...]
    rest: float
    distances: tuple[float, ...]

    @property
    def limit(self) -> float:
        """Distance beyond which a mask is no place for the organ."""
        return ROOM * self.distances[-1]

    def distance(self, outline: Outline) -> float:
        """Mahalanobis distance over the square root of n.

        Source:
            Tipping and Bishop, Probabilistic principal component analysis, JRSS B 1999.
        """
        away = outline - np.asarray(self.mean)
        along = np.asarray(self.components).reshape(-1, len(away)) @ away
        left = max(float(away @ away - along @ along), 0.0)
        square = float(np.sum(along**2 / np.asarray(self.variances))) + left / self.rest
        return math.sqrt(square / len(away))


def describe_outline(mask: NDArray[np.bool_]) -> Outline | None:
    """Bring the largest connected piece of a mask to a small grid; None if the mask is empty.

    Args:
        mask: (*s), of one to three axes.
    """
    if not mask.any():
        return None
    piece, box, _ = find_largest_piece(mask)
    inside = torch.from_numpy(piece[box])[None, None].double()
    cells = (_CELLS[mask.ndim],) * mask.ndim
    return np.asarray(functional.interpolate(inside, cells, mode="area")).ravel()


def profile_outlines(outlines: Sequence[Outline]) -> ShapeModel:
    """Describe the outlines of source labels.

    Args:
        outlines: Of `describe_outline`, at least three.
    """
    table = np.stack(outlines)
    left_out = [
        _fit(np.delete(table, index, 0)).distance(outline) for index, outline in enumerate(table)
    ]
    whole = _fit(table)
    return ShapeModel(
        whole.mean, whole.components, whole.variances, whole.rest, _rounded(sorted(left_out))
    )


def _fit(table: Outline) -> ShapeModel:
    """Principal components of (cases, n): at most half as many as cases."""
    cases, cells = table.shape
    mean = table.mean(0)
    _, sizes, rows = np.linalg.svd(table - mean, full_matrices=False)
    variances = sizes**2 / (cases - 1)
    made_up = np.cumsum(variances) / max(float(variances.sum()), _LEAST_VARIANCE)
    kept = min(int(np.searchsorted(made_up, _SHARE)) + 1, cases // 2)
    rest = float(variances[kept:].sum()) / (cells - kept)
    return ShapeModel(
        mean=_rounded(mean),
        components=tuple(_rounded(row) for row in rows[:kept]),
        variances=_rounded(np.maximum(variances[:kept], _LEAST_VARIANCE)),
        rest=float(f"{max(rest, _LEAST_VARIANCE):.4g}"),
        distances=(),
    )


def _rounded(values: Any) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)
