"""Order the slices of one volume, check that they are regular, and make the volume."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from grata_monai.read.dicom.headers import Slice
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.philips import find_rescales
from grata_monai.read.dicom.policy import modality_of
from grata_monai.read.dicom.rejection import Reason, reject
from grata_monai.read.dicom.volume import DicomVolume, SourceFrame

__all__ = ["make_volume"]

RELATIVE_TOLERANCE = 0.01  # of the spacing
ABSOLUTE_TOLERANCE = 0.05  # mm
ROUNDING = 1e-6  # mm
LARGEST_TILT = 45.0  # degrees; gantries stop at 30
NOTED_TILT = 0.1  # degrees
SPACING_RANGE = (0.01, 100.0)  # mm
FLOAT32_BYTES = 4

Float64 = NDArray[np.float64]


def make_volume(
    slices: Sequence[Slice], *, name: str, notes: tuple[str, ...], limits: Limits
) -> DicomVolume:
    """Make one volume of slices at different places.

    Args:
        slices: In any order; alike in orientation, size and spacing.
        name: Of the volume.
        notes: What was left out.
        limits: Pixel budget.

    Returns:
        The volume, its frames ordered along the normal of their planes.

    Raises:
        DicomError: If slices are too few, missing, irregularly spaced, displaced, or too large.
    """
    first = slices[0].plane
    row, column = (_as_point(first.orientation[i : i + 3]) for i in (0, 3))
    normal = np.cross(row, column)
    levels = np.asarray([s.plane.position for s in slices]) @ normal
    ordered = [slices[i] for i in np.argsort(levels, kind="stable")]
    _check_count(ordered, limits)
    _check_regular(np.asarray([s.plane.position for s in ordered], dtype=np.float64), normal)
    header = ordered[0].header
    rescales = [(s.plane.slope, s.plane.intercept) for s in ordered]
    comparable = find_rescales([s.plane.scale for s in ordered], rescales)
    if comparable != rescales:
        notes = (*notes, "Philips' scale slope differs between slices: applied")
    volume = DicomVolume(
        name=name,
        frames=tuple(map(_make_frame, ordered, comparable)),
        rows=header.rows,
        columns=header.columns,
        row_direction=row,
        column_direction=column,
        row_spacing=first.spacing[0],
        column_spacing=first.spacing[1],
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        frame_of_reference_uid=header.frame_of_reference_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uids=tuple(sorted({s.header.transfer_syntax_uid for s in ordered})),
        modality=modality_of(header.sop_class_uid),
        body_part=header.body_part,
        description=header.description,
        image_type=ordered[0].plane.frame_type or header.image_type,
        notes=notes,
    )
    return _with_tilt(volume)


def _as_point(values: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = values
    return x, y, z


def _make_frame(item: Slice, rescale: tuple[float, float]) -> SourceFrame:
    return SourceFrame(
        file=item.header.file,
        number=item.plane.number,
        sop_instance_uid=item.header.sop_instance_uid,
        position_lps=_as_point(item.plane.position),
        slope=rescale[0],
        intercept=rescale[1],
        padding=item.header.padding,
    )


def _with_tilt(volume: DicomVolume) -> DicomVolume:
    if volume.tilt_degrees <= NOTED_TILT:
        return volume
    note = f"tilted by {volume.tilt_degrees:.1f}°: resampled for the network, mapped back after"
    return replace(volume, notes=(*volume.notes, note))


def _check_count(slices: Sequence[Slice], limits: Limits) -> None:
    if len(slices) < 2:
        raise reject(
            Reason.TOO_FEW_SLICES, f"A volume must have at least 2 slices, found {len(slices)}."
        )
    header = slices[0].header
    needed = header.rows * header.columns * len(slices) * FLOAT32_BYTES
    if needed > limits.pixel_budget_bytes:
        raise reject(
            Reason.OVER_PIXEL_BUDGET,
            f"Voxels of a volume must take at most {limits.pixel_budget_bytes} bytes as 32-bit "
            f"floating point, these take {needed}.",
        )


def _check_regular(positions: Float64, normal: Float64) -> None:
    gaps = np.diff(positions @ normal)
    _check_missing(gaps)
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    spacing = float(step @ normal)
    tolerance = _tolerance(spacing)
    grid = positions[0] + np.arange(len(positions))[:, None] * step
    displacement = float(np.linalg.norm(positions - grid, axis=1).max())
    if np.abs(gaps - spacing).max() > tolerance or displacement > tolerance:
        raise reject(
            Reason.IRREGULAR_SPACING,
            f"Slices must lie on a regular grid within {tolerance:.3g} mm, found gaps of "
            f"{gaps.min():.4g} to {gaps.max():.4g} mm and displacements up to "
            f"{displacement:.3g} mm.",
        )
    low, high = SPACING_RANGE
    if not low <= spacing <= high:
        raise reject(
            Reason.INVALID_GEOMETRY,
            f"Slices must lie {low} to {high:g} mm apart, found {spacing:.4g} mm.",
        )
    tilt = float(np.degrees(np.arccos(np.clip(spacing / np.linalg.norm(step), -1, 1))))
    if tilt > LARGEST_TILT:
        raise reject(
            Reason.INVALID_GEOMETRY,
            f"Slices must be stacked within {LARGEST_TILT:g}° of their normal, found {tilt:.1f}°.",
        )


def _check_missing(gaps: Float64) -> None:
    """Reject gaps of which some are a multiple of the smallest."""
    unit = float(gaps.min())
    if unit <= 4 * ABSOLUTE_TOLERANCE:
        return
    counts = np.rint(gaps / unit)
    spacing = float((gaps / counts).mean())
    is_multiple = np.abs(gaps - counts * spacing) <= counts * _tolerance(spacing)
    if counts.max() > 1 and is_multiple.all():
        missing = int((counts - 1).sum())
        raise reject(
            Reason.MISSING_SLICES,
            f"Slices must follow each other every {spacing:.4g} mm, {missing} missing in "
            f"{int((counts > 1).sum())} gap(s) of up to {gaps.max():.4g} mm.",
        )


def _tolerance(spacing: float) -> float:
    return max(RELATIVE_TOLERANCE * spacing, ABSOLUTE_TOLERANCE) + ROUNDING
