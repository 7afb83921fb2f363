"""What the bundle refuses: in one line, with reason and remedy, and nothing half written."""

import gzip
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow

REASONS = {
    "all_zero": "IntensityError",
    "flat": "GeometryError",
    "infinite": "IntensityError",
    "nan": "IntensityError",
    "singular": "GeometryError",
    "text": "UnreadableImageError",
    "three_channels": "ChannelError",
    "truncated": "UnreadableImageError",
}


@pytest.fixture
def images(tmp_path, render, save) -> Path:
    """One good case, and one of each kind that is refused."""
    folder, case = tmp_path / "images", render()
    image, affine = case.image, case.affine_ras
    good = save(image, affine, folder / "good.nii.gz")
    (folder / "truncated.nii.gz").write_bytes(good.read_bytes()[:-2000])
    (folder / "text.nii.gz").write_text("this is no image\n")
    save(with_voxel(image, np.nan), affine, folder / "nan.nii.gz")
    save(with_voxel(image, np.inf), affine, folder / "infinite.nii.gz")
    save(image[:, :, 4], affine, folder / "flat.nii.gz")
    save(np.stack([image] * 3, axis=-1), affine, folder / "three_channels.nii.gz")
    save(np.zeros_like(image), affine, folder / "all_zero.nii.gz")
    save_singular(image, affine, folder / "singular.nii.gz")
    return folder


def with_voxel(image: np.ndarray, value: float) -> np.ndarray:
    changed = image.copy()
    changed[5, 6, 2] = value
    return changed


def save_singular(image: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Let the third axis run along the second."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    singular = affine.astype("<f4")
    singular[:3, 2] = singular[:3, 1] / spacing[1] * spacing[2]
    nifti = nib.Nifti1Image(image, affine)
    nifti.set_qform(None, code=0)
    content = bytearray(nifti.to_bytes())
    content[280:328] = singular[:3].tobytes()  # srow_x, srow_y, srow_z
    path.write_bytes(gzip.compress(content, compresslevel=1))


def written(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_one_bad_case_stops_no_other(images, tmp_path, open_bundle, one_step):
    folders = {"dataset_dir": str(images), "output_dir": str(tmp_path / "out")}
    workflow = open_bundle(**folders, recipe=one_step)
    with pytest.raises(RuntimeError) as caught:
        workflow.run()
    assert written(tmp_path / "out") == {"good_seg.nii.gz", "good_record.json"}
    failures = workflow.evaluator.state.failures
    assert {failure.case: failure.reason for failure in failures} == REASONS
    for failure in failures:
        assert f"{failure.case}.nii.gz" in failure.message
        assert "\n" not in failure.message
        assert failure.message.count(". ") >= 1, "the second sentence says what to do"
        assert failure.message.endswith(".")
    assert "8 failed" in str(caught.value.__cause__)


def test_the_process_ends_with_one_line_and_a_status(images, tmp_path, run_process, bundle):
    config = str(bundle / "configs" / "inference.json")
    done = run_process(
        "inference", "--config_file", config, "--dataset_dir", "images", "--output_dir", "out",
        "--recipe", "source",
    )  # fmt: skip
    assert done.returncode == 1
    assert written(tmp_path / "out") == {"good_seg.nii.gz", "good_record.json"}
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: CaseError: every case must be segmented, 8 failed (")
    assert "nan: IntensityError" in last
    assert "Traceback" not in done.stderr
    for case, reason in REASONS.items():
        assert f"{case}: {reason}: " in done.stderr


# ------------------------------------------------------------------------------- before any case


@pytest.fixture
def one_case(tmp_path, render, save) -> Path:
    case = render()
    return save(case.image, case.affine_ras, tmp_path / "images" / "a.nii.gz")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"recipe": "clinicl"}, "RecipeError: recipe must be among .* Did you mean 'clinical'"),
        (
            {"recipe": {"base": "clinical", "stepz": 3}},
            "RecipeError: recipe fields must be among .*'stepz'. Did you mean 'steps'",
        ),
        ({"recipe": {"base": "clinical", "steps": -1}}, "RecipeError: steps must be at least 0"),
        ({"precision": "fp8"}, "RecipeError: precision must be one of .* Use 'fp32'"),
        ({"only": ["b"]}, "DatasetError: only must be among .*got 'b'"),
        ({"network#weights": "no.pt"}, "WeightsError: .* got no.pt: FileNotFoundError. Check"),
        (
            {"network_def#filters": [16, 32, 64, 128, 96]},
            "WeightsError: weights in model.pt must have the network's shapes.*network_def",
        ),
        (
            {"network_def#norm_name": ["batch", {"affine": True}]},
            "WeightsError: weights in model.pt must have exactly the network's keys: [1-9]",
        ),
        ({"device#name": "cuda:99"}, "NetworkError: device must exist .* Use 'auto' or 'cpu'"),
        ({"dataset_dir": "no/such/folder"}, "DatasetError: dataset_dir must exist.* check the"),
        ({"dataset_dir": "empty"}, "DatasetError: dataset_dir must hold images .* Point"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_one_line_with_the_remedy(
    overrides, message, one_case, tmp_path, refusal, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    before = written(tmp_path)
    said = refusal(**{"dataset_dir": str(one_case), "output_dir": "out", **overrides})
    assert re.fullmatch(f"error: {message}.*\n", said)
    assert written(tmp_path) == before, "no file is left"


def test_foreign_weights_are_refused_key_by_key(one_case, tmp_path, refusal, bundle):
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    torch.save({f"module.{key}": weights[key] for key in weights}, tmp_path / "ddp.pt")
    overrides = {"network#weights": str(tmp_path / "ddp.pt"), "output_dir": str(tmp_path)}
    said = refusal(dataset_dir=str(one_case), **overrides)
    assert said.startswith("error: WeightsError: weights in ddp.pt must have exactly the network's")
    assert "The nearest to" in said


def test_weights_that_are_code_are_not_run(one_case, tmp_path, refusal):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pt")
    overrides = {"network#weights": str(tmp_path / "module.pt"), "output_dir": str(tmp_path)}
    said = refusal(dataset_dir=str(one_case), **overrides)
    assert said.startswith("error: WeightsError: weights must be a state dict that loads with")


@pytest.mark.parametrize("overlay", ["source_only", "evaluate"])
def test_an_output_folder_that_cannot_be_is_refused_before_the_first_case(
    overlay, tmp_path, render, save, refusal
):
    case = render()
    for name, voxels in (("images", case.image), ("labels", case.label)):
        save(voxels, case.affine_ras, tmp_path / name / "a.nii.gz")
    (tmp_path / "file").write_text("in the way")
    said = refusal(overlay, dataset_dir=str(tmp_path), output_dir=str(tmp_path / "file" / "out"))
    assert said.startswith("error: OutputError: output folder must be writable")
    assert written(tmp_path) == {"images/a.nii.gz", "labels/a.nii.gz", "file"}


def test_an_output_folder_that_cannot_be_is_refused_before_a_phantom_is_made(tmp_path, refusal):
    (tmp_path / "file").write_text("in the way")
    said = refusal(output_dir=str(tmp_path / "file" / "out"))
    assert said.startswith("error: OutputError: output folder must be writable")


def test_other_errors_keep_their_traceback(one_case, tmp_path, refusal):
    folders = {"dataset_dir": str(one_case), "output_dir": str(tmp_path)}
    said = refusal(**folders, handlers="$no_such_name")
    assert "Traceback" in said
    assert "no_such_name" in said
