"""What the DICOM standard demands of MR and CT instances besides geometry and pixels.

Values are those of a plausible scanner; nothing here depends on a volume. Enough for ``dciodvfy``.
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

__all__ = ["Facts", "Plane", "Slice", "classic_instance", "enhanced_instance"]

DATE, TIME = "20200101", "120000"
STAMP = DATE + TIME


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
    instance = _dataset(_common(facts))
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
    instance = _dataset(_common(facts) | (CT_ENHANCED if is_ct else MR_ENHANCED) | PIXELS)
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
    frames = [_dataset(_frame(facts, part)) for part in slices]
    instance.PerFrameFunctionalGroupsSequence = frames
    instance.DimensionOrganizationSequence = [
        _dataset({"DimensionOrganizationUID": DIMENSION_ORGANIZATION})
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
    return _dataset(
        {
            "DimensionIndexPointer": pointer,
            "FunctionalGroupPointer": 0x00209111,  # FrameContentSequence
            "DimensionOrganizationUID": DIMENSION_ORGANIZATION,
        }
    )


def _dataset(values: Mapping[str, Any]) -> Dataset:
    dataset = Dataset()
    _fill(dataset, values)
    return dataset


def _fill(dataset: Dataset, values: Mapping[str, Any]) -> None:
    """Set elements by keyword; a mapping is a sequence of one item."""
    for keyword, value in values.items():
        is_item = isinstance(value, Mapping)
        setattr(dataset, keyword, [_dataset(value)] if is_item else value)


def _ct_groups(tilt_degrees: float) -> dict[str, Any]:
    details = CT_DETAILS | {"GantryDetectorTilt": tilt_degrees}
    return CT_GROUPS | {"CTAcquisitionDetailsSequence": details}


DIMENSION_ORGANIZATION = "2.25.314159265358979323846264338327950288"
IRRADIATION_EVENT = "2.25.271828182845904523536028747135266249"
PROSTATE = {"CodeValue": "41216001", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Prostate"}

COMMON: dict[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientName": "PHANTOM^SYNTHETIC",
    "PatientID": "PHANTOM",
    "PatientBirthDate": "",
    "PatientSex": "O",
    "StudyDate": DATE,
    "StudyTime": TIME,
    "StudyID": "PHANTOM",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "SeriesDate": DATE,
    "SeriesTime": TIME,
    "ContentDate": DATE,
    "ContentTime": TIME,
    "PatientPosition": "HFS",
    "PositionReferenceIndicator": "",
    "Manufacturer": "grata_monai",
    "ManufacturerModelName": "phantom",
    "DeviceSerialNumber": "0",
    "SoftwareVersions": "0",
}

MR_CLASSIC: dict[str, Any] = {
    "ScanningSequence": "SE",
    "SequenceVariant": "SK",
    "ScanOptions": "",
    "MRAcquisitionType": "2D",
    "RepetitionTime": 4000.0,
    "EchoTime": 100.0,
    "EchoNumbers": 1,
    "EchoTrainLength": 16,
    "MagneticFieldStrength": 3.0,
}

PIXELS: dict[str, Any] = {
    "BurnedInAnnotation": "NO",
    "LossyImageCompression": "00",
    "PresentationLUTShape": "IDENTITY",
    "ContentQualification": "RESEARCH",
    "AcquisitionDateTime": STAMP,
    "AcquisitionDuration": 60.0,
    "AcquisitionNumber": 1,
    "AcquisitionContextSequence": [],
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
}

FRAME_TYPE: dict[str, Any] = {
    "PixelPresentation": "MONOCHROME",
    "VolumetricProperties": "VOLUME",
    "VolumeBasedCalculationTechnique": "NONE",
}

CT_ENHANCED: dict[str, Any] = {}
CT_DETAILS: dict[str, Any] = {
    "RotationDirection": "CW",
    "RevolutionTime": 1.0,
    "SingleCollimationWidth": 1.0,
    "TotalCollimationWidth": 16.0,
    "TableHeight": 0.0,
    "DataCollectionDiameter": 500.0,
}
CT_GROUPS: dict[str, Any] = {
    "IrradiationEventIdentificationSequence": {"IrradiationEventUID": IRRADIATION_EVENT},
    "CTAcquisitionTypeSequence": {
        "AcquisitionType": "SEQUENCED",
        "ConstantVolumeFlag": "NO",
        "FluoroscopyFlag": "NO",
    },
    "CTTableDynamicsSequence": {"TableSpeed": 5.0, "TableFeedPerRotation": 5.0},
    "CTPositionSequence": {
        "TablePosition": 0.0,
        "DataCollectionCenterPatient": [0.0, 0.0, 0.0],
        "ReconstructionTargetCenterPatient": [0.0, 0.0, 0.0],
    },
    "CTGeometrySequence": {
        "DistanceSourceToDetector": 1000.0,
        "DistanceSourceToDataCollectionCenter": 500.0,
    },
    "CTReconstructionSequence": {
        "ReconstructionAlgorithm": "FILTER_BACK_PROJ",
        "ConvolutionKernel": "STANDARD",
        "ConvolutionKernelGroup": "SOFT_TISSUE",
        "ReconstructionFieldOfView": [300.0, 300.0],
        "ReconstructionPixelSpacing": [1.0, 1.0],
        "ReconstructionAngle": 0.0,
        "ImageFilter": "NONE",
    },
    "CTExposureSequence": {
        "ExposureTimeInms": 1000.0,
        "XRayTubeCurrentInmA": 100.0,
        "ExposureInmAs": 100.0,
        "ExposureModulationType": "NONE",
        "CTDIvol": 1.0,
        "CTDIPhantomTypeCodeSequence": {
            "CodeValue": "113691",
            "CodingSchemeDesignator": "DCM",
            "CodeMeaning": "IEC Body Dosimetry Phantom",
        },
    },
    "CTXRayDetailsSequence": {
        "KVP": 120,
        "FocalSpots": 1.0,
        "FilterType": "NONE",
        "FilterMaterial": "ALUMINUM",
        "CalciumScoringMassFactorDevice": [1.0, 1.0, 1.0],
    },
}

MR_FRAME_TYPE: dict[str, Any] = {
    "ComplexImageComponent": "MAGNITUDE",
    "AcquisitionContrast": "T2",
}
MR_ENHANCED: dict[str, Any] = MR_FRAME_TYPE | {
    "MagneticFieldStrength": 3.0,
    "ResonantNucleus": "1H",
    "KSpaceFiltering": "NONE",
    "ApplicableSafetyStandardAgency": "IEC",
    "PulseSequenceName": "tse",
    "MRAcquisitionType": "2D",
    "EchoPulseSequence": "SPIN",
    "MultipleSpinEcho": "YES",
    "MultiPlanarExcitation": "NO",
    "PhaseContrast": "NO",
    "TimeOfFlightContrast": "NO",
    "SteadyStatePulseSequence": "NONE",
    "EchoPlanarPulseSequence": "NO",
    "SaturationRecovery": "NO",
    "SpectrallySelectedSuppression": "NONE",
    "OversamplingPhase": "NONE",
    "GeometryOfKSpaceTraversal": "RECTILINEAR",
    "SegmentedKSpaceTraversal": "SINGLE",
    "RectilinearPhaseEncodeReordering": "LINEAR",
    "NumberOfKSpaceTrajectories": 1,
}
MR_GROUPS: dict[str, Any] = {
    "MRTimingAndRelatedParametersSequence": {
        "RepetitionTime": 4000.0,
        "FlipAngle": 90.0,
        "EchoTrainLength": 16,
        "RFEchoTrainLength": 16,
        "GradientEchoTrainLength": 0,
        "SpecificAbsorptionRateSequence": {
            "SpecificAbsorptionRateDefinition": "IEC_WHOLE_BODY",
            "SpecificAbsorptionRateValue": 1.0,
        },
        "OperatingModeSequence": {
            "OperatingModeType": "STATIC FIELD",
            "OperatingMode": "IEC_NORMAL",
        },
        "GradientOutputType": "DB_DT",
        "GradientOutput": 1.0,
    },
    "MREchoSequence": {"EffectiveEchoTime": 100.0},
    "MRModifierSequence": {
        "InversionRecovery": "NO",
        "FlowCompensation": "NONE",
        "Spoiling": "NONE",
        "T2Preparation": "NO",
        "SpectrallySelectedExcitation": "NONE",
        "SpatialPresaturation": "NONE",
        "PartialFourier": "NO",
        "ParallelAcquisition": "NO",
    },
    "MRImagingModifierSequence": {
        "MagnetizationTransfer": "NONE",
        "BloodSignalNulling": "NO",
        "Tagging": "NONE",
        "TransmitterFrequency": 123.2,
        "PixelBandwidth": 200.0,
    },
    "MRReceiveCoilSequence": {
        "ReceiveCoilName": "BODY",
        "ReceiveCoilManufacturerName": "",
        "ReceiveCoilType": "BODY",
        "QuadratureReceiveCoil": "YES",
    },
    "MRTransmitCoilSequence": {
        "TransmitCoilName": "BODY",
        "TransmitCoilManufacturerName": "",
        "TransmitCoilType": "BODY",
    },
    "MRAveragesSequence": {"NumberOfAverages": 1.0},
    "MRFOVGeometrySequence": {
        "InPlanePhaseEncodingDirection": "ROW",
        "MRAcquisitionFrequencyEncodingSteps": 32,
        "MRAcquisitionPhaseEncodingStepsInPlane": 32,
        "PercentSampling": 100.0,
        "PercentPhaseFieldOfView": 100.0,
    },
}
