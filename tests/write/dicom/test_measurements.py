"""A structured report holds volumes and diameters that arithmetic gives, and is valid."""

from dataclasses import replace
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom.sr.codedict import codes

from grata_monai.core.errors import OutputError
from grata_monai.record.types import PredictedQuality, ShiftEntry
from grata_monai.write.dicom.measurements import write_measurements
from grata_monai.write.dicom.segmentation import write_segmentation

# Of the fixtures: spacing 0.75 mm between rows, 0.5 mm between columns, 3 mm between frames.
# Segment 1 has 3 × 5 × 3 pixels, segment 2 has 2 × 3 × 4 (frames × rows × columns).
EXPECTED = {
    1: (45 * 0.75 * 0.5 * 3 / 1000, np.hypot(5 * 0.75, 3 * 0.5), 9.0),
    2: (24 * 0.75 * 0.5 * 3 / 1000, np.hypot(3 * 0.75, 4 * 0.5), 6.0),
}


@pytest.fixture
def write(make_case, tmp_path):
    """Write the report of the fixtures' masks, with what the test changes."""

    def run(volume=None, *, with_segmentation=True, path=tmp_path / "sr.dcm", **changes):
        case = make_case(volume, **changes)
        if with_segmentation:
            written = write_segmentation(case, path=tmp_path / "seg.dcm")
            case = replace(case, segmentation=written)
        return write_measurements(case, path=path)

    return run


def groups_of(written):
    report = hd.sr.srread(written.path)
    content: Any = report.content
    return report, [
        *content.get_volumetric_roi_measurement_groups(),
        *content.get_image_measurement_groups(),
    ]


def comments_of(items):
    return [
        item.TextValue
        for item in items
        if item.get("ConceptNameCodeSequence", [None])[0]
        and item.ConceptNameCodeSequence[0].CodeValue == "121106"
    ]


@pytest.mark.parametrize("with_segmentation", [True, False])
@pytest.mark.parametrize("is_enhanced", [False, True])
def test_highdicom_reads_the_measurements_back(
    make_volume, write, segments, is_enhanced, with_segmentation
):
    volume = make_volume(is_enhanced=is_enhanced)
    written = write(volume, with_segmentation=with_segmentation)
    _, groups = groups_of(written)
    assert len(groups) == 2
    for segment, group in zip(segments, groups, strict=True):
        found = {(m.name.value, m.unit.value): float(m.value) for m in group.get_measurements()}
        volume_ml, long_axis, depth = EXPECTED[segment.number]
        assert found == {
            ("118565006", "ml"): pytest.approx(volume_ml, abs=5e-4),
            ("103339001", "mm"): pytest.approx(long_axis, abs=5e-4),
            ("131197000", "mm"): pytest.approx(depth, abs=5e-4),
        }
        assert group.finding_type == segment.type
        assert group.finding_category == segment.category


def test_every_group_refers_to_its_segment_and_the_source_series(make_volume, write, tmp_path):
    volume = make_volume()
    report, groups = groups_of(write(volume))
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    for number, group in enumerate(groups, start=1):
        reference = group.referenced_segment
        assert reference.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert reference.referenced_segment_numbers == [number]
        (series,) = group[0].ContentSequence.find(codes.DCM.SourceSeriesForSegmentation)
        assert series.value == volume.series_uid
        assert group.tracking_uid == seg.get_segment_description(number).tracking_uid
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    uids = {i.ReferencedSOPInstanceUID for series in evidence for i in series.ReferencedSOPSequence}
    assert uids == {seg.SOPInstanceUID, *(f.sop_instance_uid for f in volume.frames)}


def test_the_report_says_what_was_done_and_by_which_device(write, record):
    report, _ = groups_of(write())
    (comment,) = comments_of(report.ContentSequence)
    assert comment.startswith("Research use only. Adapted to this case in 5 steps;")
    (observer,) = report.content.get_observer_contexts(observer_type=codes.DCM.Device)
    assert observer.observer_identifying_attributes.serial_number == "a" * 16
    assert report.SeriesDescription == "RESEARCH USE ONLY: measurements, adapted"
    assert report.VerificationFlag == "UNVERIFIED"


def test_the_report_says_how_far_to_trust_the_mask(write, record):
    verdict = replace(record.verdict, predicted=PredictedQuality(0.851, 0.702, "organ"))
    report, (group, _) = groups_of(
        write(record=replace(record, shift=ShiftEntry(90.0, 1.4), verdict=verdict))
    )
    (comment,) = comments_of(report.ContentSequence)
    assert comment.endswith("less foreign. Predicted Dice 0.85, at least 0.70.")
    parameters = {i.value for i in group[0].ContentSequence.find(codes.DCM.AlgorithmParameters)}
    assert parameters >= {"shift_percentile=90", "predicted_dice=0.851", "at_least=0.702"}


def test_a_kept_source_prediction_is_said(write, source_record):
    report, _ = groups_of(write(record=source_record))
    (comment,) = comments_of(report.ContentSequence)
    assert comment.endswith("kept, because adapted prediction must be finite.")


def test_an_empty_mask_is_said_to_be_empty(masks, write):
    _, groups = groups_of(write(masks=np.zeros_like(masks)))
    for group, label in zip(groups, ("prostate", "left kidney"), strict=True):
        (measurement,) = group.get_measurements()
        assert measurement.value == 0
        assert comments_of(group[0].ContentSequence) == [f"Empty: no pixel is {label}."]


@pytest.mark.parametrize("with_segmentation", [True, False])
@pytest.mark.parametrize("is_enhanced", [False, True])
@pytest.mark.parametrize("is_empty", [False, True])
def test_dciodvfy_finds_no_error(  # every kind of group
    make_volume, masks, write, find_dicom_errors, is_enhanced, is_empty, with_segmentation
):
    masks = masks * np.uint8(not is_empty)
    volume = make_volume("oblique", is_enhanced=is_enhanced, tilt=15)
    written = write(volume, masks=masks, with_segmentation=with_segmentation)
    assert find_dicom_errors(written.path) == []


def test_a_source_without_frame_of_reference_can_be_reported(make_volume, write, find_dicom_errors):
    volume = replace(make_volume(), frame_of_reference_uid="")
    assert find_dicom_errors(write(volume, with_segmentation=False).path) == []


def test_two_runs_make_the_same_instance(make_volume, masks, write):
    volume = make_volume()
    one, two = write(volume), write(volume)
    assert one.sop_instance_uid == two.sop_instance_uid
    assert one.series_uid == two.series_uid
    assert write(volume, masks=masks[::-1].copy()).sop_instance_uid != one.sop_instance_uid


def test_a_failed_write_leaves_nothing(write, tmp_path):
    with pytest.raises(OutputError, match="must be writable"):
        write(with_segmentation=False, path=tmp_path / "no" / "sr.dcm")
    assert list(tmp_path.iterdir()) == []
