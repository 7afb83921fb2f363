"""Read values of untrusted data sets, in the sandbox; invalid ones become empty, NaN or -1."""

import math
import unicodedata
import warnings
from collections.abc import Iterator
from typing import Any

from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from grata_monai.read.dicom.philips import read_scale

__all__ = [
    "IDENTITY",
    "describe_planes",
    "has_unclear_text",
    "read_numbers",
    "read_padding",
    "read_text",
    "read_texts",
    "read_whole",
]

LONGEST_TEXT = 1024
IDENTITY = ("PatientName", "PatientID", "AccessionNumber", "StudyID")
DEFAULT_SETS = ("", "ISO_IR 6", "ISO 2022 IR 6")  # ASCII
ESCAPE = b"\x1b"  # changes the character set within a text
EUROPEAN = {f"ISO_IR {number}" for number in (100, 101, 109, 110, 144, 126, 138, 148, 203)}


def read_texts(dataset: Dataset, keyword: str) -> list[str]:
    """Read the values of a text; empty where it is absent or cannot be read."""
    return [str(value)[:LONGEST_TEXT].strip() for value in _read(dataset, keyword)]


def read_text(dataset: Dataset, keyword: str) -> str:
    """Read a text as one; empty where it is absent or cannot be read."""
    return "\\".join(read_texts(dataset, keyword))


def read_numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Read numbers; empty where absent, NaN for what is no number."""
    if keyword not in dataset:
        return []
    return [_as_float(value) for value in _read(dataset, keyword) or [math.nan]]


def read_whole(dataset: Dataset, keyword: str) -> int:
    """Read one whole number; -1 where it is absent, several, or none."""
    values = _read(dataset, keyword)
    if len(values) != 1 or isinstance(values[0], str | bytes):
        return -1
    number = _as_float(values[0])
    return int(number) if number.is_integer() and abs(number) < 2**53 else -1


def read_padding(dataset: Dataset) -> list[int]:
    """Read which stored values stand for no image.

    Args:
        dataset: With BitsStored and PixelRepresentation.

    Returns:
        The lowest and the highest, as they are once decoded; empty where none is declared.

    Source:
        DICOM PS3.3, C.7.5.1.1.2.
    """
    found = [_read_stored(dataset, k) for k in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    values = [value for value in found if value is not None]
    return [min(values), max(values)] if found[0] is not None else []


def _read_stored(dataset: Dataset, keyword: str) -> int | None:
    """Read a value of a pixel's type; scanners state it signed or not, whatever pixels are."""
    value = next(iter(_read(dataset, keyword)), None)
    if isinstance(value, bytes):  # implicit VR does not tell the type
        value = int.from_bytes(value[:2], "little")
    number = _as_float(value)
    bits = read_whole(dataset, "BitsStored")
    if not number.is_integer() or not 1 <= bits <= 32:
        return None
    stored: int = int(number) % (1 << bits)
    is_negative = read_whole(dataset, "PixelRepresentation") == 1 and stored >= 1 << (bits - 1)
    return stored - (1 << bits) if is_negative else stored


def has_unclear_text(dataset: Dataset) -> bool:
    """Whether the patient's identity is written in characters that its character set lacks.

    Args:
        dataset: None of whose identifying elements was looked at yet.

    Returns:
        True too where no character set is declared for what is not ASCII, and for UTF-8 or control
        characters under a set of one byte a letter, which takes any bytes without complaint.
    """
    declared = read_texts(dataset, "SpecificCharacterSet")
    has_set = any(term in python_encoding and term not in DEFAULT_SETS for term in declared)
    is_european = bool(declared) and EUROPEAN.issuperset(declared)
    for keyword in IDENTITY:
        content = _read_raw(dataset, keyword)
        if not isinstance(content, bytes) or (content.isascii() and ESCAPE not in content):
            continue
        content = content.rstrip(b"\0 ")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            is_readable = bool(_read(dataset, keyword))
        if said or not is_readable or not has_set or (is_european and _is_foreign(content)):
            return True
    return False


def _read_raw(dataset: Dataset, keyword: str) -> Any:
    """Value of an element as it was read; empty where pydicom cannot convert an empty one."""
    try:
        return getattr(dataset.get_item(keyword), "value", b"")
    except MemoryError:
        raise
    except Exception:  # as of `_read`
        return b""


