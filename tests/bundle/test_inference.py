"""The bundle's inference: a mask on its image's grid, with its record, the same every time."""

import json
import logging
import shutil
from pathlib import Path

import itk
import jsonschema
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.engines import SupervisedEvaluator
from monai.inferers import SlidingWindowInferer
from monai.transforms import (
    Compose,
    Invertd,
    KeepLargestConnectedComponent,
    LoadImaged,
    Orientationd,
    ScaleIntensityRangePercentilesd,
    Spacingd,
)

from grata_monai import Record
from grata_monai.bundle.lint import write_manifest
from grata_monai.evaluator import OverlappingEvaluator
from grata_monai.read.transforms import ToDeviced

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def images(tmp_path, render, save) -> Path:
    """A folder with the cases a and b."""
    folder = tmp_path / "images"
    for seed, name in enumerate("ab"):
        case = render(seed)
        save(case.image, case.affine_ras, folder / f"{name}.nii.gz")
    return folder


def read_mask(folder: Path, case: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_filename(folder / f"{case}_seg.nii.gz")


def read_record(folder: Path, case: str) -> Record:
    return Record.from_json((folder / f"{case}_record.json").read_text())


def same_mask_and_record(one: Path, other: Path, case: str) -> bool:
    names = [folder / f"{case}_seg.nii.gz" for folder in (one, other)]
    is_same_mask = names[0].read_bytes() == names[1].read_bytes()
    return is_same_mask and read_record(one, case).digest == read_record(other, case).digest


def dice(one: np.ndarray, other: np.ndarray) -> float:
    total = one.sum() + other.sum()
    return 2 * (one * other).sum() / total if total else 1.0


@pytest.mark.parametrize("run_id", ["run", "inference"])
def test_both_ids_write_a_mask_and_its_record_per_case(run_id, images, tmp_path, run_bundle):
    out = tmp_path / "out"
    run_bundle(run_id=run_id, dataset_dir=str(images), output_dir=str(out), recipe="source")
    assert sorted(path.name for path in out.iterdir()) == [
        "a_record.json",
        "a_seg.nii.gz",
        "b_record.json",
        "b_seg.nii.gz",
    ]
    voxels = np.asarray(read_mask(out, "a").dataobj)
    assert voxels.dtype == np.uint8
    assert set(np.unique(voxels)) <= {0, 1}


@pytest.mark.slow
def test_reports_are_made_by_default_and_change_neither_mask_nor_record(
    images, tmp_path, run_bundle, bundle, one_step
):
    assert json.loads((bundle / "configs/inference.json").read_text())["report"] is True
    plain, told = tmp_path / "plain", tmp_path / "told"
    recipe = {**one_step, "focus_views": ["identity"]}
    run = {"dataset_dir": str(images / "a.nii.gz"), "recipe": recipe}
    run_bundle(output_dir=str(plain), **run)
    run_bundle(output_dir=str(told), report=True, **run)
    assert same_mask_and_record(plain, told, "a")
    assert sorted(path.name for path in told.iterdir()) == [
        "a_record.json",
        "a_seg.nii.gz",
        "index.html",
        "report",
    ]
    page = (told / "report" / "a.html").read_text()
    voxels = np.count_nonzero(read_mask(told, "a").dataobj)
    millilitres = voxels * abs(np.linalg.det(read_mask(told, "a").affine)) / 1000
    assert f"{millilitres:.1f} mL" in page
    assert 'class="views"><path d="M' in page.replace("\n", "")


@pytest.mark.slow
def test_a_rerun_does_what_is_not_done_or_would_be_another(images, tmp_path, run_bundle, caplog):
    out = tmp_path / "out"
    settings = {"dataset_dir": str(images), "output_dir": str(out), "recipe": "source"}
    run_bundle(**settings)
    first = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "b_seg.nii.gz").unlink()
    with caplog.at_level(logging.INFO, logger="grata_monai"):
        run_bundle(**settings, device="cpu")
    second = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert "1 of 2 cases were done already" in caplog.text
    same = {name for name in first if first[name] == second[name]}
    assert same == {"a_seg.nii.gz", "a_record.json"}
    run_bundle(**settings, overlap=0.5)
    third = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert all(third[name] > second[name] for name in first)


