"""Write masks as a DICOM Segmentation on the source's own frames."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes

from grata_monai.read.dicom.volume import DicomVolume
from grata_monai.record.sentences import describe_record
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
from grata_monai.write.dicom.objects import reference_frames, reference_series
from grata_monai.write.dicom.source import (
    check_frame_of_reference,
    is_multiframe,
    quiet,
    read_source_headers,
)
from grata_monai.write.dicom.uids import instance_uid, tracking_uid

__all__ = ["SEGMENTATION_KINDS", "SegmentationOptions", "write_segmentation"]

SEGMENTATION_KINDS = ("BINARY", "LABELMAP", "FRACTIONAL")
CLASSIC = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}


@dataclass(frozen=True)
class SegmentationOptions:
    """How a segmentation is written.

    Attributes:
        kind: ``BINARY``, which every viewer reads; ``LABELMAP``, which newer ones read; or
            ``FRACTIONAL``, which holds probabilities in 255 levels.
        omit_empty_frames: Whether to leave out frames without a segment. An empty result keeps
            all of its frames anyway.
        series: The series it belongs to; one of its own if not given.
    """

    kind: str = "BINARY"
    omit_empty_frames: bool = False
    series: NewSeries = field(default_factory=NewSeries)

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in SEGMENTATION_KINDS:
            raise ValueError(
                f"kind must be one of {', '.join(SEGMENTATION_KINDS)}, got {self.kind!r}. "
                "Choose BINARY if you do not know what your viewer reads."
            )


def write_segmentation(
    case: SegmentedCase, *, path: str | Path, options: SegmentationOptions | None = None
) -> Instance:
    """Write masks as a DICOM Segmentation that refers to every source frame.

    Every frame has the orientation, position and spacing of its source frame, also where the
    source's frames are sheared (gantry tilt). The same masks, record and options give the same
    SOPInstanceUID and pixels.

    Args:
        case: Its masks, or its probabilities for ``FRACTIONAL``; its record goes into the
            algorithm's parameters.
        path: The file to write.
        options: How to write; BINARY with all frames in a series of its own if not given.

    Returns:
        What was written.

    Raises:
        ValueError: If probabilities are missing, or do not fit the masks.
        DicomError: If the source has no frame of reference or can no longer be read.
        OutputError: If the file cannot be written.
    """
    options = options or SegmentationOptions()
    volume, record = case.volume, case.record
    check_frame_of_reference(volume, "a segmentation")
    pixels = _choose_pixels(case, options.kind)
    uid = instance_uid(
        options.kind,
        volume=volume,
        record=record,
        arrays=[pixels],
        settings=[repr(case.segments), str(options.omit_empty_frames)],
    )
    sources = [_as_single_frame(h, i, volume) for i, h in enumerate(read_source_headers(volume))]
    with quiet():
        dataset = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=options.kind,
            segment_descriptions=[_describe(segment, case) for segment in case.segments],
            series_instance_uid=options.series.uid_for(uid),
            series_number=options.series.number,
            sop_instance_uid=uid,
            instance_number=options.series.instance,
            omit_empty_frames=options.omit_empty_frames,
            content_label="SEGMENTATION",
            content_description=describe_record(record, max_length=64),
            series_description=describe_series(f"segmentation, {record.outcome}"),
            **equipment(record),
        )
        if is_multiframe(volume):
            _refer_to_frames(dataset, volume)
    return save_instance(dataset, path)


def _choose_pixels(case: SegmentedCase, kind: str) -> NDArray[Any]:
    """Take masks, or probabilities as float32 (frames, rows, columns, segments)."""
    if kind != "FRACTIONAL":
        return np.ascontiguousarray(case.masks)
    probabilities, expected = case.probabilities, (len(case.segments), *case.masks.shape)
    if probabilities is None or probabilities.shape != expected:
        found = None if probabilities is None else probabilities.shape
        raise ValueError(
            f"FRACTIONAL needs probabilities of shape {expected} (segments, frames, rows, "
            f"columns), got {found}. Leave the background out, or write BINARY."
        )
    low, high = float(probabilities.min()), float(probabilities.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"probabilities must lie in [0, 1], got values in [{low}, {high}]. "
            "Apply softmax or sigmoid to the logits first."
        )
    return np.ascontiguousarray(np.moveaxis(probabilities, 0, -1), dtype=np.float32)


def _describe(segment: Segment, case: SegmentedCase) -> hd.seg.SegmentDescription:
    """Describe one segment: coded, coloured, tracked, and how it was found."""
    algorithm = hd.AlgorithmIdentificationSequence(
        name=NAME,
        version=software_version(),
        family=codes.DCM.ArtificialIntelligence,
        source=MANUFACTURER,
        parameters={**algorithm_parameters(case.record), "verdict": describe_record(case.record)},
    )
    description = hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=segment.category,
        segmented_property_type=segment.type,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=tracking_uid(case.volume, segment.number, segment.type.value),
        tracking_id=f"{segment.label} of {case.volume.name}",
        anatomic_regions=[segment.region] if segment.region else None,
        display_color=hd.color.CIELabColor.from_rgb(*segment.colour),
    )
    if segment.modifier:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        modifier = hd.sr.CodedConcept.from_code(segment.modifier)
        kind.SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return description


def _as_single_frame(header: Dataset, index: int, volume: DicomVolume) -> Dataset:
    """Describe a frame of an enhanced object as a single-frame image.

    highdicom takes either single-frame images or one whole enhanced object, whose frames must all
    be segmented. A volume may be a part of such an object, or made of several.
    """
    if is_multiframe(volume):
        header.SOPClassUID = CLASSIC.get(volume.modality, CLASSIC["MR"])
        header.SOPInstanceUID = _stand_in(index)
    return header


def _stand_in(index: int) -> str:
    return f"2.25.{index + 1}"


def _refer_to_frames(dataset: Dataset, volume: DicomVolume) -> None:
    """Turn references to stand-ins into references to the frames of their files."""
    frames = {_stand_in(index): frame for index, frame in enumerate(volume.frames)}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for item in group.DerivationImageSequence[0].SourceImageSequence:
            frame = frames.get(item.ReferencedSOPInstanceUID)
            if frame is None:  # done: the frames of several segments share their items
                continue
            item.ReferencedSOPClassUID = volume.sop_class_uid
            item.ReferencedSOPInstanceUID = frame.sop_instance_uid
            item.ReferencedFrameNumber = frame.number
    every = reference_frames(volume, range(len(volume.frames)))
    instances = reference_series(volume, every).ReferencedInstanceSequence
    dataset.SourceImageSequence = instances
    dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence = instances