def _is_foreign(content: bytes) -> bool:
    """Whether bytes that are not ASCII are UTF-8, or what no ISO 8859 set has a letter for."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return any(unicodedata.category(letter) == "Cc" for letter in content.decode("latin-1"))
    return True


def describe_planes(dataset: Dataset) -> list[dict[str, Any]]:
    """Describe each frame: position, rescale, and attributes that tell frames of one place apart.

    Args:
        dataset: Classic (one plane) or enhanced (functional groups).

    Returns:
        One dictionary of JSON values per frame, with the fields of `Plane`.
    """
    frames = _read(dataset, "PerFrameFunctionalGroupsSequence")
    shared = next(iter(_read(dataset, "SharedFunctionalGroupsSequence")), Dataset())
    if not frames:
        return [_describe_classic(dataset)]
    return [_describe_frame(frame, shared) for frame in frames]


def _describe_classic(dataset: Dataset) -> dict[str, Any]:
    return {
        "position": read_numbers(dataset, "ImagePositionPatient"),
        "orientation": read_numbers(dataset, "ImageOrientationPatient"),
        "spacing": read_numbers(dataset, "PixelSpacing"),
        **_describe_rescale(dataset),
        "frame_type": read_texts(dataset, "ImageType"),
        "stack": "",
        "echo": read_text(dataset, "EchoNumbers"),
        "temporal": read_text(dataset, "TemporalPositionIdentifier"),
        "contrast": read_text(dataset, "DiffusionBValue"),
        "acquisition": read_text(dataset, "AcquisitionNumber"),
        "component": "",
        "scale": read_scale(dataset),
    }


def _describe_frame(frame: Dataset, shared: Dataset) -> dict[str, Any]:
    def group(*keywords: str) -> Dataset:
        items = (item for k in keywords for place in (frame, shared) for item in _read(place, k))
        return next(iter(items), Dataset())

    content = group("FrameContentSequence")
    diffusion = group("MRDiffusionSequence")
    echo = group("MREchoSequence")
    cardiac = group("CardiacSynchronizationSequence")
    gradient = next(iter(_read(diffusion, "DiffusionGradientDirectionSequence")), Dataset())
    types = group("MRImageFrameTypeSequence", "CTImageFrameTypeSequence")
    contrast = (
        *read_texts(diffusion, "DiffusionBValue"),
        *read_texts(diffusion, "DiffusionDirectionality"),
        *read_texts(gradient, "DiffusionGradientOrientation"),
        *read_texts(echo, "EffectiveEchoTime"),
        *read_texts(cardiac, "NominalPercentageOfCardiacPhase"),
        *read_texts(cardiac, "NominalCardiacTriggerDelayTime"),
    )
    return {
        "position": read_numbers(group("PlanePositionSequence"), "ImagePositionPatient"),
        "orientation": read_numbers(group("PlaneOrientationSequence"), "ImageOrientationPatient"),
        "spacing": read_numbers(group("PixelMeasuresSequence"), "PixelSpacing"),
        **_describe_rescale(group("PixelValueTransformationSequence")),
        "frame_type": read_texts(types, "FrameType"),
        "stack": read_text(content, "StackID"),
        "echo": "",
        "temporal": read_text(content, "TemporalPositionIndex"),
        "contrast": "/".join(contrast),
        "acquisition": read_text(content, "FrameAcquisitionNumber"),
        "component": read_text(types, "ComplexImageComponent"),
        "scale": read_scale(frame, is_frame=True),
    }


def _describe_rescale(dataset: Dataset) -> dict[str, float]:
    slope = read_numbers(dataset, "RescaleSlope")
    intercept = read_numbers(dataset, "RescaleIntercept")
    return {
        "slope": slope[0] if len(slope) == 1 else math.nan if slope else 1.0,
        "intercept": intercept[0] if len(intercept) == 1 else math.nan if intercept else 0.0,
    }


def _read(dataset: Dataset, keyword: str) -> list[Any]:
    """Values of an element as a list; empty where it is absent or its bytes make no value."""
    try:
        value = dataset.get(keyword)
    except MemoryError:
        raise
    except Exception:  # converters of pydicom raise any error, depending on the bytes
        return []
    if value is None or (isinstance(value, str | bytes) and not value):
        return []
    return list(_spread(value))


def _spread(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, MultiValue | Sequence | list | tuple) else (value,)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
