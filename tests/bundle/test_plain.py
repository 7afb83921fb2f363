"""`grata_monai.segment` gives what the bundle's own run gives, byte for byte."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from grata_monai import Record, segment, segment_dicom
from grata_monai.core.errors import BundleError, DatasetError, IntensityError, SettingError
from grata_monai.phantom.dicom import SeriesOptions, stored_volume, write_series

SPACING = (2.4, 2.4, 6.0)
TINY = {"spacing": list(SPACING), "roi_size": [48, 48, 8]}


@pytest.fixture
def call(bundle, one_step):
    """Segment with the cheapest recipe that moves weights."""

    def call(image, **given):
        options = {"bundle_dir": bundle, "recipe": one_step, "settings": TINY}
        return segment(image, **{**options, **given})

    return call


def test_file_voxels_and_tensor_give_the_bytes_of_the_bundles_run(
    call, render, save, run_bundle, one_step, tmp_path
):
    case = render(orientation="PIL")
    path = save(case.image, case.affine_ras, tmp_path / "images" / "a.nii.gz")
    out = tmp_path / "out"
    run_bundle(dataset_dir=str(path), output_dir=str(out), recipe=one_step)
    written = nib.Nifti1Image.from_filename(out / "a_seg.nii.gz")
    expected = np.asarray(written.dataobj)
    record = Record.from_json((out / "a_record.json").read_text())
    voxels = torch.from_numpy(np.array(case.image))
    results = [
        call(path),
        call(case.image, affine_ras=case.affine_ras),
        call(MetaTensor(voxels, affine=torch.from_numpy(case.affine_ras))),
    ]
    assert expected.any()
    for result in results:
        assert result.mask.dtype == np.uint8
        assert np.array_equal(result.mask, expected)
        np.testing.assert_allclose(result.affine_ras, written.affine, atol=1e-4)
        assert result.record.digest == record.digest
    assert result.record.steps


@pytest.mark.slow
def test_a_folder_of_dicom_gives_the_record_of_segment_dicom(
    call, render, bundle, one_step, tmp_path
):
    case = render()
    write_series(tmp_path / "in", case.image, case.affine_ras)
    result = call(tmp_path / "in")
    settings = {**TINY, "recipe": one_step}
    run = segment_dicom(tmp_path / "in", tmp_path / "out", bundle_dir=bundle, settings=settings)
    assert result.record.digest == run.results[0].record.digest
    voxels, affine_ras = stored_volume(case.image, case.affine_ras)
    same = call(voxels, affine_ras=affine_ras)
    assert np.array_equal(same.mask, result.mask)
    assert result.mask.any()


def test_two_volumes_in_a_folder_are_refused(call, render, tmp_path):
    for seed in (1, 2):
        case = render(seed)
        options = SeriesOptions(seed=seed)
        write_series(tmp_path / "in" / str(seed), case.image, case.affine_ras, options=options)
    with pytest.raises(DatasetError, match="one acceptable DICOM volume, got 2"):
        call(tmp_path / "in")


def test_a_refused_series_is_named_by_its_code(call, render, tmp_path):
    case = render()
    files = write_series(tmp_path / "in", case.image, case.affine_ras)
    files[3].unlink()
    with pytest.raises(DatasetError, match=r"got 0 and 1 rejection\(s\) \(missing_slices\)"):
        call(tmp_path / "in")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "affine_ras must be given with voxels"),
        ({"affine_ras": np.eye(3)}, "must be 4×4, got shape"),
    ],
)
def test_voxels_need_their_geometry(call, given, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((8, 8, 8)), **given)


def test_a_recipe_that_is_given_twice_is_refused(call):
    with pytest.raises(SettingError, match="recipe must be given once, got it as an argument and"):
        call("a.nii.gz", settings={"recipe": "paper"})


def test_a_file_brings_its_own_geometry(call, tmp_path):
    with pytest.raises(ValueError, match="must not be given with a path"):
        call(tmp_path / "a.nii.gz", affine_ras=np.eye(4))


def test_an_image_without_contrast_is_refused(call):
    with pytest.raises(IntensityError, match="equal"):
        call(np.zeros((48, 48, 8)), affine_ras=np.diag([*SPACING, 1.0]))


def test_a_changed_bundle_is_refused_unless_that_is_asked_for(call, render, bundle, tmp_path):
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    path = copy / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    case = render()
    with pytest.raises(BundleError, match=r"inference\.json"):
        call(case.image, affine_ras=case.affine_ras, bundle_dir=copy)
    result = call(
        case.image, affine_ras=case.affine_ras, bundle_dir=copy, recipe="source", unverified=True
    )
    assert result.record.outcome == "source"
    assert result.record.environment.bundle.is_verified is False
