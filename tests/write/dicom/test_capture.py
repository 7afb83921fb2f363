"""A secondary capture is valid, holds the sheet's pixels, and belongs to the source's study."""

from dataclasses import replace

import numpy as np
import pytest

from grata_monai.core.errors import DicomError
from grata_monai.write.dicom.capture import write_capture
from grata_monai.write.dicom.instance import NewSeries
from grata_monai.write.pictures.figure import render_sheet


@pytest.fixture(scope="module")
def case(make_case, masks):
    voxels = np.random.default_rng(0).random(masks.shape).astype(np.float32)
    return make_case(voxels=voxels, source=np.roll(masks, 1, axis=1))


@pytest.fixture(scope="module")
def written(case, tmp_path_factory):
    return write_capture(case, path=tmp_path_factory.mktemp("capture") / "capture.dcm")


@pytest.fixture
def capture(written, read_back):
    return read_back(written.path)


def test_it_is_valid(written, find_dicom_errors):
    assert find_dicom_errors(written.path) == []


@pytest.mark.parametrize("is_enhanced", [False, True])
def test_it_is_valid_for_any_source(
    make_volume, case, source_record, tmp_path, find_dicom_errors, is_enhanced
):
    volume = make_volume("oblique", is_enhanced=is_enhanced)
    changed = replace(case, volume=volume, record=source_record, source=None)
    assert find_dicom_errors(write_capture(changed, path=tmp_path / "a.dcm").path) == []


def test_it_holds_the_picture_in_true_colour(capture, case):
    sheet = replace(case.sheet, heading="Phantom Ada   ·   P-1   ·   2020-01-02")
    np.testing.assert_array_equal(capture.pixel_array, render_sheet(sheet))
    assert capture.PhotometricInterpretation == "RGB"
    assert list(capture.ImageType) == ["DERIVED", "SECONDARY"]
    assert capture.BurnedInAnnotation == "YES"


def test_a_picture_that_names_nobody_says_so(case, tmp_path, read_back, monkeypatch):
    monkeypatch.setattr("grata_monai.write.dicom.capture.describe_patient", lambda volume: "")
    capture = read_back(write_capture(case, path=tmp_path / "a.dcm").path)
    assert capture.BurnedInAnnotation == "NO"
    np.testing.assert_array_equal(capture.pixel_array, render_sheet(case.sheet))


def test_it_joins_the_study_in_a_series_of_its_own(capture, case, read_back):
    source = read_back(case.volume.frames[0].file)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AccessionNumber", "StudyDate"):
        assert capture[keyword].value == source[keyword].value
    assert capture.SeriesInstanceUID != source.SeriesInstanceUID
    assert capture.SeriesDescription == "RESEARCH USE ONLY: contact sheet"
    assert "FrameOfReferenceUID" not in capture, "the sheet lies nowhere in the patient"


def test_it_refers_to_the_frames_that_it_shows(capture, case, make_volume, tmp_path, read_back):
    shown = {case.volume.frames[index].sop_instance_uid for index in case.sheet.choose_frames()}
    assert {item.ReferencedSOPInstanceUID for item in capture.SourceImageSequence} == shown
    (series,) = capture.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == case.volume.series_uid
    enhanced = replace(case, volume=make_volume("axial", is_enhanced=True))
    path = write_capture(enhanced, path=tmp_path / "a.dcm").path
    (item,) = read_back(path).SourceImageSequence
    assert list(item.ReferencedFrameNumber) == [4, 6, 8, 10]


def test_the_same_picture_has_the_same_uid_and_another_one_another(case, written, tmp_path):
    again = write_capture(case, path=tmp_path / "again.dcm")
    assert again.sop_instance_uid == written.sop_instance_uid
    assert again.series_uid == written.series_uid
    other = write_capture(replace(case, source=None), path=tmp_path / "other.dcm")
    assert other.sop_instance_uid != written.sop_instance_uid
    assert other.series_uid != written.series_uid


def test_it_goes_into_the_series_that_it_is_given(case, tmp_path, read_back):
    series = NewSeries(uid="2.25.7", number=12, instance=3)
    capture = read_back(write_capture(case, path=tmp_path / "a.dcm", series=series).path)
    found = capture.SeriesInstanceUID, capture.SeriesNumber, capture.InstanceNumber
    assert found == ("2.25.7", 12, 3)


def test_without_its_source_nothing_is_written(case, tmp_path):
    frames = tuple(replace(frame, file=tmp_path / "gone") for frame in case.volume.frames)
    gone = replace(case, volume=replace(case.volume, frames=frames))
    with pytest.raises(DicomError, match="the source must still be readable"):
        write_capture(gone, path=tmp_path / "a.dcm")
    assert list(tmp_path.iterdir()) == []
