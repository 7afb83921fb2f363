"""Preprocessing inverts to the input's grid in every orientation, and every host survives it."""

from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    Invertd,
    Orientationd,
    ScaleIntensityRangePercentilesd,
    Spacingd,
)
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from grata_monai.core.errors import IntensityError
from grata_monai.read.image import LoadImageCheckedd
from grata_monai.read.transforms import SafeSpacingd, ScalePercentilesd, ToDeviced

SHAPE = (20, 24, 8)
AFFINE = np.diag([0.8, 0.8, 3.0, 1.0])
AFFINE[:3, 3] = [-8, -9, 30]
LABELS = (("L", "R"), ("P", "A"), ("I", "S"))


def write_case(path, axcodes="RAS"):
    """A bright ellipsoid, off centre, so that no flip goes unnoticed."""
    x, y, z = np.indices(SHAPE)
    inside = ((x - 7) / 5) ** 2 + ((y - 14) / 7) ** 2 + ((z - 3) / 2) ** 2 < 1
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axcodes))
    voxels = nib.orientations.apply_orientation((100 * inside + 5 + x).astype("i2"), turn)
    nib.save(nib.Nifti1Image(voxels, AFFINE @ inv_ornt_aff(turn, SHAPE)), path)
    return voxels > 100


def preprocessing(device="cpu"):
    return Compose(
        [
            LoadImageCheckedd("image"),
            Orientationd("image", axcodes="RAS", labels=LABELS),
            ToDeviced("image", device),
            SafeSpacingd("image", pixdim=(1.0, 1.0, 2.0), mode="bilinear"),
        ]
    )


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "LAI", "SRA", "PIL", "ASL"])
def test_a_mask_returns_to_the_grid_of_its_image(tmp_path, axcodes, device):
    expected = write_case(tmp_path / "a.nii.gz", axcodes)
    transform = preprocessing(str(device))
    data = transform({"image": str(tmp_path / "a.nii.gz"), "image_path": "a"})
    assert data["image"].device.type == device.type
    data["pred"] = MetaTensor((data["image"] > 60).as_tensor().float())
    pred = Invertd("pred", transform=transform, orig_keys="image", nearest_interp=True)(data)[
        "pred"
    ]
    file = nib.Nifti1Image.from_filename(tmp_path / "a.nii.gz")
    assert tuple(pred.shape[1:]) == file.shape
    np.testing.assert_allclose(pred.affine.cpu(), file.affine, atol=1e-4)
    mask = pred[0].cpu().numpy() > 0.5
    dice = 2 * (mask & expected).sum() / (mask.sum() + expected.sum())
    assert dice > 0.85  # nearest neighbours there and back; a flipped mask gives 0.3 or less


def test_monais_own_spacing_still_fails_where_ours_does_not(tmp_path):
    write_case(tmp_path / "a.nii.gz")
    data = LoadImageCheckedd("image")({"image": str(tmp_path / "a.nii.gz"), "image_path": "a"})
    with pytest.raises(AttributeError, match="update"):
        Spacingd("image", pixdim=(1.0, 1.0, 2.0))(data)
    assert SafeSpacingd("image", pixdim=(1.0, 1.0, 2.0))(data)["image_path"] == "a"


def test_spacing_passes_everything_else_through(tmp_path):
    write_case(tmp_path / "a.nii.gz")
    other = torch.zeros(3)
    data = LoadImageCheckedd("image")({"image": str(tmp_path / "a.nii.gz")})
    data |= {"image_path": "a", "image_other": other, 7: "number", "image_meta_dict": {"kept": 1}}
    spaced: dict[Any, Any] = SafeSpacingd("image", pixdim=(1.0, 1.0, 2.0))(data)
    assert list(spaced) == list(data)
    assert spaced["image_other"] is other
    assert spaced["image_meta_dict"]["kept"] == 1
    expected: Any = Spacingd("image", pixdim=(1.0, 1.0, 2.0))({"image": data["image"]})["image"]
    assert torch.equal(spaced["image"].as_tensor(), expected.as_tensor())
    torch.testing.assert_close(spaced["image"].affine, expected.affine)


def test_a_missing_key_is_still_missing(tmp_path):
    with pytest.raises(KeyError, match="SafeSpacingd"):
        SafeSpacingd("image", pixdim=1.0)({"image_path": "a"})


def test_a_tensor_that_is_on_its_device_stays_itself():
    image = MetaTensor(torch.rand(1, 2, 3, 4), affine=torch.eye(4) * 2)
    for device in ("cpu", torch.device("cpu")):
        assert ToDeviced("image", device)({"image": image})["image"] is image


@pytest.mark.gpu
def test_meta_data_move_to_the_gpu_along_with_their_image():
    image = MetaTensor(torch.rand(1, 2, 3, 4), affine=torch.eye(4) * 2, meta={"a": 1})
    moved = ToDeviced("image", "cuda")({"image": image})["image"]
    assert moved.device.type == "cuda"
    assert moved.meta["a"] == 1
    assert torch.equal(moved.cpu().as_tensor(), image.as_tensor())


def image_of(voxels, **meta):
    return MetaTensor(torch.as_tensor(voxels, dtype=torch.float32), meta=meta)


def test_scaling_is_monais_where_there_is_contrast():
    voxels = np.random.default_rng(0).gamma(2.0, 90.0, (1, 9, 8, 7))
    theirs = ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, clip=True)
    ours = ScalePercentilesd("image", 0.5, 99.5)({"image": image_of(voxels, a=1)})["image"]
    assert torch.equal(ours, theirs({"image": image_of(voxels)})["image"])
    assert ours.meta["a"] == 1


def test_padding_does_not_count_in_the_scale():
    rng = np.random.default_rng(0)
    image = rng.permutation(np.arange(1000.0)) + 5
    padded = np.concatenate([image, np.full(250, 5.0)]).reshape(1, 10, 5, 25)
    scale = ScalePercentilesd("image", 2.0, 98.0)
    plain = scale({"image": image_of(image.reshape(1, 10, 10, 10))})["image"]
    found = scale({"image": image_of(padded, padding_fraction=0.2)})["image"]
    # 0.2 % of a range of 999 is what one rank of 1,250 moves a percentile
    torch.testing.assert_close(
        found.flatten()[:1000].as_tensor(), plain.flatten().as_tensor(), atol=2e-3, rtol=0
    )
    with_padding = scale({"image": image_of(padded)})["image"]
    assert (with_padding.flatten()[:1000] - plain.flatten()).abs().max() > 0.01


def test_an_image_without_contrast_is_refused_by_name():
    voxels = torch.zeros(1, 20, 20, 20)
    voxels[0, 3, 3, 3:11] = 700  # 0.1 %
    image = image_of(voxels, filename_or_obj="somewhere/a.nii.gz")
    with pytest.raises(IntensityError, match=r"0\.5 and 99\.5 must differ, 'a\.nii\.gz' has 0"):
        ScalePercentilesd("image", 0.5, 99.5)({"image": image})


@pytest.mark.parametrize("ends", [(-1.0, 50.0), (50.0, 50.0), (60.0, 40.0), (1.0, 101.0)])
def test_percentiles_come_in_their_order(ends):
    with pytest.raises(ValueError, match="must be percentiles in this order"):
        ScalePercentilesd("image", *ends)
