"""Every format and orientation reads alike; every defect is refused by name, with a remedy."""

import gzip
import logging
import pickle
import struct

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from grata_monai.core.errors import (
    ChannelError,
    DatasetError,
    GeometryError,
    IntensityError,
    UnreadableImageError,
)
from grata_monai.phantom import make_case
from grata_monai.phantom.dicom import write_series
from grata_monai.read.dicom.load import read_volume
from grata_monai.read.dicom.triage import triage
from grata_monai.read.image import (
    CheckImaged,
    LoadImageCheckedd,
    ReadLabeld,
    check_image,
    read_image,
)

SHAPE = (6, 7, 5)
# 30° about the foot-head axis, spacing 0.5 × 0.75 × 3 mm
ROTATION = np.array([[0.75**0.5, -0.5, 0], [0.5, 0.75**0.5, 0], [0, 0, 1]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = ROTATION * [0.5, 0.75, 3.0]
AFFINE[:3, 3] = [-10.0, 20.0, 30.0]


@pytest.fixture
def voxels():
    return np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)


def save(voxels, path, affine_ras=AFFINE):
    nifti = nib.Nifti1Image(voxels, affine_ras)
    nifti.set_sform(affine_ras, code=1)
    nifti.set_qform(affine_ras, code=1)
    nib.save(nifti, path)
    return path


def save_itk(voxels, path, affine_ras=AFFINE, *, is_vector=False):
    """Write with ITK, which counts LPS: the first two rows change their sign."""
    affine_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_ras
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    axes = (2, 1, 0, 3) if is_vector else tuple(range(voxels.ndim))[::-1]
    image = itk.image_from_array(np.ascontiguousarray(voxels.transpose(axes)), is_vector=is_vector)
    dims = image.GetImageDimension()
    image.SetSpacing(spacing[:dims].tolist())
    image.SetOrigin(affine_lps[:dims, 3].tolist())
    image.SetDirection(itk.matrix_from_array((affine_lps[:3, :3] / spacing)[:dims, :dims].copy()))
    itk.imwrite(image, str(path))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.NII.GZ"])
def test_nifti_reads_as_monai_reads_it(tmp_path, voxels, name):
    path = save(voxels, tmp_path / name)
    image = read_image(path)
    loader = LoadImaged(keys="image", ensure_channel_first=True, image_only=True)
    expected = loader({"image": str(path)})["image"]
    assert image.dtype == torch.float32
    torch.testing.assert_close(image.as_tensor(), expected.as_tensor(), rtol=0, atol=0)
    torch.testing.assert_close(image.affine, expected.affine, rtol=0, atol=0)
    for key in ("original_affine", "spatial_shape"):
        np.testing.assert_array_equal(image.meta[key], expected.meta[key])
    for key in ("space", "filename_or_obj"):
        assert image.meta[key] == expected.meta[key]


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd"])
def test_itk_formats_lie_where_nifti_lies(tmp_path, voxels, name):
    image = read_image(save_itk(voxels, tmp_path / name))
    expected = read_image(save(voxels, tmp_path / "a.nii"))
    torch.testing.assert_close(image.as_tensor(), expected.as_tensor(), rtol=0, atol=0)
    torch.testing.assert_close(image.affine, expected.affine, rtol=0, atol=1e-5)
    assert list(image.meta["spatial_shape"]) == list(SHAPE)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "LAS", "SRA", "PIL"])
def test_any_orientation_keeps_every_voxel_in_its_place(tmp_path, voxels, axcodes):
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axcodes))
    turned = nib.orientations.apply_orientation(voxels, turn)
    image = read_image(save(turned, tmp_path / "a.nii", AFFINE @ inv_ornt_aff(turn, SHAPE)))
    index = np.array([4, 1, 3, 1])
    place = torch.as_tensor(AFFINE @ index)
    i, j, k = (torch.linalg.inv(image.affine) @ place).round().int()[:3].tolist()
    assert image[0, i, j, k] == voxels[4, 1, 3]


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "f4", "f8", ">i2", ">f4", ">f8"])
def test_any_real_type_and_byte_order_reads_alike(tmp_path, dtype):
    voxels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 100
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    nib.save(nib.Nifti1Image(voxels.astype(dtype), AFFINE, header), tmp_path / "a.nii")
    assert torch.equal(read_image(tmp_path / "a.nii").as_tensor()[0], torch.tensor(voxels).float())


