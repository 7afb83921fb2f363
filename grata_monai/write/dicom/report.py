"""Write the report as an encapsulated PDF: the contact sheet, and a table of what was done."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import highdicom as hd
from pydicom.sr.codedict import codes

from grata_monai.write import RESEARCH_ONLY
from grata_monai.write.dicom.case import SegmentedCase, describe_patient
from grata_monai.write.dicom.instance import Instance, NewSeries, save_instance
from grata_monai.write.dicom.objects import Kind, make_object, reference_frames
from grata_monai.write.dicom.uids import instance_uid
from grata_monai.write.pictures.pages import make_pdf

__all__ = ["write_report"]

REPORT = Kind(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF Storage
    modality="DOC",
    series_number=9004,
    description="report",
)


def write_report(
    case: SegmentedCase, *, path: str | Path, series: NewSeries | None = None
) -> Instance:
    """Write a report of two pages as an Encapsulated PDF.

    The first page says whose images it shows, and BurnedInAnnotation says that it does; neither is
    so where the source does not name the patient. The instance's UID follows from the source, the
    record and the pages.

    Args:
        case: What it is about.
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
    pdf = make_pdf(sheet)
    digest = sha256(pdf).hexdigest()
    uid = instance_uid("report", volume=volume, record=case.record, settings=[digest])
    made = make_object(REPORT, case, uid=uid, series=series)
    made.ContentDate, made.ContentTime = made.InstanceCreationDate, made.InstanceCreationTime
    made.AcquisitionDateTime = ""
    made.ConversionType = "WSD"  # made on a workstation
    made.BurnedInAnnotation = "YES" if sheet.heading else "NO"
    made.SourceInstanceSequence = reference_frames(volume, range(len(volume.frames)))
    made.DocumentTitle = f"Segmentation report, {RESEARCH_ONLY.lower()}"
    made.ConceptNameCodeSequence = [
        hd.sr.CodedConcept.from_code(codes.DCM.ImagingMeasurementReport)
    ]
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocument = pdf + bytes(len(pdf) % 2)
    made.EncapsulatedDocumentLength = len(pdf)
    return save_instance(made, path)
