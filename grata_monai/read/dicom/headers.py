"""Read the headers of DICOM files in the sandbox, and hold them as plain typed values."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.parse import parse_header
from grata_monai.read.dicom.rejection import Reason, reject
from grata_monai.read.dicom.sandbox import run_each

__all__ = ["FileKind", "Header", "Plane", "Slice", "read_headers"]

FileKind = str  # "foreign": no DICOM; "directory": a DICOMDIR

INTEGER_PIXELS = 0x7FE00010
LITTLE_ENDIAN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")


@dataclass(frozen=True)
class Plane:
    """What a header says of one frame; its numbers have not been checked.

    Attributes:
        number: Within the file, from 1.
        position: ImagePositionPatient, LPS in mm; three numbers in a good file.
        orientation: ImageOrientationPatient; six numbers in a good file.
        spacing: PixelSpacing in mm, rows then columns; two numbers in a good file.
        slope: RescaleSlope, 1 where absent.
        intercept: RescaleIntercept, 0 where absent.
        frame_type: ImageType or FrameType.
        stack: StackID of an enhanced frame.
        echo: EchoNumbers of a classic instance.
        temporal: Temporal position.
        contrast: b-value, gradient, echo time and cardiac phase.
        acquisition: AcquisitionNumber.
        component: Magnitude, phase, real or imaginary part, of an enhanced frame.
        scale: Philips' private scale slope; 0 where there is none.
    """

    number: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    slope: float
    intercept: float
    frame_type: tuple[str, ...]
    stack: str
    echo: str
    temporal: str
    contrast: str
    acquisition: str
    component: str
    scale: float


@dataclass(frozen=True)
class Header:
    """What a header says of one instance; -1 stands for a whole number that is none.

    Attributes:
        file: Where.
        transfer_syntax_uid: From the file meta information.
        sop_class_uid: What kind of object it is.
        sop_instance_uid: Of the instance.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        frame_of_reference_uid: May be empty.
        body_part: BodyPartExamined.
        description: SeriesDescription; may name the patient.
        image_type: ImageType.
        photometric: PhotometricInterpretation.
        presentation: PixelPresentation of an enhanced instance.
        rows: Rows.
        columns: Columns.
        frames: NumberOfFrames, 1 where absent.
        samples: SamplesPerPixel.
        bits_allocated: BitsAllocated.
        bits_stored: BitsStored.
        high_bit: HighBit.
        is_signed: PixelRepresentation, 0 or 1.
        has_lookup_table: Whether there is a ModalityLUTSequence.
        has_unclear_text: Whether the patient's identity does not fit its character set.
        padding: The lowest and the highest stored value that stand for no image; may be empty.
        pixel_tag: Which element holds the pixels; 0 for none.
        pixel_start: First byte of its value in the file.
        is_native: Whether the pixels are neither compressed nor encapsulated.
        is_complete: Whether the file holds all pixels that its element announces.
        available_bytes: Of pixels, as stored.
        fragments: First byte and length of each fragment of encapsulated pixels.
        planes: One per frame that the header describes.
    """

    file: Path
    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    body_part: str
    description: str
    image_type: tuple[str, ...]
    photometric: str
    presentation: str
    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: int
    has_lookup_table: bool
    has_unclear_text: bool
    padding: tuple[float, ...]
    pixel_tag: int
    pixel_start: int
    is_native: bool
    is_complete: bool
    available_bytes: int
    fragments: tuple[tuple[int, int], ...]
    planes: tuple[Plane, ...]

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8

    @property
    def is_little_endian(self) -> bool:
        """Whether the pixels are native and little-endian."""
        return self.transfer_syntax_uid in LITTLE_ENDIAN

    def pixel_range(self, number: int) -> tuple[int, int] | None:
        """First byte and length of a frame's pixels as stored; None if that takes decoding."""
        if self.is_native:
            return self.pixel_start + (number - 1) * self.frame_bytes, self.frame_bytes
        if self.frames == 1 and self.fragments:
            first, last = self.fragments[0], self.fragments[-1]
            return first[0], sum(last) - first[0]
        return self.fragments[number - 1] if len(self.fragments) == self.frames else None


@dataclass(frozen=True)
class Slice:
    """One frame of one instance.

    Attributes:
        header: Of its file.
        plane: Of the frame.
    """

    header: Header
    plane: Plane


def read_headers(
    files: Iterable[Path],
    *,
    limits: Limits,
    progress: Callable[[int, int], None] | None = None,
) -> Generator[Header | FileKind | DicomError, None, None]:
    """Read the headers of many files, one after the other, in a sandbox.

    Args:
        files: Regular files. They may come one by one, each asked for when the header of the one
            before has been taken.
        limits: Of each header.
        progress: Called with how many are done, and how many there are; needs a sequence of files.

    Yields:
        For each file its header; ``foreign`` or ``directory``; or why it cannot be read.
    """
    known = files if isinstance(files, Sequence) else None
    asked: list[Path] = []

    def requests() -> Generator[dict[str, Any], None, None]:
        for file in files:
            asked[:] = [file]
            yield {"path": str(file), "header_bytes": limits.header_bytes}

    results = run_each(parse_header, requests(), limits=limits, is_ahead=known is not None)
    for number, found in enumerate(results):
        yield _take(asked[0] if known is None else known[number], found)
        if progress and known is not None:
            progress(number + 1, len(known))


def _take(file: Path, found: Mapping[str, Any] | DicomError) -> Header | FileKind | DicomError:
    """Turn the sandbox's answer into typed values; types are checked, values may still be wrong."""
    if isinstance(found, DicomError):
        is_known = found.reason in (Reason.UNREADABLE.value, Reason.DEFLATED.value)
        reason = Reason(found.reason) if is_known else Reason.UNREADABLE
        rule = "Header must be parsed within the limits of memory and time."
        return reject(reason, str(found) if is_known else rule)
    try:
        if found["what"] in ("foreign", "directory"):
            return str(found["what"])
        return _make_header(file, found)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return reject(Reason.UNREADABLE, "Header must hold values of the types that DICOM says.")


def _make_header(file: Path, found: Mapping[str, Any]) -> Header:
    planes = tuple(_make_plane(n, plane) for n, plane in enumerate(found["planes"], start=1))
    fragments = tuple((int(start), int(length)) for start, length in found["fragments"])
    plain = {
        name: _KINDS[kind](found[name])
        for name, kind in Header.__annotations__.items()
        if name not in ("file", "fragments", "planes")
    }
    return Header(file=file, fragments=fragments, planes=planes, **plain)


def _make_plane(number: int, found: Mapping[str, Any]) -> Plane:
    plain = {
        name: _KINDS[kind](found[name])
        for name, kind in Plane.__annotations__.items()
        if name != "number"
    }
    return Plane(number=number, **plain)


def _floats(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


_KINDS: dict[object, Callable[[Any], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: bool,
    tuple[float, ...]: _floats,
    tuple[str, ...]: _texts,
}
