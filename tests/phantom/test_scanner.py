"""Scanner shifts: each does to the intensities what it says, repeatably, and nothing at rest."""

import numpy as np
import pytest

from grata_monai.phantom import SHIFTS, apply_scanner_shift

SHIFTED = SHIFTS[1:]


@pytest.fixture(scope="module")
def smooth():
    x, y, z = np.meshgrid(*(np.linspace(0, 3, n) for n in (40, 36, 12)), indexing="ij")
    return (500 + 400 * np.sin(3 * x) * np.cos(2 * y) * np.cos(z)).astype(np.float32)


@pytest.mark.parametrize("shift", SHIFTED)
def test_a_scanner_shift_leaves_its_input_alone_and_repeats(smooth, shift):
    kept = smooth.copy()
    arguments = {"shift": shift, "seed": 4, "spacing": (0.6, 0.6, 3.0)}
    once, twice = (apply_scanner_shift(smooth, **arguments) for _ in range(2))
    np.testing.assert_array_equal(smooth, kept)
    np.testing.assert_array_equal(once, twice)
    assert once.dtype == np.float32
    assert once.shape == smooth.shape
    assert np.isfinite(once).all()
    assert not np.allclose(once, smooth, rtol=1e-3)


@pytest.mark.parametrize("shift", SHIFTS)
def test_no_severity_is_no_shift(smooth, shift):
    done = apply_scanner_shift(smooth, shift=shift, seed=4, spacing=(1.0, 1.0, 3.0), severity=0.0)
    np.testing.assert_array_equal(done, smooth)
    assert not np.shares_memory(done, smooth)


@pytest.mark.parametrize("shift", sorted(set(SHIFTED) - {"gain", "bias_field"}))
def test_a_worse_shift_is_further_from_the_image(smooth, shift):
    mild, plain = (
        apply_scanner_shift(smooth, shift=shift, seed=4, spacing=(1.0, 1.0, 3.0), severity=severity)
        for severity in (0.25, 1.0)
    )
    assert np.abs(mild - smooth).mean() < np.abs(plain - smooth).mean()


def test_gain_is_one_factor_for_all_voxels(smooth):
    done = apply_scanner_shift(smooth, shift="gain", seed=1, spacing=(1.0, 1.0, 3.0))
    ratio = done / smooth
    np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-5)


def test_thick_slices_blur_only_the_axis_of_widest_spacing():
    point = np.zeros((9, 9, 9), dtype=np.float32)
    point[4, 4, 4] = 100
    done = apply_scanner_shift(point, shift="thick_slices", seed=0, spacing=(1.0, 3.0, 1.0))
    assert (done[4, :, 4] > 0).sum() > 1
    assert done.sum() == pytest.approx(done[4, :, 4].sum())
    assert done.sum() == pytest.approx(100, rel=1e-4)


def test_the_coil_is_brightest_where_it_lies():
    flat = np.full((20, 24, 10), 100, dtype=np.float32)
    done = apply_scanner_shift(
        flat, shift="endorectal_coil", seed=0, spacing=(3.0, 3.0, 4.0), centre=(5.0, 18.0, 2.0)
    )
    assert np.unravel_index(done.argmax(), done.shape) == (5, 18, 2)


def test_contrast_inversion_reverses_the_order_of_tissues():
    tissues = np.repeat(np.array([0, 100, 400, 900], dtype=np.float32), 64).reshape(4, 8, 8)
    done = apply_scanner_shift(tissues, shift="contrast_inversion", seed=0, spacing=(1.0, 1.0, 1.0))
    air, muscle, marrow, fat = done[:, 0, 0]
    assert air == 0
    assert muscle > marrow > fat > air


def test_an_unknown_shift_is_refused_with_all_there_are(smooth):
    with pytest.raises(ValueError, match="shift must be one of none, endorectal_coil, low_field"):
        apply_scanner_shift(smooth, shift="bias", seed=0, spacing=(1.0, 1.0, 1.0))


def test_a_severity_below_0_or_not_finite_is_refused(smooth):
    for severity in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"severity must be at least 0, got {severity}"):
            apply_scanner_shift(
                smooth, shift="gain", seed=0, spacing=(1.0, 1.0, 1.0), severity=severity
            )


def test_an_image_without_three_axes_is_refused(smooth):
    with pytest.raises(ValueError, match=r"three axes, got shape \(40, 36\)"):
        apply_scanner_shift(smooth[:, :, 0], shift="gain", seed=0, spacing=(1.0, 1.0, 1.0))
