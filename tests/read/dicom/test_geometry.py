"""Affines out equal affines in; highdicom and dcm2niix see the same voxels at the same places."""

import shutil
import subprocess
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from scipy.spatial.transform import Rotation

from grata_monai.core.errors import GeometryError
from grata_monai.phantom.dicom import SeriesOptions, make_series, stored_volume
from grata_monai.read.dicom.grid import FrameGrid
from grata_monai.read.dicom.load import read_volume
from grata_monai.read.dicom.volume import DicomVolume, SourceFrame

# the shape checks draw which item of a tuple they look at, also while a strategy builds one
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ORTHOGONAL = st.just(0.0)
TILTED = st.floats(0.1, 40.0)
NAMES = ["axial", "sagittal", "coronal", "feet_first", "oblique"]
needs_dcm2niix = pytest.mark.skipif(
    shutil.which("dcm2niix") is None, reason="dcm2niix is not installed (apt-get install dcm2niix)"
)


@st.composite
def affines(draw):
    """Any orthogonal affine: turned, flipped, anisotropic, far from the origin."""
    angles = draw(st.tuples(*[st.floats(-180.0, 180.0)] * 3))
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    rotation = np.eye(3) if draw(st.booleans()) else rotation
    spacing = draw(st.tuples(*[st.floats(0.2, 8.0)] * 3))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    order = draw(st.permutations([0, 1, 2]))
    affine = np.eye(4)
    affine[:3, :3] = (rotation * spacing * signs)[:, order]
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500.0, 500.0)] * 3))
    return affine


@st.composite
def volumes(draw, tilts=ORTHOGONAL):
    """Volumes without files: any orthogonal or evenly sheared stack."""
    affine_lps = RAS_TO_LPS @ draw(affines())
    columns, rows, count = draw(st.tuples(*[st.integers(2, 9)] * 3))
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    row, column = (affine_lps[:3, :2] / spacing[:2]).T
    tilt, around = np.deg2rad(draw(tilts)), draw(st.floats(0.0, 2 * np.pi))
    across = np.cos(around) * row + np.sin(around) * column
    step = spacing[2] * (np.cross(row, column) + np.tan(tilt) * across)
    positions = [affine_lps[:3, 3] + index * step for index in range(count)]
    path = Path("unread")
    frames = [SourceFrame(path, 1, "1", tuple(place.tolist())) for place in positions]
    return DicomVolume(
        name="bare",
        frames=tuple(frames),
        rows=rows,
        columns=columns,
        row_direction=tuple(row.tolist()),
        column_direction=tuple(column.tolist()),
        row_spacing=float(spacing[1]),
        column_spacing=float(spacing[0]),
        study_uid="1",
        series_uid="2",
        frame_of_reference_uid="3",
        sop_class_uid="4",
        transfer_syntax_uids=(),
        modality="CT",
    )


def places(affine, shape):
    """World coordinates of every voxel, (*shape, 3)."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def as_stack(found, step):
    """Highdicom's volume as (column, row, frame), frames along `step`; its affine in RAS."""
    voxels, affine = found.array.transpose(2, 1, 0), found.affine[:, [2, 1, 0, 3]].copy()
    if affine[:3, 2] @ step < 0:
        affine[:3, 3] += (voxels.shape[2] - 1) * affine[:3, 2]
        affine[:3, 2] *= -1
        voxels = voxels[:, :, ::-1]
    return voxels, RAS_TO_LPS @ affine


