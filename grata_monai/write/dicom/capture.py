"""The contact sheet as a secondary capture: a picture that every PACS shows."""

from pathlib import Path

from grata_monai.write.dicom.instance import NewSeries, WrittenObject, save_object
from grata_monai.write.dicom.objects import (
    Kind,
    make_object,
    reference_frames,
    reference_series,
)
from grata_monai.write.dicom.uids import instance_uid
from grata_monai.write.pictures.figure import render_sheet
from grata_monai.write.pictures.sheet import Sheet

__all__ = ["write_capture"]

CAPTURE = Kind(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image Storage
    modality="OT",
    series_number=9003,
    description="contact sheet",
)


def write_capture(
    sheet: Sheet, *, path: str | Path, series: NewSeries | None = None
) -> WrittenObject:
    """Write the contact sheet as a Secondary Capture Image, one frame, true colour.

    BurnedInAnnotation is NO: the text in the picture identifies nobody. The instance's UID follows
    from the source, the record and the picture: writing the same again gives the same UID.

    Args:
        sheet: What to draw.
        path: The file to write.
        series: The series it belongs to; a new one if not given.

    Returns:
        What was written.

    Raises:
        DicomError: If the source can no longer be read.
        OutputError: If the file cannot be written.
    """
    volume, record = sheet.volume, sheet.record
    pixels = render_sheet(sheet)
    uid = instance_uid("capture", volume=volume, record=record, arrays=[pixels])
    made = make_object(CAPTURE, volume=volume, record=record, uid=uid, series=series)
    made.ContentDate, made.ContentTime = made.InstanceCreationDate, made.InstanceCreationTime
    made.ConversionType = "WSD"  # made on a workstation
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.PatientOrientation = made.Laterality = ""  # tiles have their own letters
    made.BurnedInAnnotation = "NO"
    made.DerivationDescription = sheet.verdict
    made.SourceImageSequence = reference_frames(volume, sheet.choose_frames())
    made.ReferencedSeriesSequence = [reference_series(volume, made.SourceImageSequence)]
    made.LossyImageCompression = "00"
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.Rows, made.Columns = pixels.shape[:2]
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PixelData = pixels.tobytes()
    made["PixelData"].VR = "OB"
    return save_object(made, path)
