"""Write masks as an RT Structure Set: closed planar contours, for planning systems and viewers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.rejection import Reason
from grata_monai.read.dicom.volume import DicomVolume
from grata_monai.record import Record
from grata_monai.write.dicom.coded_concepts import ORGAN, SegmentTerm
from grata_monai.write.dicom.equipment import RESEARCH_ONLY
from grata_monai.write.dicom.instance import NewSeries, WrittenObject, save_object
from grata_monai.write.dicom.objects import Kind, make_object, reference_frames
from grata_monai.write.dicom.segmentation import check_masks
from grata_monai.write.dicom.source import quiet, read_source_headers
from grata_monai.write.dicom.uids import instance_uid
from grata_monai.write.pictures.contours import to_patient, trace_regions
from grata_monai.write.pictures.verdict import describe_verdict

__all__ = ["write_rtstruct"]

STRUCTURE_SET = Kind(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.481.3",  # RT Structure Set Storage
    modality="RTSTRUCT",
    series_number=9005,
    description="structure set",
    is_implicit=True,  # a long contour has more than 64 kB
)
DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"  # retired, and still what stands for a study here


def write_rtstruct(
    masks: NDArray[np.uint8],
    volume: DicomVolume,
    *,
    segments: Sequence[SegmentTerm],
    record: Record,
    path: str | Path,
    series: NewSeries | None = None,
) -> WrittenObject:
    """Write one region of interest per segment, outlined on every source frame that it meets.

    Contours run half-way between pixels inside and outside and cut the corners: the centre of
    every pixel is on its own side, so that a reader who fills them gets the mask back. A hole is
    joined to its outline by a channel without width (keyhole technique). Points are in the
    patient's coordinates by their own frame's position, also where frames are sheared (gantry
    tilt), and rounded to 0.1 µm. A segment that is nowhere keeps its region, without contours.

    Args:
        masks: Label of every pixel, (frames, rows, columns), in the order of ``volume.frames``.
        volume: The source.
        segments: What the labels 1, 2, 3, … mean.
        record: Of the case.
        path: The file to write.
        series: The series it belongs to; a new one if not given.

    Returns:
        What was written.

    Raises:
        ValueError: If masks and segments do not fit each other or the volume.
        DicomError: If the source has no frame of reference or can no longer be read.
        OutputError: If the file cannot be written.
    """
    check_masks(masks, volume, segments)
    _check_frame_of_reference(volume)
    settings = [repr(tuple(segments))]
    uid = instance_uid("rtstruct", volume=volume, record=record, arrays=[masks], settings=settings)
    header = read_source_headers(volume)[0]
    made = make_object(STRUCTURE_SET, volume=volume, record=record, uid=uid, series=series)
    with quiet():
        made.OperatorsName = ""
        made.FrameOfReferenceUID = volume.frame_of_reference_uid
        made.PositionReferenceIndicator = header.get("PositionReferenceIndicator", "")
        made.StructureSetLabel = "grata_monai"
        made.StructureSetDescription = (
            f"{RESEARCH_ONLY}. {describe_verdict(record, max_length=900)}"
        )
        made.StructureSetDate = made.InstanceCreationDate
        made.StructureSetTime = made.InstanceCreationTime
        made.ApprovalStatus = "UNAPPROVED"
        made.ReferencedFrameOfReferenceSequence = [_refer_to_source(volume)]
        made.StructureSetROISequence = [_describe(term, volume, record) for term in segments]
        made.ROIContourSequence = [_outline(masks, volume, term) for term in segments]
        made.RTROIObservationsSequence = [_observe(term) for term in segments]
    return save_object(made, path)


def _check_frame_of_reference(volume: DicomVolume) -> None:
    if not volume.frame_of_reference_uid:
        raise DicomError(
            "a structure set needs the source's frame of reference, volume "
            f"{volume.name} has none. Write a secondary capture instead, or ask the sender for "
            "images with FrameOfReferenceUID.",
            reason=Reason.NO_FRAME_OF_REFERENCE.value,
        )


def _refer_to_source(volume: DicomVolume) -> Dataset:
    series, study, frame_of_reference = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = volume.series_uid
    series.ContourImageSequence = reference_frames(volume, range(len(volume.frames)))
    study.ReferencedSOPClassUID = DETACHED_STUDY
    study.ReferencedSOPInstanceUID = volume.study_uid
    study.RTReferencedSeriesSequence = [series]
    frame_of_reference.FrameOfReferenceUID = volume.frame_of_reference_uid
    frame_of_reference.RTReferencedStudySequence = [study]
    return frame_of_reference


def _describe(term: SegmentTerm, volume: DicomVolume, record: Record) -> Dataset:
    region = Dataset()
    region.ROINumber = term.number
    region.ReferencedFrameOfReferenceUID = volume.frame_of_reference_uid
    region.ROIName = term.label
    region.ROIDescription = RESEARCH_ONLY
    region.ROIGenerationAlgorithm = "AUTOMATIC"
    region.ROIGenerationDescription = describe_verdict(record, max_length=64)
    return region


def _outline(masks: NDArray[np.uint8], volume: DicomVolume, term: SegmentTerm) -> Dataset:
    region = Dataset()
    region.ROIDisplayColor = list(term.colour)
    region.ReferencedROINumber = term.number
    contours: list[Dataset] = []
    for frame in np.flatnonzero((masks == term.number).any(axis=(1, 2))):
        for ring in trace_regions(masks[frame] == term.number):
            contour = Dataset()
            contour.ContourImageSequence = reference_frames(volume, [int(frame)])
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(ring)
            contour.ContourNumber = len(contours) + 1
            points = to_patient(ring, volume, int(frame))
            contour.ContourData = [f"{v:.4f}" for v in points.ravel()]
            contours.append(contour)
    if contours:
        region.ContourSequence = contours
    return region


def _observe(term: SegmentTerm) -> Dataset:
    observation, code = Dataset(), Dataset()
    observation.ObservationNumber = term.number
    observation.ReferencedROINumber = term.number
    observation.RTROIInterpretedType = "ORGAN" if term.category == ORGAN else ""
    observation.ROIInterpreter = ""
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = (
        term.type.value,
        term.type.scheme_designator,
        term.type.meaning,
    )
    observation.RTROIIdentificationCodeSequence = [code]
    return observation