def test_slope_and_intercept_are_applied(tmp_path, voxels):
    nifti = nib.Nifti1Image(voxels, AFFINE)
    nifti.header.set_slope_inter(0.5, -3)
    nib.save(nifti, tmp_path / "a.nii")  # keeps the integers and their scale
    expected = np.asarray(nib.Nifti1Image.from_filename(tmp_path / "a.nii").dataobj)
    np.testing.assert_allclose(read_image(tmp_path / "a.nii")[0].numpy(), expected, rtol=1e-6)


def test_nifti_2_is_nifti(tmp_path, voxels):
    nib.save(nib.Nifti2Image(voxels, AFFINE), tmp_path / "a.nii")
    assert torch.equal(read_image(tmp_path / "a.nii").as_tensor()[0], torch.tensor(voxels).float())


def test_extra_axes_of_one_are_dropped(tmp_path, voxels):
    save(voxels[..., None], tmp_path / "a.nii")
    save(voxels[..., None, None], tmp_path / "b.nii")
    expected = torch.tensor(voxels).float()[None]
    assert torch.equal(read_image(tmp_path / "a.nii").as_tensor(), expected)
    assert torch.equal(read_image(tmp_path / "b.nii").as_tensor(), expected)


def test_channels_come_last_in_a_file_and_first_in_the_tensor(tmp_path, voxels):
    pair = np.stack([voxels, voxels + 1], axis=-1)
    expected = torch.tensor(np.moveaxis(pair, -1, 0)).float()
    images = [
        read_image(save(pair, tmp_path / "a.nii"), channels=2),
        read_image(save(pair[:, :, :, None], tmp_path / "b.nii"), channels=2),
        read_image(save_itk(pair.astype("f4"), tmp_path / "a.nrrd", is_vector=True), channels=2),
    ]
    for image in images:
        assert torch.equal(image.as_tensor(), expected)
        assert list(image.meta["spatial_shape"]) == list(SHAPE)


def test_two_dimensional_images_for_two_dimensional_networks(tmp_path, voxels):
    flat = voxels[:, :, 0]
    affine = np.diag([0.5, 0.5, 1, 1])
    for number, array in enumerate([flat, flat[..., None]]):
        image = read_image(save(array, tmp_path / f"{number}.nii", affine), spatial_dims=2)
        assert torch.equal(image.as_tensor(), torch.tensor(flat).float()[None])
        assert list(image.meta["spatial_shape"]) == list(flat.shape)
    assert read_image(save_itk(flat, tmp_path / "a.mha", affine), spatial_dims=2).shape == (1, 6, 7)
    colour = save(voxels[:, :, None, :3], tmp_path / "c.nii", affine)
    assert read_image(colour, channels=3, spatial_dims=2).shape == (3, 6, 7)


def test_meta_holds_geometry_and_nothing_that_may_name_the_patient(tmp_path, voxels):
    nifti = nib.Nifti1Image(voxels, AFFINE)
    nifti.header["descrip"] = b"DOE^JANE"
    nib.save(nifti, tmp_path / "a.nii")
    assert set(read_image(tmp_path / "a.nii").meta) == {
        "affine",
        "original_affine",
        "spatial_shape",
        "space",
        "original_channel_dim",
        "filename_or_obj",
    }


