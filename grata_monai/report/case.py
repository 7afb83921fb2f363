"""Hold one case as its report shows it: image, masks and record, cut into the three planes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from grata_monai.record import Record
from grata_monai.write.pictures.colours import to_hex
from grata_monai.write.pictures.sheet import Sheet

__all__ = ["PLANES", "ReportedCase", "Volume"]

PLANES: Mapping[str, str] = MappingProxyType({"axial": "LPS", "coronal": "LIP", "sagittal": "PIL"})
"""Where columns, rows and slices of each plane go; the patient's right is on the left."""

FEWEST_VIEWS = 2  # one alone disagrees with nobody
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Volume:
    """Size of one label.

    Attributes:
        name: Of the label.
        kept: In the mask that was kept, mL.
        source: In the source network's, mL; None if that is not known.
        dice: Overlap of both, in [0, 1]; None likewise.
        across: Longest distance within one slice of the kept mask, mm; 0 if it is empty.
        depth: From its first to its last slice, both included, mm.
        colour: Of its outlines, where there are several labels; empty for one.
    """

    name: str
    kept: float
    source: float | None
    dice: float | None
    across: float
    depth: float
    colour: str = ""

    @property
    def change(self) -> float | None:
        """Kept minus source, mL."""
        return None if self.source is None else self.kept - self.source

    @property
    def percent(self) -> float | None:
        """The same in percent of the source's volume; None without one."""
        return 100 * (self.kept / self.source - 1) if self.source else None


@dataclass(frozen=True, eq=False)
class ReportedCase:
    """One case, as far as a report shows it. All arrays lie on one grid, (x, y, z).

    Attributes:
        name: Of the case; its files are called so.
        text: The record as JSON.
        voxels: Intensities.
        kept: Label map that was written.
        affine_ras: 4×4, voxel index to RAS in mm.
        source: The source network's label map; None if it is not known.
        marked: Bit k is set where magnification k marks foreground; None if that is not known.
        names: Of the labels.
        group: Scanner or centre, by which cases are told apart over time; may be empty.

    Raises:
        ValueError: If an array is not as large as the image.
    """

    name: str
    text: str
    voxels: NDArray[np.float32]
    kept: NDArray[np.uint8]
    affine_ras: NDArray[np.float64]
    source: NDArray[np.uint8] | None = None
    marked: NDArray[np.uint8] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    group: str = ""

    def __post_init__(self) -> None:
        """Check that everything lies on the image's grid."""
        for key in ("kept", "source", "marked"):
            array = getattr(self, key)
            if array is not None and array.shape != self.voxels.shape:
                raise ValueError(
                    f"{key} must be as large as the image, {self.voxels.shape}, got {array.shape}. "
                    "Invert it with the mask in postprocessing."
                )

    @cached_property
    def record(self) -> Record:
        """What was done."""
        return Record.from_json(self.text)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The record as plain values, with keys that this version does not know."""
        return dict(json.loads(self.text))

    @cached_property
    def sheets(self) -> dict[str, Sheet]:
        """The slices of each plane, as a reader holds them up."""
        return {plane: self._cut(codes) for plane, codes in PLANES.items()}

    @property
    def best_plane(self) -> str:
        """The plane that was acquired: the one whose slices lie furthest apart."""
        return max(PLANES, key=lambda plane: _slice_distance(self.sheets[plane]))

    @property
    def foreign_percentile(self) -> float | None:
        """Percent of source cases that look less foreign; None if the record does not say."""
        shift = self.record.shift
        return None if shift is None else shift.percentile

    def volumes(self) -> list[Volume]:
        """The size of every label."""
        sheet = self.sheets[self.best_plane]
        sizes = {name: (label, sheet.size(label)) for label, name in sheet.labels().items()}
        return [
            Volume(
                name,
                size.volume_ml,
                None if sheet.source is None else sheet.millilitres(sheet.source, label),
                None if sheet.source is None else sheet.dice(label),
                size.long_axis_mm,
                size.depth_mm,
                to_hex(sheet.colours[label]) if label in sheet.colours else "",
            )
            for name, (label, size) in sizes.items()
        ]

    def marks(self, plane: str) -> NDArray[np.uint8] | None:
        """Cut what the magnifications mark as `sheets` are cut: (frames, rows, columns)."""
        if self.marked is None or not self.marked.any():
            return None
        turned: NDArray[np.uint8] = self._turn(self.marked, PLANES[plane])
        return turned

    def doubt(self, plane: str) -> NDArray[np.bool_] | None:
        """Cut likewise where some magnifications mark foreground and others do not."""
        marks = self.marks(plane)
        count = min(8, len(self.record.focus.windows))
        if marks is None or count < FEWEST_VIEWS:
            return None
        return np.asarray((marks > 0) & (marks != 2**count - 1), dtype=np.bool_)

    def _cut(self, codes: str) -> Sheet:
        shape = self.voxels.shape
        affine = self.affine_ras @ inv_ornt_aff(self._way(codes), shape)
        return Sheet(
            voxels=self._turn(self.voxels, codes),
            mask=self._turn(self.kept, codes),
            affine_lps=_LPS_FROM_RAS @ affine,
            record=self.record,
            names=self.names,
            source=None if self.source is None else self._turn(self.source, codes),
        )

    def _way(self, codes: str) -> NDArray[np.float64]:
        here = io_orientation(self.affine_ras)
        return np.asarray(ornt_transform(here, axcodes2ornt(tuple(codes))), dtype=np.float64)

    def _turn(self, array: NDArray[Any], codes: str) -> Any:
        """Turn axes without resampling, to (frames, rows, columns)."""
        return nib.apply_orientation(array, self._way(codes)).transpose(2, 1, 0)

    def cropped(self, margin_mm: float) -> "ReportedCase":
        """Cut away what lies further than a margin from everything that is marked."""
        masks = [mask for mask in (self.kept, self.source, self.marked) if mask is not None]
        found = np.argwhere(np.any([mask > 0 for mask in masks], axis=0))
        if not len(found):
            return self
        reach = np.ceil(margin_mm / np.linalg.norm(self.affine_ras[:3, :3], axis=0)).astype(int)
        low = np.maximum(found.min(0) - reach, 0)
        high = found.max(0) + reach + 1
        part = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
        affine = self.affine_ras.copy()
        affine[:3, 3] += affine[:3, :3] @ low
        return replace(
            self,
            affine_ras=affine,
            voxels=self.voxels[part],
            kept=self.kept[part],
            source=None if self.source is None else self.source[part],
            marked=None if self.marked is None else self.marked[part],
        )


def _slice_distance(sheet: Sheet) -> float:
    return float(np.linalg.norm(sheet.affine_lps[:3, 2]))