def test_an_image_that_becomes_unreadable_loses_its_mask(images, tmp_path, run_bundle, refusal):
    out = tmp_path / "out"
    settings = {"dataset_dir": str(images), "output_dir": str(out), "recipe": "source"}
    run_bundle(**settings)
    (images / "a.nii.gz").write_text("damaged")
    assert "1 failed (a: UnreadableImageError)" in refusal(**settings)
    assert sorted(path.name for path in out.iterdir()) == ["b_record.json", "b_seg.nii.gz"]


@pytest.mark.parametrize(("dataset", "message"), [("none", "must exist"), ("a.nii", "1 failed")])
def test_a_refusal_that_wrote_nothing_leaves_no_folder(tmp_path, refusal, dataset, message):
    (tmp_path / "a.nii").write_text("damaged")
    out = tmp_path / "new" / "out"
    assert message in refusal(
        dataset_dir=str(tmp_path / dataset), output_dir=str(out), recipe="source"
    )
    assert not out.parent.exists()


def test_every_property_that_monai_asks_for_is_there(open_bundle, images):
    assert open_bundle(dataset_dir=str(images)).check_properties() == []


@pytest.mark.parametrize("recipe", ["source", "paper", "clinical"])
def test_the_record_obeys_its_schema(recipe, images, tmp_path, run_bundle, repository):
    out = tmp_path / "out"
    coarse = {"spacing": [3.6, 3.6, 6.0], "roi_size": [32, 32, 8]}
    run_bundle(dataset_dir=str(images / "a.nii.gz"), output_dir=str(out), recipe=recipe, **coarse)
    schema = json.loads((repository / "docs/reference/record.schema.json").read_text())
    written = json.loads((out / "a_record.json").read_text())
    jsonschema.validate(written, schema, cls=jsonschema.Draft202012Validator)
    assert written["output"]["file"] == "a_seg.nii.gz"
    assert written["recipe"]["name"] == recipe
    assert bool(written["steps"]) == (recipe != "source")
    assert written["weights"]["before"] == written["weights"]["restored"]
    is_calibrated = True if recipe == "clinical" else None  # for the weights that ship
    assert written["verdict"]["is_calibrated"] is is_calibrated


