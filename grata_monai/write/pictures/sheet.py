"""Choose what a contact sheet shows of a case: slices, crop, numbers, orientation, facts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from grata_monai.record import Record
from grata_monai.record.sentences import describe_record
from grata_monai.record.types import OutcomeName
from grata_monai.write.pictures.colours import Colour, choose_colours
from grata_monai.write.pictures.sizes import SegmentSize, measure_segment

__all__ = ["Sheet", "choose_bar"]

LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))  # towards minus and plus of LPS
SMALLEST_SHARE = 0.2  # of a direction, below which its letter is left out: about 12 degrees
MOST_SLICES, SLICES_OF_AN_EMPTY_MASK = 11, 6
MARGIN_SHARE, SMALLEST_CROP_MM = 0.3, 60.0
GREY_PERCENTILES = (1.0, 99.5)
BARS_MM = (5, 10, 20, 50, 100)
LARGEST_BAR = 0.3  # of a picture's width


@dataclass(frozen=True, eq=False)
class Sheet:
    """One case, as it is shown to a reader.

    Attributes:
        voxels: Intensities (frames, rows, columns).
        mask: Final labels, likewise; 0 is background.
        affine_lps: 4×4, index (column, row, frame) to LPS in mm.
        record: Of the case.
        names: Of the labels; a label without a name goes by its number.
        source: The source network's labels, likewise, or None if they are not known.
        numbers: What readers call the frames; 1, 2, 3, … if empty.
        heading: Patient, study, series and date; only where the picture goes into a DICOM object.

    Raises:
        ValueError: If arrays differ in shape, or there are not as many numbers as frames.
    """

    voxels: NDArray[np.float32]
    mask: NDArray[np.uint8]
    affine_lps: NDArray[np.float64]
    record: Record
    names: Mapping[int, str] = field(default_factory=dict)
    source: NDArray[np.uint8] | None = None
    numbers: tuple[int, ...] = ()
    heading: str = ""

    def __post_init__(self) -> None:
        """Check that everything has as many frames, rows and columns as the mask."""
        shape = self.mask.shape
        for name in ("voxels", "source"):
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ValueError(
                    f"{name} must be (frames, rows, columns) = {shape} as the mask, got "
                    f"{array.shape}. Map both to the source frames first, see map_to_frames."
                )
        numbers = self.numbers or tuple(range(1, len(self.mask) + 1))
        if len(numbers) != len(self.mask):
            raise ValueError(
                f"numbers must be one per frame, {len(self.mask)}, got {len(numbers)}. "
                "Leave them out to count from 1."
            )
        object.__setattr__(self, "numbers", numbers)

    @property
    def in_plane_spacing(self) -> tuple[float, float]:
        """Distance between rows and between columns, mm."""
        along, down = np.linalg.norm(self.affine_lps[:3, :2], axis=0)
        return float(down), float(along)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between frames along their normal, between rows and between columns, mm."""
        volume = abs(float(np.linalg.det(self.affine_lps[:3, :3])))
        down, along = self.in_plane_spacing
        return volume / (down * along), down, along

    @property
    def verdict(self) -> str:
        """What was decided, in a few words; Dice and volume of this mask are in `facts`."""
        is_short = self.record.outcome == OutcomeName.ADAPTED and self.record.focus.found_by in (
            "",
            "identity",
        )
        return describe_record(self.record, max_length=30 if is_short else 168)

    @property
    def masks(self) -> tuple[NDArray[np.uint8], ...]:
        """Final mask, and the source's if it is known."""
        return (self.mask,) if self.source is None else (self.mask, self.source)

    @cached_property
    def most_changed(self) -> int | None:
        """Frame with most pixels changed from the source's mask; None if none is changed."""
        if self.source is None or (self.source == self.mask).all():
            return None
        return int((self.source != self.mask).sum(axis=(1, 2)).argmax())

    def dice(self, label: int | None = None) -> float:
        """Overlap of one label, or of all, with the source's mask, in [0, 1]; 1 without one."""
        if self.source is None:
            return 1.0
        is_one = [mask > 0 if label is None else mask == label for mask in self.masks]
        both = (is_one[0] & (self.mask == self.source)).sum()
        total = is_one[0].sum() + is_one[1].sum()
        return float(2 * both / total) if total else 1.0

    def choose_frames(self) -> list[int]:
        """Choose slices evenly over the extent of both masks, the most changed one among them."""
        occupied = np.flatnonzero(self._any_mask().any(axis=(1, 2)))
        if not occupied.size:
            return _spread(0, len(self.numbers) - 1, SLICES_OF_AN_EMPTY_MASK)
        frames = _spread(int(occupied[0]), int(occupied[-1]), MOST_SLICES)
        if self.most_changed is not None:
            nearest = int(np.argmin(np.abs(np.asarray(frames) - self.most_changed)))
            frames[nearest] = self.most_changed
        return frames

    def crop(self, *, aspect: float) -> tuple[slice, slice]:
        """Choose rows and columns around both masks, with room to see what surrounds them.

        Args:
            aspect: Wanted width to height in mm; a frame too small for it gives less.

        Returns:
            Rows and columns; whole frames where nothing is segmented.
        """
        outline = np.asarray(self._any_mask().any(axis=0))
        if not outline.any():
            return slice(0, outline.shape[0]), slice(0, outline.shape[1])
        spacings = self.in_plane_spacing
        occupied = [np.flatnonzero(outline.any(axis=1)), np.flatnonzero(outline.any(axis=0))]
        tall, wide = (
            max(np.ptp(found) * spacing * (1 + 2 * MARGIN_SHARE), SMALLEST_CROP_MM)
            for found, spacing in zip(occupied, spacings, strict=True)
        )
        extents = max(tall, wide / aspect), max(wide, tall * aspect)
        rows, columns = (
            _widen(found, round(extent / spacing), size)
            for found, extent, spacing, size in zip(
                occupied, extents, spacings, outline.shape, strict=True
            )
        )
        return rows, columns

    def grey_window(self, frames: list[int], crop: tuple[slice, slice]) -> tuple[float, float]:
        """Intensities of black and white: percentiles of what is shown."""
        shown = self.voxels[frames][:, crop[0], crop[1]]
        shown = shown[np.isfinite(shown)]
        low, high = np.percentile(shown, GREY_PERCENTILES) if shown.size else (0.0, 1.0)
        return float(low), float(high if high > low else low + 1)

    def letters(self) -> tuple[str, str, str, str]:
        """Where left, right, top and bottom of a frame point to in the patient."""
        directions = self.affine_lps[:3, :2] / np.linalg.norm(self.affine_lps[:3, :2], axis=0)
        along, down = directions.T
        return _letter(-along), _letter(along), _letter(-down), _letter(down)

    def areas(self, mask: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Foreground of each frame in cm²."""
        pixel = float(np.prod(self.in_plane_spacing)) / 100
        return np.asarray((mask > 0).sum(axis=(1, 2)) * pixel, dtype=np.float64)

    def millilitres(self, mask: NDArray[np.uint8], label: int) -> float:
        """Volume of one label."""
        voxel = abs(float(np.linalg.det(self.affine_lps[:3, :3]))) / 1000
        return float((mask == label).sum() * voxel)

    def size(self, label: int) -> SegmentSize:
        """Size of one label in the final mask."""
        return measure_segment(self.mask, label, spacing=self.spacing)

    def labels(self) -> dict[int, str]:
        """Numbers and names of every segment, those without a pixel too."""
        found = {int(label) for mask in self.masks for label in np.unique(mask)} - {0}
        return {**self.names, **{k: f"segment {k}" for k in sorted(found - set(self.names))}}

    @cached_property
    def colours(self) -> dict[int, Colour]:
        """Of the outlines of several labels; empty for one, see `choose_colours`."""
        return choose_colours(self.labels())

    def present(self) -> dict[int, str]:
        """Numbers and names of the segments that one of both masks has."""
        found = {int(label) for mask in self.masks for label in np.unique(mask)}
        return {number: name for number, name in self.labels().items() if number in found}

    def facts(self) -> list[str]:
        """Volumes, agreement and recipe, each in a few words."""
        facts = [self._describe_volume(*named) for named in self.labels().items()]
        if not self._any_mask().any():
            facts = ["NOTHING SEGMENTED", *facts]
        elif self.source is not None:
            is_same = self.most_changed is None
            facts.append("no pixel changed" if is_same else f"Dice to source {self.dice():.3f}")
        return [*facts, f"recipe {self.record.recipe.get('name', 'unnamed')}"]

    def _describe_volume(self, number: int, name: str) -> str:
        size = self.size(number)
        across = f", {size.long_axis_mm:.0f} mm across" if size.pixels else ""
        if self.source is None:
            return f"{name} {size.volume_ml:.1f} ml{across}"
        source = self.millilitres(self.source, number)
        change = f", {size.volume_ml / source - 1:+.0%}" if source else ""
        return f"{name} {size.volume_ml:.1f} ml (source {source:.1f} ml{change}){across}"

    def _any_mask(self) -> NDArray[np.bool_]:
        return np.asarray(np.any([mask > 0 for mask in self.masks], axis=0), dtype=np.bool_)


def choose_bar(width_mm: float) -> int:
    """Choose the length of a scale bar, mm: the longest that leaves most of the width free."""
    return max((bar for bar in BARS_MM if bar <= LARGEST_BAR * width_mm), default=BARS_MM[0])


def _spread(first: int, last: int, most: int) -> list[int]:
    count = min(most, last - first + 1)
    return [round(float(v)) for v in np.linspace(first, last, count)]


def _widen(occupied: NDArray[np.intp], extent: int, size: int) -> slice:
    """Span `extent` pixels around what is occupied, moved to lie within the frame."""
    extent = min(max(extent, int(np.ptp(occupied)) + 1), size)
    start = (int(occupied[0]) + int(occupied[-1]) + 1 - extent) // 2
    start = min(max(start, 0), size - extent)
    return slice(start, start + extent)


def _letter(direction: NDArray[np.float64]) -> str:
    """Name a direction by its largest share first, as PatientOrientation does."""
    order = np.argsort(-np.abs(direction), kind="stable")
    return "".join(
        LETTERS[axis][int(direction[axis] > 0)]
        for axis in order
        if abs(direction[axis]) > SMALLEST_SHARE
    )
