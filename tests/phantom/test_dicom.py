"""Synthetic series: what highdicom, dcm2niix and dciodvfy read is what was written."""

import re
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom")

from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
)

from grata_monai.core.errors import OutputError  # noqa: E402
from grata_monai.phantom import make_case  # noqa: E402
from grata_monai.phantom.dicom import (  # noqa: E402
    TRANSFER_SYNTAXES,
    SeriesOptions,
    make_series,
    make_uid,
    stored_volume,
    write_nifti_as_series,
    write_series,
)
from grata_monai.phantom.jpeg import encode_lossless  # noqa: E402

TINY = {"spacing": (10.0, 12.0, 9.0), "spatial_shape": (16, 12, 8)}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SIZES = (7, 6, 5)


@pytest.fixture(scope="module")
def case():
    return make_case(0, **TINY)


def random_image(low=0, high=1000):
    return np.random.default_rng(0).integers(low, high, SIZES).astype(np.float64)


def read_geometry(paths):
    """Read with highdicom; its frames run against the normal, ours along it."""
    if len(paths) == 1:
        volume = hd.imread(paths[0]).get_volume()
    else:
        instances = [pydicom.dcmread(path) for path in paths]
        volume = hd.get_volume_from_series(instances, perpendicular_tol=1e-4)
    volume = volume.flip_spatial(0).permute_spatial_axes((2, 1, 0))
    return volume.array, LPS @ volume.affine


def positions(paths):
    return np.array([pydicom.dcmread(p).ImagePositionPatient for p in paths], dtype=float)


@pytest.mark.parametrize("is_enhanced", [False, True])
@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LSA", "PSL", "PSR", "LPI", "ARI"])
def test_any_orientation_is_read_back_where_it_lay(tmp_path, orientation, modality, is_enhanced):
    case = make_case(1, orientation=orientation, oblique_degrees=17.0, **TINY)
    options = SeriesOptions(modality=modality, is_enhanced=is_enhanced)
    paths = write_series(tmp_path, case.image, case.affine_ras, options=options)
    voxels, affine_ras = read_geometry(paths)
    expected, expected_affine = stored_volume(case.image, case.affine_ras, options=options)
    np.testing.assert_array_equal(voxels, expected)
    np.testing.assert_allclose(affine_ras, expected_affine, rtol=0, atol=1e-9)
    index = np.array([3, 2, 1, 1])
    i, j, k = np.rint(np.linalg.solve(affine_ras, case.affine_ras @ index)[:3]).astype(int)
    assert voxels[i, j, k] == np.rint(case.image[3, 2, 1])


@given(
    turn=st.integers(0, 2**32 - 1),
    spacing=st.tuples(*[st.floats(0.05, 20)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    is_mirrored=st.booleans(),
)
def test_any_geometry_comes_back_exact(tmp_path_factory, turn, spacing, origin, is_mirrored):
    affine_ras = np.eye(4)
    rotation = Rotation.random(random_state=np.random.RandomState(turn)).as_matrix()
    affine_ras[:3, :3] = rotation * spacing * [1, 1, -1 if is_mirrored else 1]
    affine_ras[:3, 3] = origin
    folder = tmp_path_factory.mktemp("series")
    image = random_image()
    read, read_affine = read_geometry(write_series(folder, image, affine_ras))
    expected, expected_affine = stored_volume(image, affine_ras)
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_allclose(read_affine, expected_affine, rtol=0, atol=1e-8)


@pytest.mark.parametrize("is_enhanced", [False, True])
@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
def test_every_transfer_syntax_holds_the_same_voxels(tmp_path, syntax, is_enhanced):
    if syntax == ExplicitVRBigEndian and is_enhanced:
        pytest.skip("highdicom reads no big endian multi-frame images")
    is_small = syntax == JPEGBaseline8Bit
    image = random_image(0, 256 if is_small else 4096)[:, :, :3]
    image = np.repeat(np.repeat(image, 8, axis=0), 8, axis=1)  # no loss where blocks have one value
    options = SeriesOptions(
        transfer_syntax=syntax, bits_stored=8 if is_small else 12, is_enhanced=is_enhanced
    )
    paths = write_series(tmp_path, image, np.eye(4), options=options)
    assert pydicom.dcmread(paths[0]).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(
        read_geometry(paths)[0], stored_volume(image, np.eye(4), options=options)[0]
    )


@pytest.mark.parametrize("bits", [2, 8, 12, 16])
def test_the_lossless_encoder_is_lossless_at_every_precision(bits):
    from libjpeg import decode

    rng = np.random.default_rng(bits)
    frame = rng.integers(0, 1 << bits, (9, 7)).astype(np.uint16)
    frame[:2] = [[0], [(1 << bits) - 1]]  # the largest differences there are
    np.testing.assert_array_equal(decode(encode_lossless(frame, bits=bits)), frame)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLosslessSV1])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_signed_pixels_and_a_rescale_per_slice(tmp_path, bits, syntax):
    image = random_image(-100, 100)
    rescale = tuple((1.0 + index / 4, float(index - 2)) for index in range(SIZES[2]))
    options = SeriesOptions(
        bits_stored=bits, is_signed=True, rescale=rescale, transfer_syntax=syntax
    )
    paths = write_series(tmp_path, image, np.eye(4) * 2, options=options)
    expected = stored_volume(image, np.eye(4) * 2, options=options)[0]
    np.testing.assert_array_equal(read_geometry(paths)[0], expected)
    assert np.abs(expected - image).max() <= 1.0  # half the widest step