def damaged(content, how):
    if how == "empty":
        return b""
    if how == "truncated":
        return content[: len(content) // 2]
    if how == "without its checksum":
        return content[:-8]
    if how == "flipped byte":
        return content[:-20] + bytes([content[-20] ^ 0xFF]) + content[-19:]
    return b"this is no image, but a text that is long enough to be taken for one" * 9


@pytest.mark.parametrize("how", ["empty", "truncated", "text"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.nrrd"])
def test_a_damaged_file_is_unreadable(tmp_path, voxels, name, how):
    path = tmp_path / name
    (save if ".nii" in name else save_itk)(voxels, path)
    path.write_bytes(damaged(path.read_bytes(), how))
    remedy = "[Cc]opy it again"
    with pytest.raises(UnreadableImageError, match=rf"'{name}' .*({remedy})") as caught:
        read_image(path)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("how", ["without its checksum", "flipped byte"])
def test_a_gzip_whose_checksum_fails_is_unreadable(tmp_path, voxels, how):
    path = save(voxels, tmp_path / "a.nii.gz")
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(UnreadableImageError, match=r"'a\.nii\.gz' is (cut off|damaged)"):
        read_image(path)


def test_a_header_that_promises_too_much_costs_no_memory(tmp_path, voxels):
    path = save(voxels, tmp_path / "a.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<8h", content, 40, 3, 32767, 32767, 32767, 1, 1, 1, 1)
    path.write_bytes(bytes(content))
    with pytest.raises(UnreadableImageError, match=r"at most 1073741824 bytes.*take 14\d{13}"):
        read_image(path)


def test_a_missing_file_and_an_unknown_format_are_unreadable(tmp_path):
    with pytest.raises(UnreadableImageError, match=r"image must exist, 'a\.nii' does not"):
        read_image(tmp_path / "a.nii")
    with pytest.raises(UnreadableImageError, match=r"must end in one of \.nii.*got 'a\.dcm'"):
        read_image(tmp_path / "a.dcm")


@pytest.mark.parametrize("dtype", ["c8", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_voxels_that_are_no_real_numbers_are_unreadable(tmp_path, dtype):
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, dtype), AFFINE), tmp_path / "a.nii")
    with pytest.raises(UnreadableImageError, match=r"voxels must be real numbers, 'a.nii' holds"):
        read_image(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((6, 7), GeometryError, "must have 3 spatial axes, 'a.nii' has 2"),
        ((6, 7, 1), GeometryError, "at least 2 voxels along every axis, 'a.nii' has 6×7×1"),
        ((1, 6, 7), GeometryError, "'a.nii' has 1×6×7. Save the whole volume"),
        ((6, 7, 5, 2), ChannelError, r"must have 1 channel\(s\), 'a.nii' has 2. Save one volume"),
        ((6, 7, 5, 2, 2), GeometryError, "at most one of channels, 'a.nii' has shape"),
    ],
)
def test_wrong_axes_are_refused(tmp_path, shape, error, message):
    save(np.arange(np.prod(shape)).reshape(shape).astype("f4"), tmp_path / "a.nii")
    with pytest.raises(error, match=message):
        read_image(tmp_path / "a.nii")


def test_a_flat_itk_image_is_no_volume(tmp_path, voxels):
    save_itk(voxels[:, :, 0], tmp_path / "a.mha")
    with pytest.raises(GeometryError, match=r"must have 3 spatial axes, 'a.mha' has 2"):
        read_image(tmp_path / "a.mha")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_counted(tmp_path, voxels, value):
    voxels = voxels.astype("f4")
    voxels[1, 1, 1:4] = value
    with pytest.raises(IntensityError, match=r"'a.nii' has 3 NaN or infinite of 210"):
        read_image(save(voxels, tmp_path / "a.nii"))


def test_voxels_too_large_for_float32_are_not_finite(tmp_path, voxels):
    voxels = voxels.astype("f8")
    voxels[0, 0, 0] = 1e300
    with pytest.raises(IntensityError, match="has 1 NaN or infinite"):
        read_image(save(voxels, tmp_path / "a.nii"))


@pytest.mark.parametrize("value", [0, 7])
def test_an_image_of_one_value_is_refused(tmp_path, value):
    with pytest.raises(IntensityError, match=f"'a.nii' holds only {value}"):
        read_image(save(np.full(SHAPE, value, "i2"), tmp_path / "a.nii"))


def save_sform(voxels, path, sform):
    """Write any matrix: nibabel checks nothing where only the sform is set."""
    nifti = nib.Nifti1Image(voxels, np.eye(4))
    nifti.header["sform_code"], nifti.header["qform_code"] = 1, 0
    nifti.header["vox_offset"], nifti.header["scl_slope"], nifti.header["scl_inter"] = 352, 1, 0
    for row, name in enumerate(["srow_x", "srow_y", "srow_z"]):
        nifti.header[name] = sform[row]
    spacing = np.linalg.norm(sform[:3, :3], axis=0)
    nifti.header["pixdim"][1:4] = np.where(np.isfinite(spacing) & (spacing > 0), spacing, 1)
    path.write_bytes(nifti.header.binaryblock + bytes(4) + voxels.tobytes(order="F"))
    return path


def edited(row, column, value):
    matrix = np.eye(4)
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (edited(0, 3, np.nan), "affine must be finite, 'a.nii' has NaN"),
        (edited(0, 0, np.inf), "affine must be finite, 'a.nii' has NaN"),
        (edited(1, 1, 0.0), r"spacing must lie in \[0.01, 100\] mm, 'a.nii' has 1 × 0 × 1"),
        (edited(2, 2, 1000.0), r"spacing must lie in \[0.01, 100\] mm, 'a.nii' has 1 × 1 × 1000"),
        (np.eye(4)[[0, 0, 2, 3]], "spacing must lie in|affine must be invertible"),
        (
            np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]),
            "affine must be invertible, 'a.nii'",
        ),
        (edited(0, 1, 0.2), r"axes must be orthogonal, two axes of 'a.nii' have a cosine of 0.196"),
    ],
)
def test_an_impossible_affine_is_refused(tmp_path, voxels, affine, message):
    with pytest.raises(GeometryError, match=message):
        read_image(save_sform(voxels, tmp_path / "a.nii", affine))


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_spacing_that_nibabel_would_repair_is_refused(tmp_path, voxels, value):
    path = save(voxels, tmp_path / "a.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 76 + 3 * 4, value)
    path.write_bytes(bytes(content))
    with pytest.raises(
        GeometryError, match=r"spacing must be finite and above 0, 'a.nii' has pixdim"
    ):
        read_image(path)


def test_a_header_in_metres_or_in_contradiction_is_refused(tmp_path, voxels):
    nifti = nib.Nifti1Image(voxels, AFFINE)
    nifti.header.set_xyzt_units("meter")
    nib.save(nifti, tmp_path / "a.nii")
    with pytest.raises(GeometryError, match=r"must be in mm, the header of 'a.nii' says metre"):
        read_image(tmp_path / "a.nii")
    path = save_sform(voxels, tmp_path / "b.nii", np.diag([1.0, 1.0, 3.0, 1.0]))
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 76 + 3 * 4, 5.0)
    path.write_bytes(bytes(content))
    with pytest.raises(
        GeometryError, match=r"must agree .* \[1.0, 1.0, 5.0\] and \[1.0, 1.0, 3.0\]"
    ):
        read_image(path)


