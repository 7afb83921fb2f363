"""A structure set is valid, has what planning systems ask for, and fills to the mask again."""

from dataclasses import replace

import numpy as np
import pytest
from skimage.draw import polygon2mask

from grata_monai.core.errors import DicomError
from grata_monai.write.dicom.rtstruct import to_patient, write_rtstruct


@pytest.fixture
def write(make_case, tmp_path, read_back):
    def _write(masks, volume, **changes):
        case = make_case(volume, masks=masks, **changes)
        return read_back(write_rtstruct(case, path=tmp_path / "rtstruct.dcm").path)

    return _write


def fill(structures, volume):
    """Masks of every region by scikit-image, from the contours and the source's files alone."""
    planes = {(frame.sop_instance_uid, frame.number): frame for frame in volume.frames}
    order = list(planes)
    shape = volume.rows, volume.columns
    along = np.multiply(volume.row_direction, volume.column_spacing)
    down = np.multiply(volume.column_direction, volume.row_spacing)
    filled = {}
    for region in structures.ROIContourSequence:
        mask = np.zeros((len(order), *shape), dtype=int)
        for contour in region.get("ContourSequence", []):
            (image,) = contour.ContourImageSequence
            number = image.get("ReferencedFrameNumber", 1)
            key = image.ReferencedSOPInstanceUID, int(number)
            points = np.reshape(np.asarray(contour.ContourData, dtype=float), (-1, 3))
            assert len(points) == contour.NumberOfContourPoints
            offset = points - planes[key].position_lps
            assert np.abs(offset @ volume.normal).max() < 1e-3, "on its own plane"
            index = np.linalg.lstsq(np.column_stack([down, along]), offset.T, rcond=None)[0].T
            mask[order.index(key)] += polygon2mask(shape, index)
        filled[region.ReferencedROINumber] = mask
    return filled


@pytest.fixture(scope="module")
def shapes():
    """Label 1: a ring, a speck of one pixel, corners that touch. Label 2: inside the ring."""
    masks = np.zeros((5, 12, 10), dtype=np.uint8)
    masks[0, 2:9, 1:9] = 1
    masks[0, 4:7, 3:5] = 0
    masks[0, 4, 6:8] = 2
    masks[2, 0, 0] = 1
    masks[3, 3, 3] = masks[3, 4, 4] = masks[3, 11, 9] = 1
    return masks


# Vertices are rounded to 0.05 µm and lie at least 0.35 pixels, here 0.18 mm, from every centre:
# filling must give the mask itself, so that Dice is 1, not only above 0.99.
@pytest.mark.parametrize("name", ["axial", "sagittal", "coronal", "oblique", "feet-first"])
@pytest.mark.parametrize("tilt", [0.0, 15.0])
def test_filling_the_contours_gives_the_mask_again(make_volume, write, shapes, name, tilt):
    volume = make_volume(name, tilt=tilt)
    filled = fill(write(shapes, volume), volume)
    for number in (1, 2):
        np.testing.assert_array_equal(filled[number], (shapes == number).astype(int))


def test_frames_of_an_enhanced_source_are_told_apart(make_volume, write, masks):
    volume = make_volume("oblique", is_enhanced=True)
    filled = fill(write(masks, volume), volume)
    np.testing.assert_array_equal(filled[1], (masks == 1).astype(int))


@pytest.mark.parametrize("is_enhanced", [False, True])
@pytest.mark.parametrize("tilt", [0.0, 15.0])
def test_it_is_valid(
    make_volume, make_case, shapes, tmp_path, find_dicom_errors, is_enhanced, tilt
):
    volume = make_volume("oblique", is_enhanced=is_enhanced, tilt=tilt)
    written = write_rtstruct(make_case(volume, masks=shapes), path=tmp_path / "a.dcm")
    assert find_dicom_errors(written.path) == []


