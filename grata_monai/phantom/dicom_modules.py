"""Make MR and CT instances without identifiers and pixels: all that the DICOM standard demands.

Enough for ``dciodvfy``; values that do not depend on a volume are in `dicom_values`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
)
from pydicom.valuerep import DSfloat

from grata_monai.phantom.dicom_values import (
    COMMON,
    CT_DETAILS,
    CT_GROUPS,
    DATE,
    DIMENSION_ORGANIZATION,
    FRAME_TYPE,
    MR_CLASSIC,
    MR_ENHANCED,
    MR_FRAME_TYPE,
    MR_GROUPS,
    PIXELS,
    PROSTATE,
    STAMP,
    TIME,
)

__all__ = ["Facts", "Plane", "Slice", "classic_instance", "enhanced_instance", "make_dataset"]


@dataclass(frozen=True)
class Facts:
    """What one series says about itself."""

    modality: str
    image_type: tuple[str, ...]
    description: str
    body_part: str
    series: int
    tilt_degrees: float


@dataclass(frozen=True)
class Plane:
    """What all slices share: six direction cosines, row and column spacing, thickness in mm."""

    directions: list[DSfloat]
    spacing: list[DSfloat]
    thickness: DSfloat


@dataclass(frozen=True)
class Slice:
    """One slice: centre of its first pixel (LPS, mm), number from 1, rescale."""

    position: list[DSfloat]
    number: int
    slope: float
    intercept: float


def classic_instance(facts: Facts, plane: Plane, part: Slice, has_rescale: bool) -> Dataset:
    """Make a single-frame MR or CT instance without identifiers and pixels."""
    is_ct = facts.modality == "CT"
    instance = make_dataset(_common(facts))
    default = ("ORIGINAL", "PRIMARY", "AXIAL" if is_ct else "M")
    _fill(
        instance,
        {
            "SOPClassUID": CTImageStorage if is_ct else MRImageStorage,
            "ImageType": list(facts.image_type or default),
            "AcquisitionNumber": 1,
            "AcquisitionDate": DATE,
            "AcquisitionTime": TIME,
            "InstanceNumber": part.number,
            "ImagePositionPatient": part.position,
            "ImageOrientationPatient": plane.directions,
            "PixelSpacing": plane.spacing,
            "SliceThickness": plane.thickness,
        },
    )
    if is_ct:
        _fill(instance, {"KVP": 120, "GantryDetectorTilt": facts.tilt_degrees})
    else:
        _fill(instance, MR_CLASSIC | {"SpacingBetweenSlices": plane.thickness})
    if has_rescale:
        _fill(instance, _rescale(facts, part))
    return instance


def enhanced_instance(facts: Facts, plane: Plane, slices: Sequence[Slice]) -> Dataset:
    """Make a multi-frame MR or CT instance without identifiers and pixels."""
    is_ct = facts.modality == "CT"
    instance = make_dataset(_common(facts) | ({} if is_ct else MR_ENHANCED) | PIXELS)
    default = ("ORIGINAL", "PRIMARY", "VOLUME" if is_ct else "PROSTATE", "NONE")
    image_type = list(facts.image_type or default)
    _fill(
        instance,
        {
            "SOPClassUID": EnhancedCTImageStorage if is_ct else EnhancedMRImageStorage,
            "ImageType": image_type,
            "InstanceNumber": 1,
            "NumberOfFrames": len(slices),
        },
    )
    shared = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": plane.directions},
        "PixelMeasuresSequence": {
            "PixelSpacing": plane.spacing,
            "SliceThickness": plane.thickness,
        },
        "FrameAnatomySequence": {"FrameLaterality": "U", "AnatomicRegionSequence": PROSTATE},
    }
    kind = {"FrameType": image_type} | (FRAME_TYPE if is_ct else FRAME_TYPE | MR_FRAME_TYPE)
    shared |= {f"{facts.modality}ImageFrameTypeSequence": kind}
    shared |= _ct_groups(facts.tilt_degrees) if is_ct else MR_GROUPS
    _fill(instance, {"SharedFunctionalGroupsSequence": shared})
    frames = [make_dataset(_frame(facts, part)) for part in slices]
    instance.PerFrameFunctionalGroupsSequence = frames
    instance.DimensionOrganizationSequence = [
        make_dataset({"DimensionOrganizationUID": DIMENSION_ORGANIZATION})
    ]
    instance.DimensionIndexSequence = [_dimension(0x00209056), _dimension(0x00209057)]
    return instance


def _common(facts: Facts) -> dict[str, Any]:
    body_part = {"BodyPartExamined": facts.body_part} if facts.body_part else {}
    return (
        COMMON
        | body_part
        | {
            "Modality": facts.modality,
            "SeriesNumber": facts.series,
            "SeriesDescription": facts.description,
            "ProtocolName": facts.description,
        }
    )


def _rescale(facts: Facts, part: Slice) -> dict[str, Any]:
    return {
        "RescaleSlope": DSfloat(part.slope, auto_format=True),
        "RescaleIntercept": DSfloat(part.intercept, auto_format=True),
        "RescaleType": "HU" if facts.modality == "CT" else "US",
    }


def _frame(facts: Facts, part: Slice) -> dict[str, Any]:
    return {
        "PlanePositionSequence": {"ImagePositionPatient": part.position},
        "PixelValueTransformationSequence": _rescale(facts, part),
        "FrameContentSequence": {
            "StackID": "1",
            "InStackPositionNumber": part.number,
            "DimensionIndexValues": [1, part.number],
            "FrameAcquisitionNumber": 1,
            "FrameReferenceDateTime": STAMP,
            "FrameAcquisitionDateTime": STAMP,
            "FrameAcquisitionDuration": 1000.0,
        },
    }


def _dimension(pointer: int) -> Dataset:
    return make_dataset(
        {
            "DimensionIndexPointer": pointer,
            "FunctionalGroupPointer": 0x00209111,  # FrameContentSequence
            "DimensionOrganizationUID": DIMENSION_ORGANIZATION,
        }
    )


def make_dataset(values: Mapping[str, Any]) -> Dataset:
    """Make a data set of elements by keyword; a mapping becomes a sequence of one item."""
    dataset = Dataset()
    _fill(dataset, values)
    return dataset


def _fill(dataset: Dataset, values: Mapping[str, Any]) -> None:
    """Set elements by keyword; a mapping is a sequence of one item."""
    for keyword, value in values.items():
        is_item = isinstance(value, Mapping)
        setattr(dataset, keyword, [make_dataset(value)] if is_item else value)


def _ct_groups(tilt_degrees: float) -> dict[str, Any]:
    details = CT_DETAILS | {"GantryDetectorTilt": tilt_degrees}
    return CT_GROUPS | {"CTAcquisitionDetailsSequence": details}