def test_ct_has_hounsfield_units(tmp_path):
    options = SeriesOptions(modality="CT", bits_stored=12)
    image = random_image(-1024, 3071)
    paths = write_series(tmp_path, image, np.eye(4), options=options)
    np.testing.assert_array_equal(read_geometry(paths)[0], image[:, :, ::-1][:, :, ::-1])
    assert pydicom.dcmread(paths[0]).RescaleIntercept == -1024


def test_classic_mr_has_no_rescale_unless_asked(tmp_path):
    paths = write_series(tmp_path / "a", random_image(), np.eye(4))
    assert "RescaleSlope" not in pydicom.dcmread(paths[0])
    paths = write_series(
        tmp_path / "b", random_image(), np.eye(4), options=SeriesOptions(rescale=(0.5, -3.0))
    )
    assert pydicom.dcmread(paths[0]).RescaleSlope == 0.5


def test_a_tilted_gantry_shears_the_stack_and_keeps_the_planes(tmp_path):
    options = SeriesOptions(modality="CT", tilt_degrees=15.0)
    affine_ras = LPS @ np.diag([2.0, 3.0, 5.0, 1.0])
    paths = write_series(tmp_path, random_image(), affine_ras, options=options)
    step = [0, 5 * np.tan(np.deg2rad(15)), 5]
    np.testing.assert_allclose(np.diff(positions(paths), axis=0), np.tile(step, (4, 1)), atol=1e-9)
    first = pydicom.dcmread(paths[0])
    assert first.GantryDetectorTilt == 15
    assert list(first.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    with pytest.raises(ValueError, match="regularly-spaced"):
        read_geometry(paths)
    expected = stored_volume(random_image(), affine_ras, options=options)[1]
    np.testing.assert_allclose(LPS @ expected @ [0, 0, 0, 1], [0, 0, 0, 1], atol=1e-9)
    np.testing.assert_allclose((LPS @ expected)[:3, 2], step, atol=1e-9)


def test_shuffled_names_and_numbers_say_nothing_about_the_place(tmp_path):
    options = SeriesOptions(is_shuffled=True)
    paths = write_series(tmp_path, random_image(), np.eye(4), options=options)
    numbers = [int(pydicom.dcmread(path).InstanceNumber) for path in paths]
    assert sorted(numbers) == [1, 2, 3, 4, 5]
    assert numbers != sorted(numbers)
    assert all(re.fullmatch("[0-9a-f]{16}", path.name) for path in paths)
    np.testing.assert_array_equal(
        read_geometry(sorted(paths))[0], stored_volume(random_image(), np.eye(4))[0]
    )


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    for name in "ab":
        write_series(tmp_path / name, random_image(), np.eye(4), options=SeriesOptions(seed=3))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_identifiers_are_valid_and_follow_seed_and_series():
    first, other_series, other_seed = (
        make_series(random_image(), np.eye(4), options=options)[0]
        for options in (SeriesOptions(), SeriesOptions(series=2), SeriesOptions(seed=1))
    )
    assert first.StudyInstanceUID == other_series.StudyInstanceUID
    assert first.FrameOfReferenceUID == other_series.FrameOfReferenceUID
    assert first.SeriesInstanceUID != other_series.SeriesInstanceUID
    assert first.StudyInstanceUID != other_seed.StudyInstanceUID
    assert pydicom.uid.UID(make_uid("any", "thing")).is_valid
    assert str(first.PatientName) == "PHANTOM^SYNTHETIC"


@pytest.mark.parametrize("is_enhanced", [False, True])
@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLosslessSV1])
def test_dciodvfy_finds_no_error(tmp_path, case, modality, is_enhanced, syntax):
    tool = shutil.which("dciodvfy") or pytest.skip("no dciodvfy; install Debian's dicom3tools")
    options = SeriesOptions(
        modality=modality, is_enhanced=is_enhanced, transfer_syntax=syntax, tilt_degrees=5.0
    )
    path = write_series(tmp_path, case.image, case.affine_ras, options=options)[-1]
    found = subprocess.run([tool, "-new", path], capture_output=True, text=True, check=False)
    assert "Error" not in found.stderr
    assert f"{'Enhanced' if is_enhanced else ''}{modality}Image" in found.stdout + found.stderr


