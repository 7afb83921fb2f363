"""Synthetic cases: repeatable, anatomically sound, exact on every grid, and written whole."""

from functools import cache

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from grata_monai.core.errors import OutputError
from grata_monai.phantom import SHIFTS, make_case, write_cases

COARSE = {"spacing": (2.4, 2.4, 5.0), "spatial_shape": (64, 64, 12)}
TINY = {"spacing": (5.0, 6.0, 3.0), "spatial_shape": (20, 16, 8)}
RESHAPING = ("endorectal_coil", "thick_slices")
SHIFTED = SHIFTS[1:]

axis_codes = st.permutations(["RL", "AP", "SI"]).flatmap(
    lambda pairs: st.tuples(*(st.sampled_from(pair) for pair in pairs)).map("".join)
)


def volume_ml(case):
    return case.label.sum() * abs(np.linalg.det(case.affine_ras[:3, :3])) / 1000


def arrays(case):
    return case.image, case.label, case.affine_ras


@cache
def shifted(shift):
    return make_case(0, shift=shift, **COARSE)


@pytest.fixture(scope="module")
def plain():
    return make_case(0, **COARSE)


@pytest.fixture(scope="module")
def oblique():
    return make_case(3, orientation="RAS", oblique_degrees=20.0, **COARSE)


@pytest.fixture(scope="module")
def tiny():
    return make_case(5, orientation="RAS", **TINY)


def test_the_same_seed_gives_the_same_bytes(tiny):
    again = make_case(5, orientation="RAS", **TINY)
    assert [a.tobytes() for a in arrays(again)] == [a.tobytes() for a in arrays(tiny)]


def test_another_seed_is_another_patient(plain):
    other = make_case(1, **COARSE)
    assert not np.array_equal(other.label, plain.label)
    assert not np.array_equal(other.image, plain.image)


def test_a_case_has_the_promised_types_and_range(plain):
    assert (plain.image.dtype, plain.label.dtype, plain.affine_ras.dtype) == (
        np.float32,
        np.uint8,
        np.float64,
    )
    assert plain.image.shape == plain.label.shape == (64, 64, 12)
    assert plain.image.flags.c_contiguous
    assert np.isfinite(plain.image).all()
    assert plain.image.min() >= 0
    assert 500 < plain.image.max() < 2500
    assert set(np.unique(plain.label)) == {0, 1}


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_the_gland_is_as_large_as_prostates_are(seed):
    assert (
        15 < volume_ml(make_case(seed, spacing=(3.0, 3.0, 6.0), spatial_shape=(40, 40, 12))) < 120
    )


def test_the_volume_hardly_depends_on_the_grid():
    fine = make_case(2, spacing=(1.2, 1.2, 2.0), spatial_shape=(64, 64, 36))
    coarse = make_case(2, spacing=(2.4, 2.4, 4.0), spatial_shape=(32, 32, 18))
    assert volume_ml(coarse) == pytest.approx(volume_ml(fine), rel=0.03)


def test_the_label_lies_inside_the_bright_body_and_air_outside_is_dark():
    case = make_case(1, spacing=(4.0, 4.0, 6.0), spatial_shape=(110, 80, 10), orientation="RAS")
    slices = [ndimage.binary_fill_holes(part) for part in np.moveaxis(case.image > 45, 2, 0)]
    inside = np.stack([ndimage.binary_opening(part, iterations=2) for part in slices], axis=2)
    assert inside[case.label == 1].all()
    assert 0.3 < inside.mean() < 0.9
    assert np.median(case.image[~inside]) < 30 < np.median(case.image[case.label == 1])


def test_the_gland_is_one_piece_in_the_middle(plain):
    _, pieces = ndimage.label(plain.label)
    assert pieces == 1
    middle = (np.array(plain.label.shape) - 1) / 2
    away = (np.argwhere(plain.label).mean(axis=0) - middle) * COARSE["spacing"]
    assert np.abs(away).max() < 12


def test_a_patient_stays_where_he_is_when_the_grid_turns(oblique):
    straight = make_case(3, orientation="RAS", **COARSE)
    centres = [
        nib.affines.apply_affine(case.affine_ras, np.argwhere(case.label)).mean(axis=0)
        for case in (straight, oblique)
    ]
    assert volume_ml(oblique) == pytest.approx(volume_ml(straight), rel=0.03)
    np.testing.assert_allclose(centres[0], centres[1], atol=0.5)


def test_an_oblique_grid_is_a_rotation_with_the_asked_angle(oblique):
    turn = oblique.affine_ras[:3, :3] / COARSE["spacing"]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) == pytest.approx(20)


@settings(max_examples=6)
@given(codes=axis_codes)
def test_every_orientation_stores_the_same_patient(tiny, codes):
    stored, expected = make_case(5, orientation=codes, **TINY), tiny
    assert nib.aff2axcodes(stored.affine_ras) == tuple(codes)
    for array, wanted in ((stored.image, expected.image), (stored.label, expected.label)):
        canonical = nib.as_closest_canonical(nib.Nifti1Image(array, stored.affine_ras))
        np.testing.assert_array_equal(np.asarray(canonical.dataobj), wanted)
        np.testing.assert_allclose(canonical.affine, expected.affine_ras, atol=1e-12)


