"""Values of a plausible scanner that DICOM demands of MR and CT; none depends on a volume."""

from typing import Any

__all__ = [
    "COMMON",
    "CT_DETAILS",
    "CT_GROUPS",
    "DATE",
    "DIMENSION_ORGANIZATION",
    "FRAME_TYPE",
    "MR_CLASSIC",
    "MR_ENHANCED",
    "MR_FRAME_TYPE",
    "MR_GROUPS",
    "PIXELS",
    "PROSTATE",
    "STAMP",
    "TIME",
]

DATE, TIME = "20200101", "120000"
STAMP = DATE + TIME
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
