"""Hold one segmented case as every DICOM object is written from it."""

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from grata_monai.read.dicom.decode import decode_volume
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.volume import DicomVolume
from grata_monai.record import Record
from grata_monai.write.dicom.coded_concepts import Segment, check_numbers
from grata_monai.write.dicom.instance import Instance
from grata_monai.write.dicom.source import is_multiframe, quiet, read_source_headers
from grata_monai.write.pictures.sheet import Sheet

__all__ = ["SegmentedCase", "describe_patient", "number_frames"]

LARGEST_NUMBER = 99_999  # what fits in a tile
BROKEN = (AttributeError, InvalidDicomError, TypeError, ValueError)


@dataclass(frozen=True, eq=False)
class SegmentedCase:
    """Everything that DICOM objects of one case are made from.

    Arrays lie on the source's frames: (frames, rows, columns), in the order of `volume.frames`.

    Attributes:
        masks: Label of every pixel, uint8; 0 is background.
        volume: The source.
        segments: What the labels 1, 2, 3, … mean.
        record: Of the case.
        source: The source network's labels, uint8; None if they are not known.
        probabilities: Of each segment, without background, in [0, 1], (segments, frames, rows,
            columns); only a ``FRACTIONAL`` segmentation needs them.
        segmentation: The segmentation of these masks, to which other objects refer; None before
            it is written.
        voxels: Intensities, float32; decoded when a picture asks for them if not given.
        limits: For decoding them.

    Raises:
        ValueError: If shape, type or labels of the masks, or the segments' numbers, break a rule.
    """

    masks: NDArray[Any]
    volume: DicomVolume
    segments: tuple[Segment, ...]
    record: Record
    source: NDArray[np.uint8] | None = None
    probabilities: NDArray[Any] | None = None
    segmentation: Instance | None = None
    voxels: NDArray[np.float32] | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Check that the masks lie on the volume's frames, and that every label has a meaning."""
        check_numbers(self.segments)
        masks, expected = self.masks, self.volume.spatial_shape[::-1]
        if masks.shape != expected or masks.dtype != np.uint8:
            raise ValueError(
                f"masks must be uint8 of shape {expected} (frames, rows, columns), got "
                f"{masks.dtype} of {masks.shape}. Map the label map to the source's frames first."
            )
        if int(masks.max(initial=0)) > len(self.segments):
            raise ValueError(
                f"masks must hold labels up to {len(self.segments)}, the number of segments, got "
                f"{int(masks.max())}. Describe every label in the bundle's metadata."
            )

    @cached_property
    def sheet(self) -> Sheet:
        """The contact sheet of the case; made once, decodes the source's pixels if it must."""
        voxels = self.voxels
        if voxels is None:
            voxels = decode_volume(self.volume, limits=self.limits).transpose(2, 1, 0)
        return Sheet(
            voxels=voxels,
            mask=self.masks,
            affine_lps=self.volume.affine_lps,
            record=self.record,
            names={segment.number: segment.label for segment in self.segments},
            source=self.source,
            numbers=number_frames(self.volume),
        )


def describe_patient(volume: DicomVolume) -> str:
    """Say whose images these are, for pictures that go into a DICOM object, and nowhere else.

    Args:
        volume: The source.

    Returns:
        Patient, date and study, series; what the source does not say is left out.

    Raises:
        DicomError: If the source can no longer be read.
    """
    header = read_source_headers(volume)[0]
    name, date = str(header.get("PatientName", "")), str(header.get("StudyDate", ""))
    found = (
        " ".join(name.split("=", maxsplit=1)[0].replace("^", " ").split()),
        str(header.get("PatientID", "")).strip(),
        f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == len("YYYYMMDD") else "",
        str(header.get("StudyDescription", "")).strip(),
        volume.description.strip(),
    )
    return "   ·   ".join(text for text in found if text)


def number_frames(volume: DicomVolume) -> tuple[int, ...]:
    """Number frames as a PACS does: InstanceNumber, or the frame's number in its file.

    Args:
        volume: The source.

    Returns:
        One number per frame; 1, 2, 3, … where the source has no valid and distinct ones.
    """
    frames = volume.frames
    if is_multiframe(volume):
        found = [frame.number for frame in frames]
    else:
        found = [_read_instance_number(frame.file) for frame in frames]
    is_usable = len(set(found)) == len(frames) and 0 <= min(found) <= max(found) <= LARGEST_NUMBER
    return tuple(found if is_usable else range(1, len(frames) + 1))


def _read_instance_number(file: Path) -> int:
    """Read InstanceNumber; -1 without a valid one."""
    with quiet(), suppress(OSError, *BROKEN):
        return int(
            dcmread(file, stop_before_pixels=True, specific_tags=["InstanceNumber"]).InstanceNumber
        )
    return -1
