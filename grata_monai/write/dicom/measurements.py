"""Write volumes and diameters as a DICOM structured report (TID 1500, Measurement Report)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from grata_monai.read.dicom.volume import DicomVolume
from grata_monai.record import Record
from grata_monai.record.sentences import describe_record, describe_trust
from grata_monai.write.dicom.case import SegmentedCase
from grata_monai.write.dicom.coded_concepts import Segment
from grata_monai.write.dicom.equipment import (
    MANUFACTURER,
    NAME,
    algorithm_parameters,
    describe_series,
    equipment,
    software_version,
)
from grata_monai.write.dicom.instance import Instance, NewSeries, save_instance
from grata_monai.write.dicom.source import is_multiframe, quiet, read_source_headers
from grata_monai.write.dicom.uids import hash_to_uid, instance_uid, tracking_uid
from grata_monai.write.pictures.sizes import SegmentSize, measure_segment

__all__ = ["write_measurements"]

Group = (
    hd.sr.MeasurementsAndQualitativeEvaluations
    | hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations
)

MILLILITRE = Code("ml", "UCUM", "milliliter")
MILLIMETRE = Code("mm", "UCUM", "millimeter")
VOLUME, LONG_AXIS, DEPTH = codes.SCT.Volume, codes.SCT.LongAxis, codes.SCT.Depth
PROCEDURES = {
    "CT": codes.LN.CTUnspecifiedBodyRegion,
    "MR": codes.LN.MRIUnspecifiedBodyRegion,
}
SERIES_NUMBER = 9002


def write_measurements(
    case: SegmentedCase, *, path: str | Path, series: NewSeries | None = None
) -> Instance:
    """Write volume and diameters of every segment, and what was done, as a structured report.

    Volume is (SCT 118565006) in ml; the longest distance within a frame is Long Axis (SCT
    103339001), the extent across frames is Depth (SCT 131197000), both in mm. An empty segment has
    a volume of 0, no diameters, and a comment that says so. The verdict is a comment of the report.

    Args:
        case: Whose masks are measured. Every group of measurements refers to its segmentation;
            without one, to the source images.
        path: The file to write.
        series: The series it belongs to; one of its own if not given.

    Returns:
        What was written.

    Raises:
        DicomError: If the source can no longer be read.
        OutputError: If the file cannot be written.
    """
    volume, record, segmentation = case.volume, case.record, case.segmentation
    series = series or NewSeries(number=SERIES_NUMBER)
    referred = segmentation.sop_instance_uid if segmentation else "no segmentation"
    uid = instance_uid(
        "measurements",
        volume=volume,
        record=record,
        arrays=[case.masks],
        settings=[repr(case.segments), referred],
    )
    sources = _unique(read_source_headers(volume))
    groups = [_measure(segment, case) for segment in case.segments]
    with quiet():
        dataset = hd.sr.ComprehensiveSR(
            evidence=[*sources, *([_evidence(segmentation)] if segmentation else [])],
            content=_report(groups, case, sources)[0],
            series_instance_uid=series.uid_for(uid),
            series_number=series.number,
            sop_instance_uid=uid,
            instance_number=series.instance,
            series_description=describe_series(f"measurements, {record.outcome}"),
            is_complete=True,
            **equipment(record),
        )
    return save_instance(dataset, path)


def _report(
    groups: Sequence[Group], case: SegmentedCase, sources: Sequence[Dataset]
) -> hd.sr.MeasurementReport:
    """Compose the document: who observed, which images, what was done, the measurements."""
    volume, record = case.volume, case.record
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=hash_to_uid("device", NAME, software_version(), record.weights.before),
            name=NAME,
            manufacturer_name=MANUFACTURER,
            model_name=NAME,
            serial_number=record.weights.before[:16],
        ),
    )
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=PROCEDURES.get(volume.modality, codes.SCT.ImagingProcedure),
        imaging_measurements=list(groups),
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=None if is_multiframe(volume) else list(sources),
    )
    told = f"Research use only. {describe_record(record)} {describe_trust(record)}"
    report[0].ContentSequence.append(_comment(told.rstrip()))
    return report


def _measure(segment: Segment, case: SegmentedCase) -> Group:
    """Measure one segment: a group that refers to its segmentation, or to the source images."""
    volume, segmentation = case.volume, case.segmentation
    spacing = volume.slice_spacing, volume.row_spacing, volume.column_spacing
    size = measure_segment(case.masks, segment.number, spacing=spacing)
    shared: dict[str, Any] = {
        "tracking_identifier": hd.sr.TrackingIdentifier(
            uid=tracking_uid(volume, segment.number, segment.type.value),
            identifier=f"{segment.label} of {volume.name}",
        ),
        "finding_category": segment.category,
        "finding_type": segment.type,
        "finding_sites": _find_sites(segment),
        "algorithm_id": _algorithm(case.record),
        "measurements": _numbers(size),
    }
    if segmentation:
        group: Group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=hd.sr.ReferencedSegment(
                sop_class_uid=segmentation.sop_class_uid,
                sop_instance_uid=segmentation.sop_instance_uid,
                segment_number=segment.number,
                source_series=hd.sr.SourceSeriesForSegmentation(volume.series_uid),
            ),
            **shared,
        )
    else:
        group = hd.sr.MeasurementsAndQualitativeEvaluations(
            source_images=_source_images(volume), **shared
        )
    if not size.pixels:
        group[0].ContentSequence.append(_comment(f"Empty: no pixel is {segment.label}."))
    return group


def _numbers(size: SegmentSize) -> list[hd.sr.Measurement]:
    """Volume, and diameters where there is anything to measure; thousandths are kept."""
    found = [(VOLUME, size.volume_ml, MILLILITRE)]
    if size.pixels:
        found += [(LONG_AXIS, size.long_axis_mm, MILLIMETRE), (DEPTH, size.depth_mm, MILLIMETRE)]
    return [hd.sr.Measurement(name, round(value, 3), unit) for name, value, unit in found]


def _find_sites(segment: Segment) -> list[hd.sr.FindingSite] | None:
    if segment.region is None and segment.modifier is None:
        return None
    return [hd.sr.FindingSite(segment.region or segment.type, laterality=segment.modifier)]


def _algorithm(record: Record) -> hd.sr.AlgorithmIdentification:
    return hd.sr.AlgorithmIdentification(
        name=NAME,
        version=software_version(),
        parameters=[f"{name}={value}" for name, value in algorithm_parameters(record).items()],
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=MANUFACTURER,
    )


def _source_images(volume: DicomVolume) -> list[hd.sr.SourceImageForMeasurementGroup]:
    """Refer to every instance, of multi-frame ones to the volume's own frames."""
    numbers: dict[str, list[int]] = {}
    for frame in volume.frames:
        numbers.setdefault(frame.sop_instance_uid, []).append(frame.number)
    return [
        hd.sr.SourceImageForMeasurementGroup(
            referenced_sop_class_uid=volume.sop_class_uid,
            referenced_sop_instance_uid=uid,
            referenced_frame_numbers=frames if is_multiframe(volume) else None,
        )
        for uid, frames in numbers.items()
    ]


def _comment(text: str) -> hd.sr.TextContentItem:
    return hd.sr.TextContentItem(
        name=codes.DCM.Comment,
        value=text,
        relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
    )


def _unique(headers: Sequence[Dataset]) -> list[Dataset]:
    """Keep one header per instance."""
    return list({header.SOPInstanceUID: header for header in headers}.values())


def _evidence(written: Instance) -> Dataset:
    evidence = Dataset()
    evidence.SOPClassUID = written.sop_class_uid
    evidence.SOPInstanceUID = written.sop_instance_uid
    evidence.StudyInstanceUID = written.study_uid
    evidence.SeriesInstanceUID = written.series_uid
    return evidence