def test_an_empty_mask_keeps_its_regions_without_contours(
    make_volume, write, masks, tmp_path, find_dicom_errors
):
    structures = write(np.zeros_like(masks), make_volume("axial"))
    assert [region.ROIName for region in structures.StructureSetROISequence] == [
        "prostate",
        "left kidney",
    ]
    assert not any("ContourSequence" in region for region in structures.ROIContourSequence)
    assert find_dicom_errors(tmp_path / "rtstruct.dcm") == []


def test_it_has_what_planning_systems_ask_for(make_volume, write, masks, segments):
    volume = make_volume("axial")
    structures = write(masks, volume)
    for keyword in ("ReferringPhysicianName", "OperatorsName", "PositionReferenceIndicator"):
        assert keyword in structures
    assert structures.AccessionNumber == "A-1"
    assert structures.FrameOfReferenceUID == volume.frame_of_reference_uid
    assert structures.ApprovalStatus == "UNAPPROVED"
    assert structures.SeriesDescription.startswith("RESEARCH USE ONLY")
    (frame_of_reference,) = structures.ReferencedFrameOfReferenceSequence
    assert frame_of_reference.FrameOfReferenceUID == volume.frame_of_reference_uid
    (study,) = frame_of_reference.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == volume.series_uid
    assert len(series.ContourImageSequence) == len(volume.frames)
    colours = [list(region.ROIDisplayColor) for region in structures.ROIContourSequence]
    assert colours == [list(segment.colour) for segment in segments]
    codes = [o.RTROIIdentificationCodeSequence[0] for o in structures.RTROIObservationsSequence]
    assert [code.CodeValue for code in codes] == [segment.type.value for segment in segments]


def test_a_contour_longer_than_64_kb_is_written(
    make_volume, write, segments, tmp_path, find_dicom_errors
):
    volume = replace(make_volume("axial"), rows=96, columns=96)
    masks = np.zeros((5, 96, 96), dtype=np.uint8)
    masks[1, 1:95, 1:95] = 1
    masks[1, 2:94:3, 2:94:3] = 0  # 31 × 31 holes, all in one contour
    structures = write(masks, volume, segments=segments[:1])
    (contour,) = structures.ROIContourSequence[0].ContourSequence
    assert sum(len(str(v)) + 1 for v in contour.ContourData) > 65536
    assert contour["ContourData"].VR == "DS"
    np.testing.assert_array_equal(fill(structures, volume)[1], masks)
    assert find_dicom_errors(tmp_path / "rtstruct.dcm") == []


def test_the_same_mask_has_the_same_uid_and_another_one_another(
    make_volume, make_case, masks, tmp_path
):
    volume = make_volume("axial")
    one, again, other = (
        write_rtstruct(make_case(volume, masks=mask), path=tmp_path / "a.dcm")
        for mask in (masks, masks.copy(), np.roll(masks, 1, axis=2))
    )
    assert one.sop_instance_uid == again.sop_instance_uid != other.sop_instance_uid
    assert one.series_uid == again.series_uid != other.series_uid


def test_a_source_without_a_frame_of_reference_is_refused(make_volume, make_case, tmp_path):
    nowhere = replace(make_volume("axial"), frame_of_reference_uid="")
    with pytest.raises(DicomError, match="needs the source's frame of reference") as caught:
        write_rtstruct(make_case(nowhere), path=tmp_path / "a.dcm")
    assert caught.value.reason == "no_frame_of_reference"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["axial", "sagittal", "oblique"])
def test_outlines_lie_in_the_patient_by_the_affine_of_the_volume(make_volume, name):
    volume = make_volume(name, tilt=12.0)
    ring = np.array([[0.5, 2.0], [3.0, 0.0], [1.0, 4.5]])
    index = np.column_stack([ring[:, 1], ring[:, 0], np.full(3, 3), np.ones(3)])
    expected = (volume.affine_lps @ index.T).T[:, :3]
    np.testing.assert_allclose(to_patient(ring, volume, 3), expected, atol=1e-9)