@pytest.mark.slow
def test_a_named_recipe_is_an_option_of_the_command_line(images, run_process, bundle, tmp_path):
    config = str(bundle / "configs" / "inference.json")
    done = run_process(
        "--config_file", config, "--dataset_dir", images.name, "--output_dir", "out",
        "--recipe", "paper", "--only", "['b']",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "b: Adapted to this case in 1 step; " in done.stderr
    assert read_record(tmp_path / "out", "b").recipe["name"] == "paper"


# ------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "ASL", "PIR", "SRA"])
def test_the_mask_lies_on_the_grid_of_its_image(orientation, tmp_path, render, save, run_bundle):
    case = render(orientation=orientation, oblique_degrees=12.0)
    path = save(case.image, case.affine_ras, tmp_path / "a.nii.gz")
    run_bundle(dataset_dir=str(path), output_dir=str(tmp_path / "out"), recipe="source")
    mask = read_mask(tmp_path / "out", "a")
    assert mask.shape == case.image.shape
    np.testing.assert_allclose(mask.affine, nib.Nifti1Image.from_filename(path).affine, atol=1e-4)


@pytest.mark.slow
def test_the_mask_has_the_same_place_in_the_patient_for_every_orientation(
    tmp_path, render, save, run_bundle, one_step
):
    for orientation in ("LPS", "RAS", "ASL"):
        case = render(orientation=orientation)
        save(case.image, case.affine_ras, tmp_path / "images" / f"{orientation}.nii.gz")
    out = tmp_path / "out"
    run_bundle(dataset_dir=str(tmp_path / "images"), output_dir=str(out), recipe=one_step)
    masks = [nib.as_closest_canonical(read_mask(out, name)) for name in ("LPS", "RAS", "ASL")]
    for other in masks[1:]:
        np.testing.assert_allclose(other.affine, masks[0].affine, atol=1e-3)
        assert dice(np.asarray(other.dataobj), np.asarray(masks[0].dataobj)) > 0.99


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_the_type_of_the_voxels_does_not_matter(dtype, tmp_path, render, save, run_bundle):
    case = render()
    path = save(case.image.astype(dtype), case.affine_ras, tmp_path / "a.nii")
    run_bundle(dataset_dir=str(path), output_dir=str(tmp_path / "out"), recipe="source")
    assert read_mask(tmp_path / "out", "a").get_data_dtype() == np.uint8


@pytest.mark.slow
@pytest.mark.parametrize("extension", [".mha", ".nrrd"])
def test_other_formats_give_the_mask_that_nifti_gives(
    extension, tmp_path, render, save, run_bundle
):
    case = render(orientation="LPS")
    save(case.image, case.affine_ras, tmp_path / "nifti" / "a.nii.gz")
    write_itk(case.image, case.affine_ras, tmp_path / "itk" / f"a{extension}")
    for name in ("nifti", "itk"):
        folders = {"dataset_dir": str(tmp_path / name), "output_dir": str(tmp_path / f"{name}_out")}
        run_bundle(**folders, recipe="source")
    nifti, other = (read_mask(tmp_path / f"{name}_out", "a") for name in ("nifti", "itk"))
    assert other.shape == nifti.shape
    np.testing.assert_allclose(other.affine, nifti.affine, atol=1e-3)
    assert dice(np.asarray(other.dataobj), np.asarray(nifti.dataobj)) > 0.99


def write_itk(image: np.ndarray, affine_ras: np.ndarray, path: Path) -> None:
    affine_lps = LPS_TO_RAS @ affine_ras
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    volume = itk.image_from_array(np.ascontiguousarray(image.T))
    volume.SetSpacing(spacing.tolist())
    volume.SetOrigin(affine_lps[:3, 3].tolist())
    volume.SetDirection(itk.matrix_from_array(affine_lps[:3, :3] / spacing))
    path.parent.mkdir()
    itk.imwrite(volume, str(path))


def test_a_volume_smaller_than_the_window_works(tmp_path, render, save, run_bundle, one_step):
    case = render(spatial_shape=(30, 27, 8), spacing=(2.4, 2.4, 4.0))
    path = save(case.image, case.affine_ras, tmp_path / "a.nii.gz")
    run_bundle(dataset_dir=str(path), output_dir=str(tmp_path / "out"), recipe=one_step)
    assert read_mask(tmp_path / "out", "a").shape == case.image.shape


# ------------------------------------------------------------------------------- repeatability


def test_a_case_gives_the_same_bytes_whatever_came_before(
    images, tmp_path, run_bundle, one_step, bundle, monkeypatch
):
    run_bundle(dataset_dir=str(images), output_dir=str(tmp_path / "one"), recipe=one_step)
    (tmp_path / "list.json").write_text(
        json.dumps({"testing": [{"image": f"images/{name}.nii.gz"} for name in "ba"]})
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "bundle").symlink_to(bundle)
    run_bundle(
        configs="../bundle/configs",
        dataset_dir="../list.json",
        output_dir="../two",
        recipe=one_step,
    )
    for case in "ab":
        weights = read_record(tmp_path / "one", case).weights
        assert weights.before != weights.after
        assert same_mask_and_record(tmp_path / "one", tmp_path / "two", case)


@pytest.mark.slow
def test_a_folder_gives_the_bytes_of_a_run_without_overlap(
    images, tmp_path, run_bundle, one_step, monkeypatch
):
    settings = {"dataset_dir": str(images), "recipe": one_step, "report": True}
    run_bundle(output_dir=str(tmp_path / "overlapping"), **settings)
    monkeypatch.setattr(OverlappingEvaluator, "run", SupervisedEvaluator.run)
    run_bundle(output_dir=str(tmp_path / "serial"), **settings)
    for case in "ab":
        assert same_mask_and_record(tmp_path / "overlapping", tmp_path / "serial", case)
        assert (tmp_path / "overlapping" / "report" / f"{case}.html").is_file()


def test_two_runs_of_one_workflow_are_equal(images, tmp_path, open_bundle, one_step):
    folders = {"dataset_dir": str(images / "a.nii.gz"), "output_dir": str(tmp_path / "out")}
    workflow = open_bundle(**folders, recipe=one_step)
    workflow.run()
    (tmp_path / "out").rename(tmp_path / "first")
    workflow.run()
    assert same_mask_and_record(tmp_path / "first", tmp_path / "out", "a")


def test_only_keeps_the_named_cases(images, tmp_path, run_bundle):
    out = tmp_path / "out"
    run_bundle(dataset_dir=str(images), output_dir=str(out), only=["b"], recipe="source")
    assert {path.name for path in out.iterdir()} == {"b_seg.nii.gz", "b_record.json"}


# ------------------------------------------------------------------------------- the source


def test_source_only_writes_what_the_plain_network_predicts(images, tmp_path, run_bundle, bundle):
    path = images / "a.nii.gz"
    run_bundle("source_only", dataset_dir=str(path), output_dir=str(tmp_path / "out"))
    assert read_record(tmp_path / "out", "a").outcome == "source"
    expected = predict_with_monai_alone(path, bundle)
    np.testing.assert_array_equal(np.asarray(read_mask(tmp_path / "out", "a").dataobj), expected)


def predict_with_monai_alone(path: Path, bundle: Path) -> np.ndarray:
    preprocessing = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", "RAS", labels=None),
            Spacingd("image", (2.4, 2.4, 6.0)),
            ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, clip=True),
        ]
    )
    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "inference.json"))
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    data = preprocessing({"image": path})
    with torch.no_grad():
        logits = SlidingWindowInferer((48, 48, 8), overlap=0.25, mode="gaussian")(
            data["image"][None], network
        )
    mask = KeepLargestConnectedComponent()(logits[0].argmax(0, keepdim=True))
    data["pred"] = mask
    return np.asarray(Invertd("pred", preprocessing, "image", nearest_interp=True)(data)["pred"][0])


