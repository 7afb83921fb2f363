"""What a record says of the files that were written beside it: masks, or DICOM objects."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

__all__ = ["DicomObject", "DicomSeries", "Mask", "Output", "Sha256"]

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
MadeFrom = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]


@dataclass(frozen=True)
class Mask:
    """A mask's file.

    Attributes:
        file: Its name.
        sha256: Of its voxels.
    """

    file: str
    sha256: Sha256


@dataclass(frozen=True)
class Output:
    """What was written beside the record.

    Attributes:
        file: Name of the mask's file.
        sha256: Of the mask's voxels.
        more: Further masks of the case.
        made_from: Names image, weights, recipe, settings and version together: a run with the same
            skips the case. Empty where the host does not tell.
    """

    file: str
    sha256: Sha256
    more: tuple[Mask, ...] = ()
    made_from: MadeFrom = ""


@dataclass(frozen=True)
class DicomObject:
    """A DICOM object that was written.

    Attributes:
        file: Its name.
        sop_class_uid: Its kind.
        sop_instance_uid: Its UID.
    """

    file: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class DicomSeries:
    """The DICOM series that was segmented, and what was written for it.

    Attributes:
        study: Hash of its UID, or the UID.
        series: Hash of its UID, or the UID.
        frames: Number of source frames.
        notes: What of the series was left out.
        mask_sha256: Of the frames' labels.
        objects: What was written.
        made_from: As of `Output`.
    """

    study: str
    series: str
    frames: Annotated[int, Field(ge=1)]
    notes: tuple[str, ...]
    mask_sha256: Sha256
    objects: Annotated[tuple[DicomObject, ...], Field(min_length=1)]
    made_from: MadeFrom = ""
