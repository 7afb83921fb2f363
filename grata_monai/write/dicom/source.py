"""Take over patient, study and geometry from a volume's source into an object made from it.

Everything else (free text, private elements, overlays) is left out.
"""

import copy
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pydicom
from pydicom import Dataset, config
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.valuerep import DA, TM, DSfloat, format_number_as_ds, validate_value

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.rejection import Reason
from grata_monai.read.dicom.volume import DicomVolume

__all__ = ["check_frame_of_reference", "is_multiframe", "quiet", "read_source_headers"]

# Taken over unchanged, even where a value is invalid: a changed identity is another patient's.
IDENTITY = ("PatientName", "PatientID", "AccessionNumber", "StudyID")
CHECKED = (
    "PatientBirthDate",
    "IssuerOfPatientID",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "ReferringPhysicianName",
    "Manufacturer",
    "ManufacturerModelName",
    "PositionReferenceIndicator",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
TRIAL = (
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)
OTHERS = ("PatientSex", "LossyImageCompression", "SliceThickness")
NESTED = ("DeidentificationMethodCodeSequence", "SharedFunctionalGroupsSequence")
MAY_BE_EMPTY = (
    *IDENTITY,
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
PARSED = {"DA": DA, "TM": TM}
SINGLE_FRAME = {
    "1.2.840.10008.5.1.4.1.1.2",  # CT Image Storage
    "1.2.840.10008.5.1.4.1.1.4",  # MR Image Storage
}
BROKEN = (AttributeError, KeyError, NotImplementedError, OverflowError, TypeError, ValueError)


def read_source_headers(volume: DicomVolume) -> list[Dataset]:
    """Make one clean header per frame, from the volume and its first file.

    Each header holds patient, study and series, and its frame's own SOP class, SOP instance and
    geometry as a single-frame image would state them, for enhanced sources too (their frame's
    number is in ``volume.frames``). Text is in Unicode; invalid values are left out, except the
    patient's identity. Attributes that must be present but may be empty are present.

    Args:
        volume: The source.

    Returns:
        Headers without pixels, in the order of ``volume.frames``; each may be changed.

    Raises:
        DicomError: If the first file can no longer be read.
    """
    with quiet():
        shared = _read_shared(volume)
        return [_at_frame(shared, volume, index) for index in range(len(volume.frames))]


def is_multiframe(volume: DicomVolume) -> bool:
    """Say whether references to a frame of this volume need the frame's number."""
    return volume.sop_class_uid not in SINGLE_FRAME


def check_frame_of_reference(volume: DicomVolume, made: str) -> None:
    """Reject a source without frame of reference for an object that lies in the patient.

    Args:
        volume: The source.
        made: What shall be written, such as "a segmentation".

    Raises:
        DicomError: If the source has no frame of reference.
    """
    if not volume.frame_of_reference_uid:
        raise DicomError(
            f"{made} needs the source's frame of reference, volume {volume.name} has none. Write a "
            "structured report or a secondary capture instead, or ask the sender for images with "
            "FrameOfReferenceUID.",
            reason=Reason.NO_FRAME_OF_REFERENCE.value,
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom and highdicom, which quote element values, and switch off their validation.

    Yields:
        Nothing. Inside, values that we take over from a source are not validated.
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [logger.level for logger in loggers]
    modes = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        config.settings.reading_validation_mode = config.IGNORE
        config.settings.writing_validation_mode = config.IGNORE
        try:
            yield
        finally:
            config.settings.reading_validation_mode = modes[0]
            config.settings.writing_validation_mode = modes[1]
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _read_shared(volume: DicomVolume) -> Dataset:
    """Read what all frames share; `quiet` must be on."""
    wanted = [*IDENTITY, *CHECKED, *TRIAL, *OTHERS, *NESTED]
    try:
        source = pydicom.dcmread(
            volume.frames[0].file, stop_before_pixels=True, force=True, specific_tags=wanted
        )
    except (OSError, EOFError, *BROKEN) as error:
        raise DicomError(
            "the source must still be readable when its results are written, frame 1 of volume "
            f"{volume.name} is not ({type(error).__name__}). Keep the source in its place until "
            "the results are written.",
            reason=Reason.UNREADABLE.value,
        ) from None  # pydicom's messages quote element values
    shared = Dataset()
    shared.SpecificCharacterSet = "ISO_IR 192"
    for keyword in IDENTITY:
        _take(source, shared, keyword, is_checked=False)
    for keyword in CHECKED:
        _take(source, shared, keyword)
    _take_trial(source, shared)
    _take_deidentification(source, shared)
    _take_sex(source, shared)
    _take_compression(source, shared)
    for keyword in MAY_BE_EMPTY:
        if keyword not in shared:
            setattr(shared, keyword, "")
    _set_volume(shared, volume)
    shared.SliceThickness = _as_ds(_find_thickness(source, volume))
    return shared


def _set_volume(shared: Dataset, volume: DicomVolume) -> None:
    shared.SOPClassUID = volume.sop_class_uid
    shared.StudyInstanceUID = volume.study_uid
    shared.SeriesInstanceUID = volume.series_uid
    if volume.frame_of_reference_uid:
        shared.FrameOfReferenceUID = volume.frame_of_reference_uid
        if "PositionReferenceIndicator" not in shared:
            shared.PositionReferenceIndicator = ""
    shared.Modality = volume.modality
    shared.Rows, shared.Columns = volume.rows, volume.columns
    shared.PixelSpacing = [_as_ds(volume.row_spacing), _as_ds(volume.column_spacing)]
    shared.SpacingBetweenSlices = _as_ds(volume.slice_spacing)
    orientation = (*volume.row_direction, *volume.column_direction)
    shared.ImageOrientationPatient = [_as_ds(cosine) for cosine in orientation]


def _at_frame(shared: Dataset, volume: DicomVolume, index: int) -> Dataset:
    frame = volume.frames[index]
    header = copy.deepcopy(shared)
    header.SOPInstanceUID = frame.sop_instance_uid
    header.InstanceNumber = index + 1
    header.ImagePositionPatient = [_as_ds(component) for component in frame.position_lps]
    return header


def _take(source: Dataset, target: Dataset, keyword: str, *, is_checked: bool = True) -> None:
    """Copy one text or number; leave it out if it is empty, or checked and not valid."""
    try:
        value = source[keyword].value
        vr = dictionary_VR(keyword)
        parts = list(value) if isinstance(value, MultiValue | list) else [value]
        texts = [str(part) for part in parts if part is not None]
        if not any(texts):
            return
        if is_checked:
            for text in texts:
                validate_value(vr, text, config.RAISE)
                PARSED.get(vr, str)(text)
        setattr(target, keyword, texts[0] if len(texts) == 1 else texts)
    except BROKEN:
        return


def _take_sex(source: Dataset, target: Dataset) -> None:
    _take(source, target, "PatientSex")
    if target.get("PatientSex") not in ("M", "F", "O"):
        target.PatientSex = ""


def _take_trial(source: Dataset, target: Dataset) -> None:
    """Copy the clinical trial's attributes if its sponsor, protocol and subject are there."""
    trial = Dataset()
    for keyword in TRIAL:
        _take(source, trial, keyword)
    has_subject = "ClinicalTrialSubjectID" in trial or "ClinicalTrialSubjectReadingID" in trial
    if "ClinicalTrialSponsorName" in trial and "ClinicalTrialProtocolID" in trial and has_subject:
        for keyword in ("ProtocolName", "SiteID", "SiteName", "TimePointID"):
            trial.setdefault(f"ClinicalTrial{keyword}", "")
        target.update(trial)


def _take_deidentification(source: Dataset, target: Dataset) -> None:
    """State how identity was removed if the source says that it was; DICOM demands both."""
    codes = source.get("DeidentificationMethodCodeSequence")
    if codes:
        target.DeidentificationMethodCodeSequence = codes
    elif target.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethod" not in target:
        target.DeidentificationMethod = "not stated by the source"


def _take_compression(source: Dataset, target: Dataset) -> None:
    is_lossy = str(source.get("LossyImageCompression", "00")) == "01"
    target.LossyImageCompression = "01" if is_lossy else "00"
    if not is_lossy:
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            target.pop(keyword, None)


def _find_thickness(source: Dataset, volume: DicomVolume) -> float:
    """Read SliceThickness where classic and enhanced objects have it; else the slices touch."""
    for holder in (source, *_pixel_measures(source)):
        try:
            thickness = float(holder.SliceThickness)
        except BROKEN:
            continue
        if math.isfinite(thickness) and thickness > 0:
            return thickness
    return volume.slice_spacing


def _pixel_measures(source: Dataset) -> list[Dataset]:
    try:
        return list(source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence)
    except (IndexError, *BROKEN):
        return []


def _as_ds(value: float) -> DSfloat:
    """Write a number in the 16 characters of a DICOM decimal string."""
    return DSfloat(format_number_as_ds(float(value) + 0.0))  # no minus before a zero
