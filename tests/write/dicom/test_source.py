"""Headers take over patient, study and geometry, whatever state the source is in."""

import logging
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom import config

from grata_monai.core.errors import DicomError
from grata_monai.write.dicom.segmentation import write_segmentation
from grata_monai.write.dicom.source import quiet, read_source_headers


def change_source(volume, **values):
    """Set elements of every file, valid or not; None removes them."""
    with quiet():
        for path in {frame.file for frame in volume.frames}:
            dataset = pydicom.dcmread(path)
            for keyword, value in values.items():
                if value is None:
                    del dataset[keyword]
                else:
                    setattr(dataset, keyword, value)
            dataset.save_as(path)
    return volume


@pytest.mark.parametrize("is_enhanced", [False, True])
def test_every_frame_has_its_own_geometry(make_volume, is_enhanced):
    volume = make_volume("oblique", is_enhanced=is_enhanced, tilt=10)
    headers = read_source_headers(volume)
    for header, frame in zip(headers, volume.frames, strict=True):
        cosines = [*volume.row_direction, *volume.column_direction]
        assert np.allclose(header.ImagePositionPatient, frame.position_lps, atol=1e-12)
        assert np.allclose(header.ImageOrientationPatient, cosines, atol=1e-12)
        assert header.PixelSpacing == [0.75, 0.5]
        assert (header.SliceThickness, header.SpacingBetweenSlices) == (2.5, pytest.approx(3))
        assert header.SOPInstanceUID == frame.sop_instance_uid
        assert header.SOPClassUID == volume.sop_class_uid
        assert header.FrameOfReferenceUID == volume.frame_of_reference_uid
        assert (header.PatientID, header.StudyInstanceUID) == ("P-1", volume.study_uid)
    headers[0].PatientID = "changed"
    assert headers[1].PatientID == "P-1"


def test_what_may_be_empty_is_there_though_the_source_lacks_it(make_volume, record, masks):
    missing = ["PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"]
    missing += ["StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName", "SliceThickness"]
    volume = change_source(make_volume(), **dict.fromkeys(missing))
    header = read_source_headers(volume)[0]
    assert all(header[keyword].value in (None, "") for keyword in missing[:-1])
    assert header.SliceThickness == pytest.approx(3)  # the slices touch


BROKEN = {
    "PatientSex": "unknown",
    "PatientBirthDate": "01.02.1960",
    "PatientAge": "sixty",
    "StudyDate": "20201341",
    "StudyTime": "99:99",
    "StudyDescription": "x" * 100,
    "SliceThickness": "",
    "PatientIdentityRemoved": "YES",
    "LossyImageCompression": "01",
    "ClinicalTrialProtocolID": "alone",
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientName": "Müller^Änne=山田^太郎".encode("latin-1", "ignore").decode("latin-1"),
}


@pytest.mark.parametrize("is_enhanced", [False, True])
def test_broken_values_do_not_reach_what_we_write(
    make_volume, make_case, find_dicom_errors, tmp_path, is_enhanced
):
    volume = change_source(make_volume(is_enhanced=is_enhanced), **BROKEN)
    written = write_segmentation(make_case(volume), path=tmp_path / "seg.dcm")
    assert find_dicom_errors(written.path) == []
    dataset = pydicom.dcmread(written.path)
    assert str(dataset.PatientName).startswith("Müller^Änne")
    assert dataset.PatientSex == ""
    assert "ClinicalTrialProtocolID" not in dataset
    assert dataset.LossyImageCompression == "01"


def test_a_trial_is_taken_over_as_a_whole(make_volume):
    trial = {
        "ClinicalTrialSponsorName": "sponsor",
        "ClinicalTrialProtocolID": "protocol",
        "ClinicalTrialSubjectID": "subject",
    }
    header = read_source_headers(change_source(make_volume(), **trial))[0]
    assert {keyword: header[keyword].value for keyword in trial} == trial


def test_identity_is_kept_even_where_it_breaks_a_rule(make_volume):
    header = read_source_headers(change_source(make_volume(), PatientID="9" * 70))[0]
    assert header.PatientID == "9" * 70


def test_a_source_that_went_away_is_named_without_its_name(make_volume):
    volume = make_volume()
    first = replace(volume.frames[0], file=volume.frames[0].file.with_name("Doe^John.dcm"))
    gone = replace(volume, frames=(first, *volume.frames[1:]))
    with pytest.raises(DicomError, match="still be readable") as caught:
        read_source_headers(gone)
    assert caught.value.reason == "unreadable"
    assert "Doe" not in str(caught.value)


def test_quiet_ends_where_it_ends(caplog):
    level = logging.getLogger("pydicom").level
    mode = config.settings.reading_validation_mode
    with quiet():
        logging.getLogger("highdicom.base").error("not to be seen")
    assert caplog.text == ""
    with pytest.raises(RuntimeError, match="inside"), quiet():
        raise RuntimeError("inside")
    assert logging.getLogger("pydicom").level == level
    assert config.settings.reading_validation_mode == mode