@given(affine_ras=affines())
def test_any_geometry_is_what_was_written_and_what_highdicom_reads(
    affine_ras, make_image, read_frames, tmp_path_factory
):
    image = make_image()
    folder = tmp_path_factory.mktemp("series")
    paths = []
    for number, instance in enumerate(make_series(image, affine_ras)):
        paths.append(folder / str((number * 3) % 5))
        instance.save_as(paths[-1], enforce_file_format=True)
    volume = read_frames(paths)
    expected_voxels, expected = stored_volume(image, affine_ras)
    grid = FrameGrid(volume)
    np.testing.assert_allclose(grid.affine_ras, expected, rtol=0, atol=1e-6)
    assert grid.spatial_shape == expected_voxels.shape
    assert not grid.is_tilted
    found = highdicom.get_volume_from_series([dcmread(path) for path in paths])
    voxels, affine = as_stack(found, volume.step)
    np.testing.assert_allclose(grid.affine_ras, affine, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(voxels, expected_voxels)


@pytest.mark.parametrize("name", NAMES)
def test_voxels_lie_where_highdicom_puts_them(make_volume, make_affine, name):
    volume = make_volume(affine_ras=make_affine(name), is_shuffled=True)
    image = read_volume(volume)
    found = highdicom.get_volume_from_series([dcmread(frame.file) for frame in volume.frames])
    voxels, affine = as_stack(found, volume.step)
    np.testing.assert_allclose(image.affine.numpy(), affine, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(image[0].numpy(), voxels)


@needs_dcm2niix
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_voxels_and_places_equal_dcm2niix(make_volume, make_affine, tmp_path, name, modality):
    volume = make_volume(affine_ras=make_affine(name), modality=modality, is_shuffled=True)
    check_against_dcm2niix(volume, volume.frames[0].file.parent, tmp_path)


@needs_dcm2niix
def test_rescaled_signed_voxels_equal_dcm2niix(make_volume, make_image, tmp_path):
    image = make_image(low=-1000, high=1000)
    volume = make_volume(image, modality="CT", is_signed=True, rescale=(0.5, -20.0))
    check_against_dcm2niix(volume, volume.frames[0].file.parent, tmp_path)


def check_against_dcm2niix(volume, folder, tmp_path):
    command = [
        "dcm2niix",
        "-b",
        "n",
        "-z",
        "n",
        "-f",
        "converted",
        "-o",
        str(tmp_path),
        str(folder),
    ]
    subprocess.run(command, check=True, capture_output=True)
    theirs = nib.as_closest_canonical(nib.Nifti1Image.from_filename(tmp_path / "converted.nii"))
    image = read_volume(volume)
    ours = nib.as_closest_canonical(nib.Nifti1Image(image[0].numpy(), image.affine.numpy()))
    np.testing.assert_allclose(ours.affine, theirs.affine, rtol=0, atol=1e-3)  # theirs is float32
    np.testing.assert_allclose(ours.get_fdata(), theirs.get_fdata(), rtol=1e-6, atol=1e-4)


@given(volume=volumes())
def test_an_orthogonal_stack_is_its_own_grid(volume):
    grid = FrameGrid(volume)
    np.testing.assert_array_equal(grid.affine_ras, volume.affine_ras)
    assert grid.spatial_shape == volume.spatial_shape
    stack = np.zeros(volume.spatial_shape, np.float32)
    assert grid.resample(stack) is stack


@given(volume=volumes(tilts=TILTED))
def test_the_grid_of_a_tilted_stack_is_orthogonal_and_the_smallest_that_covers_it(volume):
    grid = FrameGrid(volume)
    assert grid.is_tilted
    axes = grid.affine_ras[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.diag(spacing**2), atol=1e-6)
    expected = [volume.column_spacing, volume.row_spacing, volume.step @ volume.normal]
    np.testing.assert_allclose(spacing, expected, rtol=1e-9)
    source = places(volume.affine_ras, volume.spatial_shape)
    inverse = np.linalg.inv(grid.affine_ras)
    index = source @ inverse[:3, :3].T + inverse[:3, 3]
    low, high = index.min(axis=(0, 1, 2)), index.max(axis=(0, 1, 2))
    last = np.array(grid.spatial_shape) - 1
    tolerance = 1e-4
    assert (low > -tolerance).all()
    assert (high < last + tolerance).all()
    assert (low < 1).all()  # one plane less would not cover
    assert (high > last - 1).all()
    planes = index[..., 2] - np.arange(volume.spatial_shape[2])  # frames keep their planes
    np.testing.assert_allclose(planes, 0, atol=1e-6)


@given(volume=volumes(tilts=TILTED), seed=st.integers(0, 1000))
def test_resampling_a_tilted_stack_preserves_a_linear_ramp(volume, seed):
    grid, generator = FrameGrid(volume), np.random.default_rng(seed)
    slope = generator.normal(size=3)
    ramp = places(volume.affine_ras, volume.spatial_shape) @ slope
    stack = (ramp - ramp.mean()).astype(np.float32)
    resampled = grid.resample(stack)
    expected = places(grid.affine_ras, grid.spatial_shape) @ slope - ramp.mean()
    inverse = np.linalg.inv(volume.affine_ras)
    index = places(grid.affine_ras, grid.spatial_shape) @ inverse[:3, :3].T + inverse[:3, 3]
    last = np.array(volume.spatial_shape) - 1
    tolerance = 1e-4
    is_inside = ((index > tolerance) & (index < last - tolerance))[..., :2].all(axis=-1)
    is_outside = ((index < -tolerance) | (index > last + tolerance))[..., :2].any(axis=-1)
    scale = np.abs(stack).max() + 1
    np.testing.assert_allclose(resampled[is_inside], expected[is_inside], atol=1e-4 * scale)
    assert (resampled[is_outside] == stack.min()).all()


@given(volume=volumes(tilts=TILTED), seed=st.integers(0, 1000))
def test_a_mask_on_the_grid_reaches_the_source_pixels_nearest_to_it(volume, seed):
    grid, generator = FrameGrid(volume), np.random.default_rng(seed)
    labels = np.zeros(grid.spatial_shape, np.uint8)
    corner = generator.integers(0, grid.spatial_shape)
    extent = generator.integers(1, 6, 3)
    labels[tuple(slice(a, a + b) for a, b in zip(corner, extent, strict=True))] = 3
    inverse = np.linalg.inv(grid.affine_ras)
    source = places(volume.affine_ras, volume.spatial_shape)
    index = source @ inverse[:3, :3].T + inverse[:3, 3]
    nearest = tuple(np.moveaxis(np.rint(index).astype(int), -1, 0))
    is_clear = (np.abs(index - np.floor(index) - 0.5) > 1e-4).all(axis=-1)
    frames = grid.map_back(labels, order=0)
    assert frames.shape == volume.spatial_shape[::-1]
    expected = labels[nearest].transpose(2, 1, 0)
    is_clear = is_clear.transpose(2, 1, 0)
    np.testing.assert_array_equal(frames[is_clear], expected[is_clear])


@given(volume=volumes(tilts=TILTED), seed=st.integers(0, 1000))
def test_a_linear_ramp_on_the_grid_is_the_same_ramp_on_the_frames(volume, seed):
    grid, slope = FrameGrid(volume), np.random.default_rng(seed).normal(size=3)
    ramp = places(grid.affine_ras, grid.spatial_shape) @ slope
    expected = places(volume.affine_ras, volume.spatial_shape) @ slope
    frames = grid.map_back(ramp.astype(np.float32), order=1)
    scale = np.abs(expected).max() + 1
    np.testing.assert_allclose(frames, expected.transpose(2, 1, 0), atol=1e-4 * scale)


@given(volume=volumes(), seed=st.integers(0, 1000))
def test_masks_on_an_orthogonal_stack_come_back_bit_for_bit(volume, seed):
    labels = np.random.default_rng(seed).integers(0, 256, volume.spatial_shape, np.uint8)
    frames = FrameGrid(volume).map_back(labels, order=0)
    np.testing.assert_array_equal(frames, labels.transpose(2, 1, 0))
    assert frames.flags.c_contiguous


@given(volume=volumes(tilts=st.floats(0.0, 0.009)))
def test_a_tilt_of_rounding_is_no_tilt(volume):
    assert not FrameGrid(volume).is_tilted


@settings(max_examples=5)
@given(volume=volumes())
def test_values_on_another_grid_are_refused(volume):
    grid = FrameGrid(volume)
    with pytest.raises(GeometryError, match="mask must have the shape of its volume's grid"):
        grid.check((1, 2, 3, 4), grid.affine_ras)
    moved = grid.affine_ras.copy()
    moved[0, 3] += 0.01
    with pytest.raises(GeometryError, match="mask must have the affine of its volume's grid"):
        grid.check(grid.spatial_shape, moved)
    with pytest.raises(GeometryError, match="mask must have the affine of its volume's grid"):
        grid.check(grid.spatial_shape, np.full((4, 4), np.nan))
    grid.check(grid.spatial_shape, grid.affine_ras + 1e-5)


def test_the_tilt_of_the_phantom_is_the_tilt_of_the_stack(make_volume, make_affine, make_image):
    options = SeriesOptions(modality="CT", tilt_degrees=15.0)
    volume = make_volume(modality="CT", tilt_degrees=15.0)
    _, expected = stored_volume(make_image(), make_affine(), options=options)
    assert volume.tilt_degrees == pytest.approx(15.0, abs=1e-6)
    np.testing.assert_allclose(volume.affine_ras, expected, rtol=0, atol=1e-6)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("ProstateX-0000_t2tsetra", "ProstateX-0000"),
        ("Prostate-MRI-US-Biopsy-0001_T2", "Prostate-MRI-US-Biopsy-0001"),
    ],
)
def test_real_series_lie_on_the_grid_of_their_masks(shared_data, read_frames, folder, label):
    root = shared_data / "dicom_prostate"
    volume = read_frames(sorted((root / folder).glob("*.dcm")))
    image = read_volume(volume)
    mask = nib.Nifti1Image.from_filename(root / "labels" / f"{label}.nii.gz")
    assert image.shape[1:] == mask.shape
    np.testing.assert_allclose(image.affine.numpy(), mask.affine, rtol=0, atol=1e-3)
    found = highdicom.get_volume_from_series([dcmread(frame.file) for frame in volume.frames])
    voxels, _ = as_stack(found, volume.step)
    np.testing.assert_array_equal(image[0].numpy(), voxels)
