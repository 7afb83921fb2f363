"""Shifts of real images: what must change does, what must not stays."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from grata_monai.experiments.calibrate.shifts import REAL_SHIFTS, ShiftScannerd, shift_image
from grata_monai.phantom import make_case

SPACING = (1.2, 1.2, 3.0)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return make_case(
        0, spacing=(2.4, 2.4, 6.0), spatial_shape=(40, 36, 10), orientation="RAS"
    ).image


@pytest.mark.parametrize("shift", REAL_SHIFTS)
def test_every_shift_is_finite_repeatable_and_changes_what_it_says(shift, image):
    before = image.copy()
    found = shift_image(image, shift=shift, seed=3, spacing=SPACING)
    assert found.shape == image.shape
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.min() >= 0
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(shift_image(image, shift=shift, seed=3, spacing=SPACING), found)
    is_same = shift == "none" or shift.startswith("field_of_view")
    assert np.array_equal(found, image) == is_same


def test_negative_intensities_are_lifted(image):
    lifted = shift_image(image - 100.0, shift="none", seed=0, spacing=SPACING)
    np.testing.assert_allclose(lifted, image - image.min() if image.min() > 0 else image, atol=1e-3)


def test_gamma_bends_about_the_bright_end():
    image = np.linspace(0, 4, 1000, dtype=np.float32).reshape(10, 10, 10)
    bright = np.percentile(image, 99.5)
    found = shift_image(image, shift="gamma_high", seed=0, spacing=SPACING)
    np.testing.assert_allclose(found, bright * (image / bright) ** 2.2, rtol=1e-4, atol=1e-5)


def test_resolution_leaves_blocks_of_two():
    image = np.random.default_rng(0).random((6, 7, 2), dtype=np.float32)
    found = shift_image(image, shift="resolution", seed=0, spacing=SPACING)
    np.testing.assert_array_equal(found[0::2], found[1::2])
    np.testing.assert_array_equal(found[:, 0:6:2], found[:, 1:6:2])
    assert not np.array_equal(found[0], found[2])


def test_the_noise_has_the_strength_that_it_says():
    image = np.full((40, 40, 10), 100.0, dtype=np.float32)
    found = shift_image(image, shift="noise", seed=0, spacing=SPACING)
    assert float(found.std()) == pytest.approx(10.0, rel=0.05)


def named(image: np.ndarray, name: str) -> MetaTensor:
    affine = torch.diag(torch.tensor([1.2, 1.2, 3.0, 1.0], dtype=torch.float64))
    meta = {"filename_or_obj": f"/data/{name}"}
    return MetaTensor(torch.from_numpy(image)[None], affine=affine, meta=meta)


@pytest.mark.parametrize(("shift", "factor"), [("blur", 1), ("field_of_view_small", 0.6)])
def test_only_a_field_of_view_changes_the_spacing_and_only_in_plane(shift, factor, image):
    given = named(image, "a.nii")
    found = ShiftScannerd("image", shift=shift)({"image": given, "label": 1})
    assert found["label"] == 1
    spacing = found["image"].affine[:3, :3].norm(dim=0).tolist()
    assert spacing == pytest.approx([1.2 * factor, 1.2 * factor, 3.0])
    assert given.affine[:3, :3].norm(dim=0).tolist() == pytest.approx([1.2, 1.2, 3.0])
    assert found["image"].meta["filename_or_obj"] == "/data/a.nii"


def test_cases_draw_differently_and_where_they_lie_does_not_matter(image):
    shift = ShiftScannerd("image", shift="noise")
    one, two = (shift({"image": named(image, name)})["image"] for name in ("a.nii", "b.nii"))
    again = shift({"image": named(image, "elsewhere/a.nii")})["image"]
    assert not torch.equal(one.as_tensor(), two.as_tensor())
    assert torch.equal(one.as_tensor(), again.as_tensor())


def test_two_dimensional_images_are_one_slice():
    image = MetaTensor(torch.rand(3, 12, 10), affine=torch.eye(4, dtype=torch.float64))
    found = ShiftScannerd("image", shift="gamma_low")({"image": image})["image"]
    assert found.shape == (3, 12, 10)
    assert not torch.equal(found.as_tensor(), image.as_tensor())


def test_an_unknown_shift_is_refused(image):
    with pytest.raises(ValueError, match="shift must be among none, bias_field"):
        shift_image(image, shift="blurr", seed=0, spacing=SPACING)
    with pytest.raises(ValueError, match="got 'blurr'"):
        ShiftScannerd("image", shift="blurr")
