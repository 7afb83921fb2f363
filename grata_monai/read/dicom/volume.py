"""Describe one DICOM volume: its frames, their order, and where each lies in the patient."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["DicomVolume", "SourceFrame"]

Point = tuple[float, float, float]
Float64 = NDArray[np.float64]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class SourceFrame:
    """One plane of pixels, as it lies in a file.

    Attributes:
        file: Where.
        number: Frame within the file, counted from 1 as DICOM does; 1 in a single-frame file.
        sop_instance_uid: Of the file.
        position_lps: Centre of its first pixel (ImagePositionPatient), mm.
        slope: From stored values to intensities (RescaleSlope).
        intercept: Likewise (RescaleIntercept).
        padding: The lowest and the highest stored value that stand for no image; may be empty.
    """

    file: Path
    number: int
    sop_instance_uid: str
    position_lps: Point
    slope: float = 1.0
    intercept: float = 0.0
    padding: tuple[float, ...] = ()


@dataclass(frozen=True)
class DicomVolume:
    """Frames that triage has accepted as one regular volume.

    The stack of its frames has the axes (column, row, frame): x along a row of pixels, y down a
    column, z from frame to frame. Frames are ordered along the normal of the planes
    (`row_direction` × `column_direction`).

    Attributes:
        name: Safe for a file name: a hash of the series UID, with a suffix where one series holds
            several volumes.
        frames: In the order of the stack; at least 2.
        rows: Pixels down a column.
        columns: Pixels along a row.
        row_direction: First half of ImageOrientationPatient, a unit vector in LPS.
        column_direction: Its second half.
        row_spacing: Distance between rows in mm, the first value of PixelSpacing.
        column_spacing: Distance between columns in mm, its second value.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        frame_of_reference_uid: FrameOfReferenceUID; empty if triage was told to allow that.
        sop_class_uid: Of its instances.
        transfer_syntax_uids: Of its files, each once.
        modality: ``MR`` or ``CT``.
        body_part: BodyPartExamined, or empty.
        description: SeriesDescription, or empty. May name the patient: never into a log.
        image_type: ImageType, all values.
        notes: What triage left out or saw, in plain words without identifiers.
    """

    name: str
    frames: tuple[SourceFrame, ...]
    rows: int
    columns: int
    row_direction: Point
    column_direction: Point
    row_spacing: float
    column_spacing: float
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    sop_class_uid: str
    transfer_syntax_uids: tuple[str, ...]
    modality: str
    body_part: str = ""
    description: str = ""
    image_type: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def spatial_shape(self) -> tuple[int, int, int]:
        """Columns, rows, frames."""
        return self.columns, self.rows, len(self.frames)

    @cached_property
    def step(self) -> Float64:
        """From one frame's first pixel to the next one's, LPS in mm, shape (3,)."""
        first, last = (np.asarray(self.frames[i].position_lps) for i in (0, -1))
        return np.asarray((last - first) / (len(self.frames) - 1), dtype=np.float64)

    @cached_property
    def normal(self) -> Float64:
        """Unit normal of the planes, LPS, shape (3,)."""
        return np.cross(self.row_direction, self.column_direction)

    @property
    def slice_spacing(self) -> float:
        """Distance of neighbouring planes along their normal, mm; a tilt does not lengthen it."""
        return abs(float(self.step @ self.normal))

    @cached_property
    def affine_lps(self) -> Float64:
        """4×4, index (column, row, frame) to LPS in mm; sheared if the gantry was tilted."""
        affine = np.eye(4)
        affine[:3, 0] = np.asarray(self.row_direction) * self.column_spacing
        affine[:3, 1] = np.asarray(self.column_direction) * self.row_spacing
        affine[:3, 2] = self.step
        affine[:3, 3] = self.frames[0].position_lps
        return affine

    @property
    def affine_ras(self) -> Float64:
        """4×4, index (column, row, frame) to RAS in mm."""
        return np.asarray(LPS_TO_RAS @ self.affine_lps, dtype=np.float64)

    @property
    def tilt_degrees(self) -> float:
        """Angle between the step and the planes' normal; 0 for an orthogonal stack."""
        along = float(self.step @ self.normal)
        across = float(np.linalg.norm(self.step - along * self.normal))
        return float(np.degrees(np.arctan2(across, along)))
