"""Write the contact sheet as a secondary capture: a picture that every PACS shows.

highdicom's `SCImage` is not used: it drops the clinical trial, StudyDescription and the patient's
age, and it cannot leave orientation and laterality empty, which a sheet of tiles does not have.
"""

from dataclasses import replace
from pathlib import Path

from grata_monai.write.dicom.case import SegmentedCase, describe_patient
from grata_monai.write.dicom.instance import Instance, NewSeries, save_instance
from grata_monai.write.dicom.objects import (
    Kind,
    make_object,
    reference_frames,
    reference_series,
)
from grata_monai.write.dicom.uids import instance_uid
from grata_monai.write.pictures.figure import render_sheet

__all__ = ["write_capture"]

CAPTURE = Kind(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image Storage
    modality="OT",
    series_number=9003,
    description="contact sheet",
)


def write_capture(
    case: SegmentedCase, *, path: str | Path, series: NewSeries | None = None
) -> Instance:
    """Write the contact sheet as a Secondary Capture Image, one frame, true colour.

    The picture says whose images it shows, and BurnedInAnnotation says that it does; neither is so
    where the source does not name the patient. The instance's UID follows from the source, the
    record and the picture: writing the same again gives the same UID.

    Args:
        case: What to draw.
        path: The file to write.
        series: The series it belongs to; one of its own if not given.

    Returns:
        What was written.

    Raises:
        DicomError: If the source can no longer be read.
        OutputError: If the file cannot be written.
    """
    volume = case.volume
    sheet = replace(case.sheet, heading=describe_patient(volume))
    pixels = render_sheet(sheet)
    uid = instance_uid("capture", volume=volume, record=case.record, arrays=[pixels])
    made = make_object(CAPTURE, case, uid=uid, series=series)
    made.ContentDate, made.ContentTime = made.InstanceCreationDate, made.InstanceCreationTime
    made.ConversionType = "WSD"  # made on a workstation
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.PatientOrientation = made.Laterality = ""  # tiles have their own letters
    made.BurnedInAnnotation = "YES" if sheet.heading else "NO"
    made.DerivationDescription = sheet.verdict
    made.SourceImageSequence = reference_frames(volume, sheet.choose_frames())
    made.ReferencedSeriesSequence = [reference_series(volume, made.SourceImageSequence)]
    made.LossyImageCompression = "00"
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.Rows, made.Columns = pixels.shape[:2]
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PixelData = pixels.tobytes()
    made["PixelData"].VR = "OB"
    return save_instance(made, path)
