"""What the confined reader hands over is what nibabel and ITK read, and its lies are refused."""

from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest

from grata_monai.core.errors import UnreadableImageError
from grata_monai.core.limits import Limits
from grata_monai.read import decode as module
from grata_monai.read.decode import decode

SHAPE = (6, 7, 5)
COSINE, SINE = np.cos(0.3), np.sin(0.3)
AFFINE = np.eye(4)
AFFINE[:3, :3] = [[COSINE * 0.7, -SINE * 0.9, 0], [SINE * 0.7, COSINE * 0.9, 0], [0, 0, 3.1]]
AFFINE[:3, 3] = [-11.3, 20.7, 31.1]


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(0, 100, SHAPE)


@pytest.mark.parametrize("scale", [(1, 0), (0.37, -3.3)])
@pytest.mark.parametrize("kind", ["<u1", "<i2", ">i2", "<u2", "<i4", "<u4", "<f4", ">f8"])
def test_nifti_is_what_nibabel_reads_bit_for_bit(tmp_path, voxels, kind, scale):
    header = nib.Nifti1Header(endianness=kind[0])
    image = nib.Nifti1Image(voxels.astype(kind), AFFINE, header)
    if "f" not in kind:
        image.header.set_slope_inter(*scale)
    nib.save(image, tmp_path / "a.nii.gz")
    found, affine = decode(tmp_path / "a.nii.gz")
    expected: Any = nib.load(tmp_path / "a.nii.gz")
    scaled = np.asanyarray(expected.dataobj).astype(np.float32)
    assert np.array_equal(found, scaled)
    assert affine.tobytes() == expected.affine.tobytes()


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("extension", [".mha", ".mhd", ".nrrd"])
def test_other_formats_are_what_itk_reads_bit_for_bit(tmp_path, voxels, extension, is_compressed):
    spacing = np.linalg.norm(AFFINE[:3, :3], axis=0)
    image = itk.image_from_array(np.ascontiguousarray(voxels.astype(np.int16).T))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(AFFINE[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array((AFFINE[:3, :3] / spacing).copy()))
    path = tmp_path / f"a{extension}"
    itk.imwrite(image, str(path), compression=is_compressed)
    found, affine = decode(path)
    assert np.array_equal(found, voxels)
    read = itk.imread(str(path))
    axes = itk.array_from_matrix(read.GetDirection()) @ np.diag(np.asarray(read.GetSpacing()))
    turn = np.diag([-1.0, -1.0, 1.0])
    assert np.array_equal(affine[:3, :3], turn @ axes)
    assert np.array_equal(affine[:3, 3], turn @ np.asarray(read.GetOrigin()))


def test_an_image_of_many_blocks_keeps_its_planes_in_order(tmp_path):
    voxels = np.arange(700 * 600 * 25, dtype=np.int32).reshape(700, 600, 25)
    nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / "a.nii")
    assert np.array_equal(decode(tmp_path / "a.nii")[0], voxels.astype(np.float32))


def test_channels_of_a_file_keep_their_order(tmp_path, voxels):
    pair = np.stack([voxels, voxels + 1, voxels + 2], axis=-1).astype(np.int16)
    nib.save(nib.Nifti1Image(pair, AFFINE), tmp_path / "a.nii")
    assert np.array_equal(decode(tmp_path / "a.nii")[0], pair)


def test_a_larger_budget_admits_a_larger_image(tmp_path, voxels):
    nib.save(nib.Nifti1Image(voxels.astype(np.int16), AFFINE), tmp_path / "a.nii")
    with pytest.raises(UnreadableImageError, match=r"at most 839 bytes, .*\(6×7×5\) take 840"):
        decode(tmp_path / "a.nii", limits=Limits(pixel_budget_bytes=839))
    assert decode(tmp_path / "a.nii", limits=Limits(pixel_budget_bytes=840))[0].shape == SHAPE


HEAD = {"dtype": "<i2", "shape": [2, 2, 2], "spatial": [0, 1, 2], "affine_lps": np.eye(4).tolist()}
PLANE = {"block": np.zeros(8, np.uint8)}


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [{}],
        [HEAD],
        [HEAD, PLANE],
        [HEAD, PLANE, PLANE, PLANE],
        [HEAD, {"block": np.zeros(7, np.uint8)}],
        [{**HEAD, "dtype": "O"}, PLANE, PLANE],
        [{**HEAD, "shape": [2, 2, "x"]}, PLANE, PLANE],
        [{**HEAD, "shape": [9999, 9999, 9999]}, PLANE],
        [{**HEAD, "spatial": [7]}, PLANE, PLANE],
        [{**HEAD, "affine_lps": "x"}, PLANE, PLANE],
    ],
)
def test_a_reader_that_lies_is_not_believed(tmp_path, monkeypatch, parts):
    (tmp_path / "a.nii").touch()
    monkeypatch.setattr(module, "run_parts", lambda *_, **__: (part for part in parts))
    with pytest.raises(UnreadableImageError, match=r"each plane once, that of 'a\.nii' does not"):
        decode(tmp_path / "a.nii")


def test_a_reader_that_never_ends_is_stopped(tmp_path, monkeypatch):
    (tmp_path / "a.nii").touch()
    monkeypatch.setattr(module, "run_parts", lambda *_, **__: (p for p in [HEAD, PLANE, PLANE]))
    monkeypatch.setattr(module, "monotonic", iter([0.0, 1.0, 61.0]).__next__)
    with pytest.raises(UnreadableImageError, match=r"must be read within 60 s, .* takes longer"):
        decode(tmp_path / "a.nii")
