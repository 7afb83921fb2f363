import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

from grata_monai.nnunet.grid import (
    affine_ras,
    invert_layout,
    network_affine,
    plan_layout,
    restore,
)

LPS = np.diag([-1.0, -1.0, 2.0, 1.0])  # columns to the left, rows to the back


def test_the_affine_is_that_of_the_file(tmp_path):
    image = SimpleITK.Image(4, 5, 6, SimpleITK.sitkFloat32)
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((-20.0, 5.0, 30.0))
    image.SetDirection((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nii.gz"))
    found = {"spacing": image.GetSpacing(), "origin": image.GetOrigin()}
    properties = {"sitk_stuff": {**found, "direction": image.GetDirection()}}
    np.testing.assert_allclose(
        affine_ras(properties),
        nib.Nifti1Image.from_filename(tmp_path / "a.nii.gz").affine,
        atol=1e-5,
    )


def test_a_plane_has_an_affine_too():
    found = {"spacing": (2.0, 3.0), "origin": (4.0, 5.0), "direction": (1.0, 0.0, 0.0, 1.0)}
    expected = [[-2, 0, 0, -4], [0, -3, 0, -5], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(affine_ras({"sitk_stuff": found}), expected)


def test_readers_that_know_no_place_leave_the_spacing():
    np.testing.assert_allclose(affine_ras({"spacing": [3, 2, 1]}), np.diag([1.0, 2.0, 3.0, 1.0]))


def test_nibabel_turned_images_lie_where_they_were_turned_to():
    one, two = np.eye(4), LPS
    found = {"original_affine": one, "reoriented_affine": two}
    np.testing.assert_array_equal(affine_ras({"nibabel_stuff": found}), two)
    np.testing.assert_array_equal(affine_ras({"nibabel_stuff": {"original_affine": one}}), one)


def test_maps_come_back_through_resampling_cropping_and_transposing():
    maps = torch.zeros(1, 4, 2, 2)
    maps[0, :2] = 7
    properties = {
        "shape_after_cropping_and_before_resampling": (2, 2, 2),
        "shape_before_cropping": (4, 3, 2),
        "bbox_used_for_cropping": [[1, 3], [0, 2], [0, 2]],
    }
    back = restore(maps, properties, [1, 0, 2])  # the plans had exchanged the first two axes
    assert back.shape == (1, 2, 4, 3)
    expected = np.zeros((2, 4, 3))
    expected[:, 1, :2] = 7
    np.testing.assert_array_equal(back[0], expected)


def test_the_networks_grid_lies_where_cropping_transposing_and_resampling_put_it():
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = 10, 20, 30
    properties = {"bbox_used_for_cropping": [[0, 4], [2, 6], [1, 3]]}  # of z, x, y
    found = network_affine(
        affine, properties, shape=(4, 8, 4), spacing=(3.0, 0.5, 1.0), transpose_forward=(0, 2, 1)
    )
    # the first voxel of z; half as wide in x and y, so a quarter of a voxel before the old ones
    np.testing.assert_allclose(found @ [0, 0, 0, 1], [10 + 2 - 0.25, 20 + 2 - 0.5, 30, 1])
    np.testing.assert_allclose(found @ [3, 7, 3, 1], [10 + 5 + 0.25, 20 + 4 + 0.5, 39, 1])


@pytest.mark.parametrize("orientation", ["", "RAS", "PIR"])
def test_a_layout_can_be_undone(orientation):
    stack = np.random.default_rng(0).random((3, 4, 5))
    layout = plan_layout(LPS, orientation)
    turned = nib.apply_orientation(stack, layout)
    np.testing.assert_array_equal(nib.apply_orientation(turned, invert_layout(layout)), stack)


def test_layouts_lead_where_they_say():
    stack = np.arange(8).reshape(2, 2, 2)
    as_dcm2niix = nib.apply_orientation(stack, plan_layout(LPS, ""))
    np.testing.assert_array_equal(as_dcm2niix, stack[:, ::-1])
    to_ras = nib.apply_orientation(stack, plan_layout(LPS, "RAS"))
    np.testing.assert_array_equal(to_ras, stack[::-1, ::-1])