def test_a_qform_that_differs_is_mentioned(tmp_path, voxels, caplog):
    nifti = nib.Nifti1Image(voxels, AFFINE)
    nifti.set_qform(AFFINE @ np.diag([-1, -1, 1, 1]), code=1)
    nifti.set_sform(AFFINE, code=2)
    nib.save(nifti, tmp_path / "a.nii")
    with caplog.at_level(logging.WARNING, logger="grata_monai"):
        image = read_image(tmp_path / "a.nii")
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    assert "a.nii: qform differs from sform; sform is used" in caplog.text


def test_a_nearly_equal_pixdim_leaves_the_affine_as_it_is_in_the_file(tmp_path, voxels):
    path = save_sform(voxels, tmp_path / "a.nii", np.diag([1.0, 1.0, 3.0, 1.0]))
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 76 + 3 * 4, 3.001)
    path.write_bytes(bytes(content))
    np.testing.assert_array_equal(
        read_image(path).affine, nib.Nifti1Image.from_filename(path).affine
    )


def test_the_transform_reads_its_keys_and_leaves_the_rest(tmp_path, voxels):
    path = save(voxels, tmp_path / "a.nii")
    data = {"image": str(path), "case": "a", "image_path": str(path)}
    loaded = pickle.loads(pickle.dumps(LoadImageCheckedd("image")))(data)
    assert loaded["image"].shape == (1, *SHAPE)
    assert {key: loaded[key] for key in ("case", "image_path")} == {
        "case": "a",
        "image_path": str(path),
    }
    assert data["image"] == str(path)
    with pytest.raises(KeyError, match="missing"):
        LoadImageCheckedd("other")(data)
    assert LoadImageCheckedd("other", allow_missing_keys=True)(data) == data