def test_going_to_the_cpu_is_a_no_op(device):
    image = torch.rand(1, 4, 4, 4)
    moved = ToDeviced("image", device="cpu")({"image": image})["image"]
    assert moved is image
    assert not moved.is_pinned() if device.type == "cuda" else True


# ------------------------------------------------------------------------------- where it lies


def test_a_copied_bundle_uses_its_own_weights_and_output_folder(
    images, tmp_path, run_bundle, bundle, monkeypatch
):
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns("eval", "training"))
    weights = torch.load(copy / "models" / "model.pt", weights_only=True)
    torch.save({key: value * 1.5 for key, value in weights.items()}, copy / "models" / "model.pt")
    write_manifest(copy)
    monkeypatch.chdir(tmp_path)
    path = str(images / "a.nii.gz")
    run_bundle("source_only", configs="copy/configs", dataset_dir=path)
    run_bundle("source_only", dataset_dir=path, output_dir=str(tmp_path / "out"))
    own, others = (read_record(folder, "a").weights for folder in (copy / "eval", tmp_path / "out"))
    assert own.before != others.before


@pytest.mark.slow
def test_without_a_data_set_a_phantom_is_made(tmp_path, run_bundle):
    run_bundle("source_only", output_dir=str(tmp_path))
    assert len(list((tmp_path / "phantom" / "images").iterdir())) == 1
    assert (
        len(list(tmp_path.glob("*_seg.nii.gz"))) == len(list(tmp_path.glob("*_record.json"))) == 1
    )
