"""A case numbers its frames as the PACS does, and decodes its pixels for pictures only."""

from dataclasses import replace

import numpy as np
import pytest

from grata_monai.core.errors import DicomError
from grata_monai.write.dicom.case import describe_patient, number_frames


def test_a_patient_is_described_by_what_the_source_says(make_volume):
    volume = replace(make_volume(), description="t2_tse")
    assert describe_patient(volume) == "Phantom Ada   ·   P-1   ·   2020-01-02   ·   t2_tse"


def test_frames_have_the_numbers_of_the_pacs(make_volume):
    assert number_frames(make_volume()) == (5, 4, 3, 2, 1)  # conftest counts from the last frame
    assert number_frames(make_volume(is_enhanced=True)) == (2, 4, 6, 8, 10)


def test_frames_count_from_one_where_the_source_has_no_usable_numbers(make_volume, tmp_path):
    volume = make_volume()
    frames = tuple(replace(frame, file=tmp_path / "gone.dcm") for frame in volume.frames)
    assert number_frames(replace(volume, frames=frames)) == (1, 2, 3, 4, 5)


def test_the_sheet_has_the_case_on_its_own_frames(make_case, make_volume, masks, record):
    volume = make_volume("oblique")
    sheet = make_case(volume, source=masks).sheet
    np.testing.assert_array_equal(sheet.voxels, np.zeros(masks.shape))  # conftest's pixels are 0
    assert sheet.mask is sheet.source is masks
    assert sheet.record is record
    assert sheet.names == {1: "prostate", 2: "left kidney"}
    assert sheet.numbers == number_frames(volume)
    np.testing.assert_array_equal(sheet.affine_lps, volume.affine_lps)
    assert sheet.in_plane_spacing == pytest.approx((0.75, 0.5))


def test_voxels_that_are_given_are_not_decoded_again(make_case, make_volume, masks, tmp_path):
    volume = make_volume()
    frames = tuple(replace(frame, file=tmp_path / "gone.dcm") for frame in volume.frames)
    gone = replace(volume, frames=frames)
    voxels = np.ones(masks.shape, np.float32)
    assert make_case(gone, voxels=voxels).sheet.voxels is voxels
    with pytest.raises(DicomError):
        make_case(gone).sheet  # noqa: B018  # decodes