def test_monai_deploy_knows_the_transform_as_a_loader():
    assert "LoadImage" in LoadImageCheckedd.__name__
    assert "LoadImage" not in CheckImaged.__name__


def test_an_image_that_a_host_has_loaded_is_checked_and_gets_its_channel(voxels):
    meta = {"affine": AFFINE, "original_affine": AFFINE, "original_channel_dim": "no_channel"}
    loaded = MetaTensor(torch.tensor(voxels), meta=meta)  # as MONAI Deploy hands it over
    for transform in (CheckImaged("image"), LoadImageCheckedd("image")):
        image = transform({"image": loaded})["image"]
        assert image.shape == (1, *SHAPE)
        assert image.dtype == torch.float32
        np.testing.assert_array_equal(image.affine, AFFINE)
        assert loaded.shape == SHAPE
        assert loaded.meta["original_channel_dim"] == "no_channel"


def test_checking_twice_changes_nothing(tmp_path, voxels):
    image = read_image(save(voxels, tmp_path / "a.nii"))
    again = check_image(image)
    assert torch.equal(image.as_tensor(), again.as_tensor())
    assert again.meta.keys() == image.meta.keys()


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (torch.rand(2, 3, 4, 5), ChannelError, r"must have 1 channel\(s\), 'image' has 2"),
        (torch.rand(3, 4), GeometryError, "must have 3 spatial axes, 'image' has 1"),
        (
            torch.full((1, 3, 4, 5), torch.nan),
            IntensityError,
            "'image' has 60 NaN or infinite of 60",
        ),
        (torch.zeros(1, 3, 4, 5), IntensityError, "'image' holds only 0"),
        (
            MetaTensor(torch.rand(1, 3, 4, 5), affine=torch.diag(torch.tensor([1.0, 1, 0, 1]))),
            GeometryError,
            "spacing must lie in",
        ),
    ],
)
def test_an_image_that_a_host_has_loaded_is_refused_alike(image, error, message):
    with pytest.raises(error, match=message):
        CheckImaged("image")({"image": image})


def test_a_loaded_image_is_named_after_its_file():
    image = MetaTensor(torch.zeros(1, 3, 4, 5), meta={"filename_or_obj": "/data/b.nii.gz"})
    with pytest.raises(IntensityError, match=r"'b\.nii\.gz' holds only 0"):
        CheckImaged("image")({"image": image})


def test_labels_are_whole_numbers_and_may_be_empty(tmp_path):
    save(np.zeros(SHAPE, "u1"), tmp_path / "a.nii")
    label = ReadLabeld("label")({"label": str(tmp_path / "a.nii")})["label"]
    assert label.dtype == torch.int32
    assert label.shape == (1, *SHAPE)
    np.testing.assert_allclose(label.affine, AFFINE, atol=1e-6)
    save(np.full(SHAPE, 0.5, "f4"), tmp_path / "b.nii")
    with pytest.raises(
        IntensityError, match=r"label map must hold whole numbers, 'b.nii' does not"
    ):
        ReadLabeld("label")({"label": str(tmp_path / "b.nii")})


