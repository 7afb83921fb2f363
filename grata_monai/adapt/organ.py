"""Whether a mask can be the organ: its size, place, pieces and contrast beside source labels.

Agreement of several predictions is not truth: all magnifications may agree on a neighbouring organ.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["OrganProfile", "Plausibility", "describe_organ", "find_largest_piece", "profile_organ"]

_PRIOR_CASES = 5
_SMALLEST_SPREAD = {
    "volume": 0.1,
    "extent": 0.1,
    "position": 3.0,
    "fill": 0.03,
    "pieces": 0.35,
    "share": 0.05,
    "contrast": 0.15,
}
"""Of features that hardly differ between few source cases; units as in `describe_organ`."""
_RING = 3  # voxels about the mask, in front of its border
ROOM = 1.5
"""A place of the organ is at most so many times as odd as the oddest source label."""

_SPECK = 10  # voxels; smaller pieces do not count

Features = Mapping[str, float]


@dataclass(frozen=True)
class Plausibility:
    """How well a mask fits the source labels.

    Attributes:
        distance: Root mean square of the standardised features; source labels lie about 1.
        percentile: Share of source labels that lie nearer to the others, in [0, 100].
        odd: The feature that differs most.
        value: Of this feature, as `describe_organ` gives it.
        usual: Its range among source labels: mean minus and plus two spreads.
    """

    distance: float
    percentile: float
    odd: str
    value: float
    usual: tuple[float, float]


@dataclass(frozen=True)
class OrganProfile:
    """Features of the organ in source labels.

    Attributes:
        mean: Feature to mean.
        spread: Feature to standard deviation, shrunk.
        distances: Of every source label from the others, ascending.
    """

    mean: Mapping[str, float]
    spread: Mapping[str, float]
    distances: tuple[float, ...]

    @property
    def limit(self) -> float:
        """Distance beyond which a mask is no place for the organ."""
        return ROOM * self.distances[-1]

    def distance(self, features: Features) -> float:
        """Root mean square of the standardised features."""
        return self._standardise(features)[1]

    def _standardise(self, features: Features) -> tuple[dict[str, float], float]:
        found = {n: (features[n] - self.mean[n]) / self.spread[n] for n in self.mean}
        return found, math.sqrt(sum(z * z for z in found.values()) / len(found))

    def judge(self, features: Features) -> Plausibility:
        """Say how well a mask's features fit."""
        standardised, distance = self._standardise(features)
        odd = max(standardised, key=lambda name: abs(standardised[name]))
        mean, spread = self.mean[odd], self.spread[odd]
        return Plausibility(
            distance=distance,
            percentile=100 * float(np.searchsorted(self.distances, distance)) / len(self.distances),
            odd=odd,
            value=features[odd],
            usual=(mean - 2 * spread, mean + 2 * spread),
        )


def describe_organ(
    mask: NDArray[np.bool_], image: NDArray[np.float32], spacing: Sequence[float]
) -> Features | None:
    """Measure the largest connected piece of a mask, and what lies beside it.

    Args:
        mask: (*s).
        image: (*s), one channel.
        spacing: In mm per axis.

    Returns:
        ``volume`` (logarithm of mL, of mm² in 2D), ``extent 0`` … (logarithms of mm),
        ``position 0`` … (mm from the image's middle), ``fill`` (share of the bounding box),
        ``pieces`` (logarithm of their number), ``share`` (of the largest piece), ``contrast`` (mean
        difference across the border over the spread on both sides); None if the mask is empty.
    """
    if not mask.any():
        return None
    inside, box, sizes = find_largest_piece(mask)
    size = np.asarray(spacing, dtype=float)
    extent = np.array([part.stop - part.start for part in box]) * size
    centre = (np.array(ndimage.center_of_mass(inside)) - (np.array(mask.shape) - 1) / 2) * size
    volume = float(sizes.max() * size.prod()) / (1000 if mask.ndim == 3 else 1)
    found = {"volume": math.log(volume)}
    found |= {f"extent {axis}": math.log(value) for axis, value in enumerate(extent)}
    found |= {f"position {axis}": float(value) for axis, value in enumerate(centre)}
    found["fill"] = float(sizes.max() * size.prod() / extent.prod())
    found["pieces"] = math.log(max(int((sizes > _SPECK).sum()), 1))
    found["share"] = float(sizes.max() / sizes.sum())
    found["contrast"] = _contrast(inside, image, box)
    return found


def find_largest_piece(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], tuple[slice, ...], NDArray[np.int64]]:
    """The largest connected piece of a mask (*s) that is not empty, its box, and all sizes."""
    pieces, _ = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel())[1:]
    largest = int(sizes.argmax()) + 1
    return pieces == largest, ndimage.find_objects(pieces)[largest - 1], sizes


def _contrast(
    inside: NDArray[np.bool_], image: NDArray[np.float32], box: tuple[slice, ...]
) -> float:
    about = tuple(slice(max(part.start - _RING, 0), part.stop + _RING) for part in box)
    mask, values = inside[about], image[about]
    ring = ndimage.binary_dilation(mask, iterations=_RING) & ~mask
    if not ring.any():
        return 0.0
    both = values[mask | ring]
    return float((values[mask].mean() - values[ring].mean()) / max(float(both.std()), 1e-6))


def profile_organ(cases: Sequence[Features]) -> OrganProfile:
    """Describe the organ's features over source labels.

    Args:
        cases: Of `describe_organ`, at least three.
    """
    whole = _describe(cases)
    left_out = [
        _describe([*cases[:index], *cases[index + 1 :]]).distance(case)
        for index, case in enumerate(cases)
    ]
    return OrganProfile(whole.mean, whole.spread, tuple(round(d, 4) for d in sorted(left_out)))


def _describe(cases: Sequence[Features]) -> OrganProfile:
    mean, spread = {}, {}
    for name in cases[0]:
        values = np.array([case[name] for case in cases])
        least = _SMALLEST_SPREAD[name.split(" ")[0]]
        n = len(values)
        variance = ((n - 1) * values.var(ddof=1) + _PRIOR_CASES * least**2) / (n - 1 + _PRIOR_CASES)
        mean[name] = round(float(values.mean()), 4)
        spread[name] = round(max(math.sqrt(variance), least), 4)
    return OrganProfile(mean, spread, ())
