"""Parse the header of one file, in the sandbox; checks are made elsewhere, no pixel is decoded.

Decisions:

- The file meta comes first: a deflated data set is rejected before pydicom would inflate it.
- Only the elements named here are kept; pydicom skips the others without reading them.
- Text that is no number becomes NaN, so that the later check of its value names the attribute.
- No text of an element goes into an error.

Imports stay light: standard library, pydicom, and modules of ours that import no more.
"""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydicom.datadict import dictionary_has_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.budget import BudgetedFile, quiet_pydicom, unreadable
from grata_monai.read.dicom.elements import (
    IDENTITY,
    describe_planes,
    has_unclear_text,
    read_padding,
    read_text,
    read_texts,
    read_whole,
)
from grata_monai.read.dicom.philips import PRIVATE_TAGS
from grata_monai.read.dicom.pixels import PixelSurvey, survey_encapsulated, survey_native
from grata_monai.read.dicom.rejection import Reason

__all__ = ["parse_header"]

PIXEL_TAGS = frozenset({0x7FE00010, 0x7FE00008, 0x7FE00009})
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = (IMPLICIT, "1.2.840.10008.1.2.1", BIG_ENDIAN)
DEFLATED = (
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.95",
    "1.2.840.10008.1.2.4.205",
)
UID_KEYWORDS = {
    "sop_class_uid": "SOPClassUID",
    "sop_instance_uid": "SOPInstanceUID",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
}
TEXT_KEYWORDS = {
    "frame_of_reference_uid": "FrameOfReferenceUID",
    "body_part": "BodyPartExamined",
    "description": "SeriesDescription",
    "photometric": "PhotometricInterpretation",
    "presentation": "PixelPresentation",
}
WHOLE_KEYWORDS = {
    "rows": "Rows",
    "columns": "Columns",
    "frames": "NumberOfFrames",
    "samples": "SamplesPerPixel",
    "bits_allocated": "BitsAllocated",
    "bits_stored": "BitsStored",
    "high_bit": "HighBit",
    "is_signed": "PixelRepresentation",
}
OTHER_KEYWORDS = (
    "ImageType",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "DiffusionBValue",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SpecificCharacterSet",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
TAGS: list[BaseTag | int] = [
    Tag(cast(int, tag_for_keyword(keyword)))
    for keyword in (
        *UID_KEYWORDS.values(),
        *TEXT_KEYWORDS.values(),
        *WHOLE_KEYWORDS.values(),
        *OTHER_KEYWORDS,
        *IDENTITY,
    )
]
TAGS += PRIVATE_TAGS
LONGEST_UID = 64


def parse_header(request: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what a file is, and of a DICOM instance what its header says.

    Args:
        request: ``path`` of the file, ``header_bytes`` that may be read before its pixels.

    Returns:
        JSON values: ``kind`` is taken by the sandbox, so ``what`` is ``foreign`` (no DICOM),
        ``directory`` (DICOMDIR), or ``instance`` with the fields of `Header`.

    Raises:
        DicomError: If the header cannot be read.
    """
    with quiet_pydicom(), _open(request["path"]) as file:
        source = BudgetedFile(file, int(request["header_bytes"]))
        if not _is_dicom(source):
            return {"what": "foreign"}
        meta = _read_meta(source)
        if read_text(meta, "MediaStorageSOPClassUID") == MEDIA_DIRECTORY:
            return {"what": "directory"}
        syntax = _check_syntax(meta)
        dataset, pixel_element = _read_elements(source, syntax)
        return {
            "what": "instance",
            "transfer_syntax_uid": syntax,
            **_describe(dataset),
            **_describe_pixels(file, syntax, pixel_element, dataset),
        }


@contextmanager
def _open(path: str) -> Generator[BinaryIO, None, None]:
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise unreadable(f"must be readable, got {type(error).__name__}") from error


def _is_dicom(source: BudgetedFile) -> bool:
    """Whether the prefix is there; raise where only the preamble is missing."""
    head = source.read(132)
    source.is_cut = False
    source.seek(0)
    if head[128:] == b"DICM":
        return True
    if head[:4] == b"DICM" or _starts_data_set(head):
        raise unreadable("must begin with the 128-byte preamble and the file meta information")
    return False


def _starts_data_set(head: bytes) -> bool:
    """Whether the bytes look like the first element of a data set, in either byte order."""
    for order in ("little", "big"):
        group, element = (int.from_bytes(head[i : i + 2], order) for i in (0, 2))
        is_vr = head[4:6] in (b"UL", b"UI", b"CS", b"OB", b"SH", b"DA", b"TM")
        is_short = int.from_bytes(head[4:8], "little") < 128
        is_known = group in (0x0002, 0x0008) and dictionary_has_tag(group << 16 | element)
        if len(head) >= 16 and is_known and (is_vr or (is_short and order == "little")):
            return True
    return False


def _read_meta(source: BudgetedFile) -> Dataset:
    """Read group 0002, as pydicom does, but nothing after it; the data set comes next."""
    try:
        source.seek(132)
        meta = read_dataset(
            cast(Any, source), False, True, stop_when=lambda tag, _, __: tag >> 16 != 2
        )
    except Exception as error:
        raise _name_failure(source, error) from None
    return meta


def _check_syntax(meta: Dataset) -> str:
    syntax = read_text(meta, "TransferSyntaxUID")
    if not syntax or len(syntax) > LONGEST_UID:
        raise unreadable("must name its transfer syntax in the file meta information")
    if syntax in DEFLATED:
        raise DicomError(
            f"Data set must not be deflated, the file's syntax is {UID(syntax).name}.",
            reason=Reason.DEFLATED.value,
        )
    return syntax


def _read_elements(source: BudgetedFile, syntax: str) -> tuple[Dataset, tuple[int, int, int]]:
    """Read up to the pixels; also their tag, first byte and length (0, 0, 0 without pixels).

    Where elements have a type though the syntax says that they have none, or the other way round,
    pydicom sees it by the first one.
    """
    found = [(0, 0, 0)]

    def is_pixels(tag: BaseTag, _: str | None, length: int) -> bool:
        if int(tag) not in PIXEL_TAGS:  # a BaseTag compares slowly
            return False
        found[0] = (int(tag), source.tell(), length)
        return True

    try:
        dataset = read_dataset(
            cast(Any, source),
            syntax == IMPLICIT,
            syntax != BIG_ENDIAN,
            stop_when=is_pixels,
            specific_tags=TAGS,
        )
    except Exception as error:
        raise _name_failure(source, error) from None
    if source.is_cut:
        raise unreadable("must be complete, it ends within its header")
    return dataset, found[0]


def _describe(dataset: Dataset) -> dict[str, Any]:
    uids = {name: read_text(dataset, keyword) for name, keyword in UID_KEYWORDS.items()}
    for name, uid in uids.items():
        if not 0 < len(uid) <= LONGEST_UID:
            raise unreadable(
                f"must have a {UID_KEYWORDS[name]} of 1 to {LONGEST_UID} characters, has {len(uid)}"
            )
    texts = {name: read_text(dataset, keyword) for name, keyword in TEXT_KEYWORDS.items()}
    wholes = {name: read_whole(dataset, keyword) for name, keyword in WHOLE_KEYWORDS.items()}
    if "NumberOfFrames" not in dataset:
        wholes["frames"] = 1
    return {
        **uids,
        **texts,
        **wholes,
        "image_type": read_texts(dataset, "ImageType"),
        "has_lookup_table": "ModalityLUTSequence" in dataset,
        "has_unclear_text": has_unclear_text(dataset),
        "padding": read_padding(dataset),
    }


def _describe_pixels(
    file: BinaryIO, syntax: str, element: tuple[int, int, int], dataset: Dataset
) -> dict[str, Any]:
    """Where each frame's pixels are, if they are found without decoding."""
    tag, start, length = element
    size = os.fstat(file.fileno()).st_size
    is_native = syntax in NATIVE
    if tag == 0:
        survey = PixelSurvey(False, 0)
    elif is_native:
        survey = survey_native(start=start, length=length, file_size=size)
    else:
        survey = survey_encapsulated(file, start=start, length=length, file_size=size)
    try:
        planes = describe_planes(dataset)
    except Exception as error:
        raise unreadable(f"must have readable functional groups, {type(error).__name__}") from None
    return {
        "pixel_tag": tag,
        "pixel_start": start,
        "is_native": is_native,
        "is_complete": survey.is_complete,
        "available_bytes": survey.available,
        "fragments": [list(fragment) for fragment in survey.fragments],
        "planes": planes,
    }


def _name_failure(source: BudgetedFile, error: Exception) -> DicomError:
    if isinstance(error, MemoryError):
        raise error
    if source.is_exhausted:
        return unreadable("must keep the header within its limit of bytes")
    return unreadable(f"must follow DICOM's file format, reading ends in {type(error).__name__}")