def test_a_name_and_a_file_that_differ_in_their_compression_are_told_apart(tmp_path, voxels):
    (tmp_path / "a.nii.gz").write_text("no image, but a text")
    with pytest.raises(
        UnreadableImageError, match=r"must be compressed by gzip .*gz' is not\. Take"
    ):
        read_image(tmp_path / "a.nii.gz")
    save(voxels, tmp_path / "b.nii.gz").rename(tmp_path / "b.nii")
    with pytest.raises(UnreadableImageError, match=r"name must end in \.gz if .* 'b\.nii' is\."):
        read_image(tmp_path / "b.nii")


def test_a_gzip_of_another_writer_reads_alike(tmp_path, voxels):
    plain = save(voxels, tmp_path / "a.nii")
    with gzip.open(tmp_path / "b.nii.gz", "wb") as file:  # with time and file name in its header
        file.write(plain.read_bytes())
    assert torch.equal(read_image(plain).as_tensor(), read_image(tmp_path / "b.nii.gz").as_tensor())


def test_a_folder_is_read_as_the_one_dicom_volume_that_it_holds(tmp_path):
    case = make_case(0, spacing=(4.0, 4.0, 6.0), spatial_shape=(24, 16, 8))
    files = write_series(tmp_path / "series", case.image, case.affine_ras)
    load = LoadImageCheckedd("image", selection={"modality": ["MR"]})
    loaded = load({"image": str(tmp_path / "series")})["image"]
    (volume,) = triage(tmp_path / "series").volumes
    assert torch.equal(loaded.as_tensor(), read_volume(volume).as_tensor())
    assert torch.equal(loaded.affine, read_volume(volume).affine)
    with pytest.raises(DatasetError, match="must hold one acceptable DICOM volume, got 0"):
        load({"image": str(files[0])})
    with pytest.raises(UnreadableImageError, match="image must be named, got an empty path"):
        load({"image": ""})
    files[3].unlink()
    with pytest.raises(DatasetError, match=r"got 0 and 1 rejection\(s\) \(missing_slices\)"):
        load({"image": str(tmp_path / "series")})


def add_line(path, line):
    """Put a line before the last one of a text header, with which MetaImage ends."""
    head, mark, voxels = path.read_bytes().partition(b"ElementDataFile")
    path.write_bytes(head + line.encode() + b"\n" + mark + voxels)
    return path


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("DistanceUnits = cm", GeometryError, "DistanceUnits must be mm, 'a.mha' has another"),
        ("ElementToIntensityFunctionSlope = 2", IntensityError, "Slope must be 1, 'a.mha' has 2"),
        ("ElementToIntensityFunctionOffset = 5", IntensityError, "Offset must be 0, .* has 5"),
    ],
)
def test_a_scale_that_other_readers_pass_over_is_refused(tmp_path, voxels, line, error, message):
    with pytest.raises(error, match=message):
        read_image(add_line(save_itk(voxels, tmp_path / "a.mha"), line))
    plain = line.replace("cm", "mm").replace("Slope = 2", "Slope = 1").replace("= 5", "= 0")
    image = read_image(add_line(save_itk(voxels, tmp_path / "b.mha"), plain))
    np.testing.assert_array_equal(image.numpy()[0], voxels)


def test_units_of_the_axes_of_an_nrrd_must_be_mm(tmp_path, voxels):
    path = save_itk(voxels, tmp_path / "a.nrrd")
    head, end, data = path.read_bytes().partition(b"\n\n")
    path.write_bytes(head + b'\nunits: "cm" "cm" "cm"' + end + data)
    with pytest.raises(GeometryError, match="space units must be mm, the header of"):
        read_image(path)
