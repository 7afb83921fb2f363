"""A case is held up as a reader holds it, and its volumes are those of its voxels."""

from dataclasses import replace

import numpy as np
import pytest
from reported import GREEN, report_case, with_shift

AFFINE = np.diag([2.0, 3.0, 5.0, 1.0])  # RAS: x to the right, y to the front, z to the head


@pytest.fixture
def marked_corner():
    """One voxel far to the right, the front and the head of a 4 × 5 × 6 grid."""
    kept = np.zeros((4, 5, 6), np.uint8)
    kept[3, 4, 5] = 1
    voxels = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
    return report_case(voxels=voxels, kept=kept, source=kept * 0, marked=kept, affine_ras=AFFINE)


@pytest.mark.parametrize(
    ("plane", "letters", "shape", "place"),
    [
        ("axial", ("R", "L", "A", "P"), (6, 5, 4), (5, 0, 0)),  # right is left, front is up
        ("coronal", ("R", "L", "H", "F"), (5, 6, 4), (0, 0, 0)),  # slices from front to back
        ("sagittal", ("A", "P", "H", "F"), (4, 6, 5), (0, 0, 0)),  # slices from right to left
    ],
)
def test_planes_are_held_as_a_radiologist_holds_them(marked_corner, plane, letters, shape, place):
    sheet = marked_corner.sheets[plane]
    assert sheet.letters() == letters
    assert sheet.mask.shape == marked_corner.marks(plane).shape == shape
    assert np.argwhere(sheet.mask).tolist() == [list(place)]
    assert sheet.voxels[place] == 119


def test_the_corner_keeps_its_place_in_the_patient(marked_corner):
    for sheet in marked_corner.sheets.values():
        frame, row, column = np.argwhere(sheet.mask)[0]
        place = sheet.affine_lps @ [column, row, frame, 1]
        assert place[:3].tolist() == [-6.0, -12.0, 25.0]


def test_a_volume_is_its_voxels_times_their_size_and_the_change_is_kept_minus_source():
    kept, source = np.zeros((2, 4, 5, 6), np.uint8)
    kept[:2, :2, :2], source[:2, :2, :1] = 1, 1
    case = report_case(voxels=kept * 1.0, kept=kept, source=source, marked=None, affine_ras=AFFINE)
    (volume,) = case.volumes()
    assert (volume.kept, volume.source, volume.change) == pytest.approx((0.24, 0.12, 0.12))
    assert volume.percent == pytest.approx(100)
    assert volume.dice == pytest.approx(2 * 4 / 12)
    # in the thickest slices, 5 mm: two voxels of 2 and two of 3 mm across, two slices deep
    assert (volume.across, volume.depth) == pytest.approx((np.hypot(4, 6), 10))


def test_the_plane_of_acquisition_is_that_of_the_thickest_slices(marked_corner):
    assert marked_corner.best_plane == "axial"
    turned = replace(marked_corner, affine_ras=np.diag([9.0, 3.0, 5.0, 1.0]))
    assert turned.best_plane == "sagittal"


def test_a_crop_keeps_every_voxel_where_it_was(marked_corner):
    near = marked_corner.cropped(5.0)
    assert near.voxels.shape == (4, 3, 2)  # 5 mm are at most 3, 2 and 1 voxels
    (index,) = np.argwhere(near.kept)
    assert (near.affine_ras @ [*index, 1])[:3].tolist() == [6.0, 12.0, 25.0]


def test_arrays_of_another_grid_are_refused():
    with pytest.raises(ValueError, match="source must be as large as the image"):
        report_case(source=np.zeros((2, 2, 2), np.uint8))


def test_how_foreign_a_case_is_comes_from_the_record_where_it_stands():
    assert report_case().foreign_percentile is None
    assert report_case(text=with_shift(GREEN, 97.5)).foreign_percentile == 97.5
