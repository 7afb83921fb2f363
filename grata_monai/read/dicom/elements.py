"""Read values of untrusted data sets, in the sandbox; invalid ones become empty, NaN or -1."""

import math
from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

__all__ = ["describe_planes", "read_numbers", "read_text", "read_texts", "read_whole"]

LONGEST_TEXT = 1024


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
