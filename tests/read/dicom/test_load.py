"""A volume becomes an image like any other, and a mask finds its way back to the source frames."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd

from grata_monai.core.errors import DatasetError, DicomError, GeometryError
from grata_monai.phantom.dicom import (
    SeriesOptions,
    make_series,
    stored_volume,
    write_instances,
    write_series,
)
from grata_monai.read.dicom.grid import FrameGrid
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.load import (
    LoadDicomVolumed,
    map_probabilities_to_frames,
    map_to_frames,
    read_volume,
)
from grata_monai.read.dicom.rejection import Reason
from grata_monai.read.dicom.triage import triage
from grata_monai.read.image import CheckImaged, read_image
from grata_monai.read.transforms import SafeSpacingd
from grata_monai.write.image import write_label_map

NAMES = ["axial", "sagittal", "coronal", "feet_first", "oblique"]


def test_an_image_is_like_one_read_from_nifti(make_volume, make_image, tmp_path):
    volume = make_volume(make_image(high=200))
    image = read_volume(volume)
    write_label_map(image[0], affine_ras=image.affine, path=tmp_path / "same.nii")
    expected = read_image(tmp_path / "same.nii")
    assert isinstance(image, MetaTensor)
    assert image.is_contiguous()
    torch.testing.assert_close(image.as_tensor(), expected.as_tensor(), rtol=0, atol=0)
    torch.testing.assert_close(image.affine, expected.affine, rtol=0, atol=1e-4)
    assert image.meta.keys() == expected.meta.keys()
    for key in set(image.meta) - {"affine", "original_affine", "filename_or_obj"}:
        np.testing.assert_array_equal(image.meta[key], expected.meta[key])
        assert type(image.meta[key]) is type(expected.meta[key])
    assert type(image.meta["original_affine"]) is type(expected.meta["original_affine"])
    assert image.meta["filename_or_obj"] == volume.name


def test_a_tilted_volume_becomes_orthogonal_and_keeps_its_voxels_in_place(make_volume, make_affine):
    i, j, k = np.meshgrid(*map(np.arange, (12, 16, 6)), indexing="ij")
    image = np.where((i >= 4) & (i < 8) & (j >= 5) & (j < 11), 1000.0 + 10 * k, 100.0)
    options = {"modality": "CT", "tilt_degrees": 20.0}
    volume = make_volume(image, make_affine("sagittal"), **options)
    read = read_volume(volume)
    voxels, affine = stored_volume(image, make_affine("sagittal"), options=SeriesOptions(**options))
    steps = read.affine[:3, :3].numpy()
    cosines = steps / np.linalg.norm(steps, axis=0)
    np.testing.assert_allclose(cosines.T @ cosines, np.eye(3), atol=1e-6)
    assert float(read.min()) == 100.0
    centre = affine @ [5.5, 7.5, 3, 1]  # of the box in the fourth frame
    index = np.linalg.inv(read.affine.numpy()) @ centre
    i, j, k = np.rint(index[:3]).astype(int)
    assert read[0, i, j, k] == voxels[5, 7, 3] != 100


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tilt_degrees", [0.0, 15.0])
def test_a_mask_of_the_pipeline_comes_back_to_its_source_frames(
    make_volume, make_affine, name, tilt_degrees
):
    image = 100 + 10 * np.random.default_rng(0).random((16, 14, 6))
    image[5:11, 4:9, 2:5] = 500
    affine = make_affine(name, spacing=(1.0, 1.25, 3.0))
    volume = make_volume(image.round(), affine, tilt_degrees=tilt_degrees)
    steps = [
        LoadDicomVolumed("image", [volume]),
        CheckImaged("image"),
        Orientationd("image", axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
        SafeSpacingd("image", pixdim=(0.9, 0.9, 2.0)),
    ]
    source = stored_volume(image.round(), affine, options=SeriesOptions(tilt_degrees=tilt_degrees))[
        0
    ].transpose(2, 1, 0)
    for count, least in ((3, 0.88 if tilt_degrees else 1.0), (4, 0.75)):
        preprocessing = Compose(steps[:count])
        data = preprocessing({"image": volume.name})
        pred = (data["image"] > 300).to(torch.float32)
        assert isinstance(pred, MetaTensor)
        invert = Invertd(
            "pred", preprocessing, orig_keys="image", nearest_interp=True, to_tensor=True
        )
        mask = invert({**data, "pred": pred})["pred"]
        frames = map_to_frames(mask[0], mask.affine, volume)
        assert frames.shape == source.shape
        assert frames.dtype == np.uint8
        truth = source > 300
        dice = 2 * (frames.astype(bool) & truth).sum() / (frames.sum() + truth.sum())
        assert dice >= least
        assert {k for k in range(6) if frames[k].any()} == {k for k in range(6) if truth[k].any()}


def test_probabilities_come_back_to_their_source_frames(make_volume):
    volume = make_volume()
    grid = FrameGrid(volume)
    values = torch.rand(2, *grid.spatial_shape)
    frames = map_probabilities_to_frames(values, torch.as_tensor(grid.affine_ras), volume)
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(frames, values.numpy().transpose(0, 3, 2, 1))


def test_probabilities_of_a_tilted_volume_stay_between_0_and_1(make_volume):
    volume = make_volume(modality="CT", tilt_degrees=25.0)
    grid = FrameGrid(volume)
    values = torch.rand(2, *grid.spatial_shape)
    values /= values.sum(dim=0)
    frames = map_probabilities_to_frames(values, grid.affine_ras, volume)
    assert frames.shape == (2, *volume.spatial_shape[::-1])
    assert frames.min() >= 0
    np.testing.assert_allclose(frames.sum(axis=0), 1, atol=1e-6)


def test_values_on_another_grid_are_refused(make_volume):
    volume = make_volume()
    grid = FrameGrid(volume)
    labels = np.zeros(grid.spatial_shape, np.uint8)
    with pytest.raises(GeometryError, match="mask must have the shape"):
        map_to_frames(labels[1:], grid.affine_ras, volume)
    with pytest.raises(GeometryError, match="mask must have the affine"):
        map_to_frames(labels, np.eye(4), volume)
    with pytest.raises(GeometryError, match=r"probabilities must have the axes \(k, \*s\)"):
        map_probabilities_to_frames(labels, grid.affine_ras, volume)


@pytest.mark.parametrize("value", [0.5, -1, 256, float("nan")])
def test_labels_that_are_no_bytes_are_refused(make_volume, value):
    volume = make_volume()
    labels = np.full(volume.spatial_shape, value)
    with pytest.raises(ValueError, match="label_map must hold whole numbers from 0 to 255"):
        map_to_frames(labels, volume.affine_ras, volume)


def test_the_transform_finds_volumes_by_their_names(make_volume):
    volume = make_volume()
    transform = LoadDicomVolumed(["image", "other"], [volume], allow_missing_keys=True)
    loaded = transform({"image": volume.name, "case": "kept"})
    assert loaded["case"] == "kept"
    assert loaded["image"].shape == (1, *volume.spatial_shape)
    again = transform(loaded)
    assert again["image"] is loaded["image"]


def test_a_name_that_no_volume_has_is_refused_without_repeating_it(make_volume):
    transform = LoadDicomVolumed("image", [make_volume()])
    with pytest.raises(DatasetError, match="image must name one of the 1 volumes") as caught:
        transform({"image": "DOE^JANE"})
    assert "DOE" not in str(caught.value)


def test_two_volumes_of_one_name_are_refused(make_volume):
    volume = make_volume()
    with pytest.raises(ValueError, match="2 volumes share 1"):
        LoadDicomVolumed("image", [volume, volume])


def test_limits_reach_the_decoder(make_volume):
    volume = make_volume()
    transform = LoadDicomVolumed("image", [volume], limits=Limits(pixel_budget_bytes=100))
    with pytest.raises(DicomError, match="at most 100 bytes, 7×6×5 voxels take 840") as caught:
        transform({"image": volume.name})
    assert caught.value.reason == Reason.OVER_PIXEL_BUDGET


def test_a_tilt_whose_grid_exceeds_the_budget_is_refused(make_volume):
    volume = make_volume(modality="CT", tilt_degrees=50.0)
    limits = Limits(pixel_budget_bytes=840)
    with pytest.raises(DicomError, match="at most 840 bytes") as caught:
        read_volume(volume, limits=limits)
    assert caught.value.reason == Reason.OVER_PIXEL_BUDGET


@pytest.mark.parametrize(
    ("declared", "limit", "stored"),
    [
        (-2000, None, -2000),
        (63536, None, -2000),  # as unsigned, which scanners do
        (-2000, -1990, -1995),
        (-1990, -2000, -1995),
    ],
)
def test_padding_takes_the_smallest_intensity_and_is_counted(tmp_path, declared, limit, stored):
    image = np.random.default_rng(0).integers(10, 1000, (7, 6, 5)).astype(np.float64)
    datasets = make_series(
        image, np.diag([1.0, 1.0, 3.0, 1.0]), options=SeriesOptions(is_signed=True)
    )
    for dataset in datasets:
        pixels = dataset.pixel_array.copy()
        pixels[:, :2] = stored
        dataset.PixelData = pixels.tobytes()
        dataset.add_new("PixelPaddingValue", "US" if declared > 0 else "SS", declared)
        if limit is not None:
            dataset.add_new("PixelPaddingRangeLimit", "SS", limit)
    write_instances(datasets, tmp_path)
    (volume,) = triage(tmp_path).volumes
    found = read_volume(volume)
    voxels = found.numpy()[0]
    assert found.meta["padding_fraction"] == pytest.approx(2 / 7)
    np.testing.assert_array_equal(voxels[:2], voxels[2:].min())
    assert voxels[2:].min() >= 10


def test_without_padding_nothing_is_counted(tmp_path):
    image = np.random.default_rng(0).integers(10, 1000, (7, 6, 5)).astype(np.float64)
    write_series(tmp_path, image, np.diag([1.0, 1.0, 3.0, 1.0]))
    (volume,) = triage(tmp_path).volumes
    assert "padding_fraction" not in read_volume(volume).meta