@pytest.mark.parametrize("is_enhanced", [False, True])
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_dcm2niix_reads_the_same_voxels_and_geometry(tmp_path, modality, is_enhanced):
    tool = shutil.which("dcm2niix") or pytest.skip("no dcm2niix")
    case = make_case(2, oblique_degrees=10.0, **TINY)
    options = SeriesOptions(modality=modality, is_enhanced=is_enhanced, is_shuffled=True)
    write_series(tmp_path / "in", case.image, case.affine_ras, options=options)
    (tmp_path / "out").mkdir()
    command = [tool, "-b", "n", "-f", "a", "-o", tmp_path / "out", tmp_path / "in"]
    subprocess.run(command, capture_output=True, check=True)
    (path,) = (tmp_path / "out").glob("*.nii")
    nifti = nib.Nifti1Image.from_filename(path)
    expected, affine_ras = stored_volume(case.image, case.affine_ras, options=options)
    index = np.stack(np.meshgrid(*map(np.arange, expected.shape), indexing="ij"), axis=-1)
    place = np.linalg.inv(nifti.affine) @ affine_ras
    i, j, k = np.moveaxis(np.rint(index @ place[:3, :3].T + place[:3, 3]).astype(int), -1, 0)
    np.testing.assert_array_equal(nifti.get_fdata()[i, j, k], expected)
    np.testing.assert_allclose(np.abs(place[:3, :3]), np.eye(3), atol=1e-4)
    np.testing.assert_allclose(place[:3, 3], np.rint(place[:3, 3]), atol=1e-4)


def test_a_nifti_image_becomes_the_series_of_its_voxels(tmp_path, case):
    path = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(case.image.astype(np.float32), case.affine_ras), path)
    options = SeriesOptions(seed=3)
    paths = write_nifti_as_series(path, tmp_path / "series", options=options)
    assert len(paths) == case.image.shape[2]
    assert pydicom.dcmread(paths[0]).SeriesInstanceUID == make_uid("series", 3, 1)
    voxels, affine_ras = read_geometry(paths)
    place = np.linalg.inv(affine_ras) @ case.affine_ras  # our index to the reader's
    index = np.stack(np.meshgrid(*map(np.arange, case.image.shape), indexing="ij"), axis=-1)
    i, j, k = np.moveaxis(np.rint(index @ place[:3, :3].T + place[:3, 3]).astype(int), -1, 0)
    np.testing.assert_array_equal(voxels[i, j, k], np.rint(case.image))
    np.testing.assert_allclose(place, np.rint(place), atol=1e-4)


def test_deflated_files_are_deflated(tmp_path):
    options = SeriesOptions(transfer_syntax=DeflatedExplicitVRLittleEndian)
    path = write_series(tmp_path, np.zeros((64, 64, 2)), np.eye(4), options=options)[0]
    assert path.stat().st_size < 64 * 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modality": "PT"}, r"modality must be 'MR' or 'CT', got 'PT'"),
        ({"transfer_syntax": "1.2.3"}, r"transfer_syntax must be one of .* got '1\.2\.3'"),
        ({"bits_stored": 32}, r"bits_stored must lie in 2 to 16, got 32"),
        ({"tilt_degrees": 90.0}, r"tilt_degrees must lie between -60 and 60, got 90"),
        ({"transfer_syntax": JPEGBaseline8Bit}, r"bits_stored must be 8 and unsigned"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SeriesOptions(**options)


def test_impossible_volumes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="stored values must lie in 0 to 255, got -1 to 0"):
        write_series(tmp_path, random_image(-1, 1), np.eye(4), options=SeriesOptions(bits_stored=8))
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    with pytest.raises(ValueError, match=r"must be orthogonal, two have a cosine of 0\.4472"):
        write_series(tmp_path, random_image(), sheared)
    with pytest.raises(ValueError, match="affine_ras must be finite and invertible"):
        write_series(tmp_path, random_image(), np.diag([1.0, 0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="image must have three axes"):
        write_series(tmp_path, np.zeros((3, 3)), np.eye(4))
    with pytest.raises(ValueError, match=r"rescale must be a finite pair or one per slice \(5\)"):
        write_series(
            tmp_path,
            random_image(),
            np.eye(4),
            options=SeriesOptions(rescale=((1.0, 0.0), (1.0, 0.0))),
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="output folder must be writable"):
        write_series(tmp_path / "file", random_image(), np.eye(4))