def test_spacing_and_shape_follow_the_patient_not_the_array():
    case = make_case(5, orientation="ASL", **TINY)
    assert case.image.shape == (16, 8, 20)
    np.testing.assert_allclose(nib.affines.voxel_sizes(case.affine_ras), (6, 3, 5))


@pytest.mark.parametrize("shift", SHIFTED)
def test_a_shift_changes_the_image_and_the_label_only_where_it_must(plain, shift):
    case = shifted(shift)
    assert case.image.dtype == np.float32
    assert np.isfinite(case.image).all()
    assert case.image.min() >= 0
    assert not np.array_equal(case.image, plain.image)
    assert np.array_equal(case.label, plain.label) is (shift not in RESHAPING)


def test_thick_slices_are_half_as_many_and_twice_as_thick(plain):
    case = shifted("thick_slices")
    assert case.image.shape == (64, 64, 6)
    np.testing.assert_allclose(nib.affines.voxel_sizes(case.affine_ras), (2.4, 2.4, 10.0))
    assert volume_ml(case) == pytest.approx(volume_ml(plain), rel=0.08)


def test_the_endorectal_coil_flattens_the_gland_and_outshines_the_front(plain):
    case = shifted("endorectal_coil")
    middle = np.argwhere(plain.label).mean(axis=0).round().astype(int)
    depth = [one.label[middle[0], :, middle[2]].sum() for one in (plain, case)]
    assert depth[1] < depth[0]
    assert volume_ml(case) == pytest.approx(volume_ml(plain), rel=0.15)
    before, after = (
        np.median(one.image[:, 4:8]) / np.median(one.image[one.label == 1]) for one in (plain, case)
    )
    assert after < 0.6 * before


def test_written_cases_read_back_with_their_geometry(tmp_path):
    pairs = write_cases(tmp_path, cases=2, shift="gain", seed=7, orientation="LPS", **TINY)
    names = ["phantom_gain_0007.nii.gz", "phantom_gain_0008.nii.gz"]
    assert pairs == [(tmp_path / "images" / name, tmp_path / "labels" / name) for name in names]
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(sum(pairs, ()))
    case = make_case(8, shift="gain", orientation="LPS", **TINY)
    for path, array in zip(pairs[1], (case.image, case.label), strict=True):
        nifti = nib.Nifti1Image.from_filename(path)
        np.testing.assert_array_equal(np.asarray(nifti.dataobj), array)
        assert nifti.get_data_dtype() == np.asarray(array).dtype
        assert nifti.header.get_xyzt_units()[0] == "mm"
        assert (nifti.header["qform_code"], nifti.header["sform_code"]) == (1, 1)
        for affine in (nifti.affine, nifti.get_qform(), nifti.get_sform()):
            np.testing.assert_allclose(affine, case.affine_ras, atol=1e-4)


def test_writing_twice_gives_the_same_files(tmp_path):
    first, second = (write_cases(tmp_path / name, cases=1, **TINY)[0] for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_failed_write_leaves_no_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("grata_monai.core.files.os.fsync", full)
    with pytest.raises(OutputError, match="disk full"):
        write_cases(tmp_path, cases=1, **TINY)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "images").write_text("a file, no folder")
    with pytest.raises(OutputError, match="output folder must be writable, 'images' is not"):
        write_cases(tmp_path, cases=1, **TINY)


def test_an_unknown_shift_is_refused_with_the_nearest(tmp_path):
    message = "got 'bias'. Did you mean 'bias_field'"
    with pytest.raises(ValueError, match=message):
        make_case(0, shift="bias")
    with pytest.raises(ValueError, match=message):
        write_cases(tmp_path / "cases", cases=1, shift="bias")
    assert not (tmp_path / "cases").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spacing": (0.6, 0.0, 3.0)}, r"spacing .* above 0, got \(0.6, 0.0, 3.0\)"),
        ({"spacing": (0.6, 0.6)}, "spacing must be three distances"),
        ({"spacing": (0.6, 0.6, float("nan"))}, "spacing must be three distances"),
        ({"spatial_shape": (64, 64, 7)}, r"at least 8 voxels, got \(64, 64, 7\)"),
        ({"spatial_shape": (64, 64)}, "spatial_shape must be three numbers"),
        ({"orientation": "LRS"}, "one each of L or R, P or A, I or S, got 'LRS'"),
        ({"orientation": "LP"}, "orientation must be three axis codes"),
        ({"orientation": "lps"}, "Take for example 'LPS'"),
        ({"oblique_degrees": 45.0}, "between -45 and 45, got 45.0"),
    ],
)
def test_an_impossible_grid_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_case(0, **arguments)


def test_a_negative_seed_and_no_case_are_refused(tmp_path):
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        make_case(-1)
    with pytest.raises(ValueError, match="cases must be at least 1, got 0"):
        write_cases(tmp_path, cases=0)
