"""Write masks as an RT Structure Set: closed planar contours, for planning systems and viewers."""

from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from grata_monai.read.dicom.volume import DicomVolume
from grata_monai.record.sentences import describe_record
from grata_monai.write import RESEARCH_ONLY
from grata_monai.write.dicom.case import SegmentedCase
from grata_monai.write.dicom.coded_concepts import ORGAN, Segment
from grata_monai.write.dicom.instance import Instance, NewSeries, save_instance
from grata_monai.write.dicom.objects import Kind, make_object, reference_frames
from grata_monai.write.dicom.source import check_frame_of_reference, quiet, read_source_headers
from grata_monai.write.dicom.uids import instance_uid
from grata_monai.write.pictures.contours import Ring, trace_regions

__all__ = ["to_patient", "write_rtstruct"]

STRUCTURE_SET = Kind(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.481.3",  # RT Structure Set Storage
    modality="RTSTRUCT",
    series_number=9005,
    description="structure set",
    is_implicit=True,  # a long contour has more than 64 kB
)
DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"  # retired, but still required in this place


def write_rtstruct(
    case: SegmentedCase, *, path: str | Path, series: NewSeries | None = None
) -> Instance:
    """Write one region of interest per segment, outlined on every source frame that it meets.

    Contours run half-way between pixels inside and outside and cut the corners: the centre of
    every pixel is on its own side, so that a reader who fills them gets the mask back. A hole is
    joined to its outline by a channel without width (keyhole technique). Points are in the
    patient's coordinates by their own frame's position, also where frames are sheared (gantry
    tilt), and rounded to 0.1 µm. An empty segment keeps its region, without contours.

    Args:
        case: Whose masks are outlined.
        path: The file to write.
        series: The series it belongs to; one of its own if not given.

    Returns:
        What was written.

    Raises:
        DicomError: If the source has no frame of reference or can no longer be read.
        OutputError: If the file cannot be written.
    """
    volume, record = case.volume, case.record
    check_frame_of_reference(volume, "a structure set")
    settings = [repr(case.segments)]
    uid = instance_uid(
        "rtstruct", volume=volume, record=record, arrays=[case.masks], settings=settings
    )
    header = read_source_headers(volume)[0]
    made = make_object(STRUCTURE_SET, case, uid=uid, series=series)
    with quiet():
        made.OperatorsName = ""
        made.FrameOfReferenceUID = volume.frame_of_reference_uid
        made.PositionReferenceIndicator = header.get("PositionReferenceIndicator", "")
        made.StructureSetLabel = "grata_monai"
        made.StructureSetDescription = f"{RESEARCH_ONLY}. {describe_record(record, max_length=900)}"
        made.StructureSetDate = made.InstanceCreationDate
        made.StructureSetTime = made.InstanceCreationTime
        made.ApprovalStatus = "UNAPPROVED"
        made.ReferencedFrameOfReferenceSequence = [_refer_to_source(volume)]
        made.StructureSetROISequence = [_describe(segment, case) for segment in case.segments]
        made.ROIContourSequence = [_outline(segment, case) for segment in case.segments]
        made.RTROIObservationsSequence = [_observe(segment) for segment in case.segments]
    return save_instance(made, path)


def to_patient(ring: Ring, volume: DicomVolume, frame: int) -> NDArray[np.float64]:
    """Turn an outline into points in the patient, by the position of its own frame.

    Args:
        ring: (n, 2), row and column.
        volume: Whose frame it is.
        frame: Index in `volume.frames`.

    Returns:
        (n, 3), LPS in mm.
    """
    down = np.asarray(volume.column_direction) * volume.row_spacing
    along = np.asarray(volume.row_direction) * volume.column_spacing
    position = np.asarray(volume.frames[frame].position_lps)
    return np.asarray(position + ring[:, :1] * down + ring[:, 1:] * along, dtype=np.float64)


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


def _describe(segment: Segment, case: SegmentedCase) -> Dataset:
    region = Dataset()
    region.ROINumber = segment.number
    region.ReferencedFrameOfReferenceUID = case.volume.frame_of_reference_uid
    region.ROIName = segment.label
    region.ROIDescription = RESEARCH_ONLY
    region.ROIGenerationAlgorithm = "AUTOMATIC"
    region.ROIGenerationDescription = describe_record(case.record, max_length=64)
    return region


def _outline(segment: Segment, case: SegmentedCase) -> Dataset:
    masks, volume = case.masks, case.volume
    region = Dataset()
    region.ROIDisplayColor = list(segment.colour)
    region.ReferencedROINumber = segment.number
    contours: list[Dataset] = []
    for frame in np.flatnonzero((masks == segment.number).any(axis=(1, 2))):
        for ring in trace_regions(masks[frame] == segment.number):
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


def _observe(segment: Segment) -> Dataset:
    observation = Dataset()
    observation.ObservationNumber = segment.number
    observation.ReferencedROINumber = segment.number
    observation.RTROIInterpretedType = "ORGAN" if segment.category == ORGAN else ""
    observation.ROIInterpreter = ""
    identified = hd.sr.CodedConcept.from_code(segment.type)
    observation.RTROIIdentificationCodeSequence = [identified]
    return observation
