"""The evaluate overlay: source and adapted masks against labels, on the labels' own grids."""

import csv
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest


@pytest.fixture
def centres(tmp_path, render, save) -> Path:
    """Two centres with one labelled case each, their labels stored like their images."""
    for seed, (centre, orientation) in enumerate([("north", "LPS"), ("south", "ASL")]):
        case = render(seed, orientation=orientation)
        folder = tmp_path / "data" / centre
        save(case.image, case.affine_ras, folder / "images" / f"{centre}.nii.gz")
        save(case.label, case.affine_ras, folder / "labels" / f"{centre}.nii.gz")
    return tmp_path / "data"


def read_voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj).astype(bool)


def read_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "evaluation.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def dice(mask: np.ndarray, label: np.ndarray) -> float:
    return 2 * (mask & label).sum() / (mask.sum() + label.sum())


@pytest.mark.slow
@pytest.mark.parametrize("run_id", ["run", "evaluate"])
def test_both_tables_hold_the_dice_of_the_masks_on_disk(
    run_id, centres, tmp_path, run_bundle, one_step
):
    out, source = tmp_path / "out", tmp_path / "source"
    folders = {"dataset_dir": str(centres), "output_dir": str(out)}
    run_bundle("evaluate", run_id=run_id, **folders, recipe=one_step)
    run_bundle("source_only", dataset_dir=str(centres), output_dir=str(source))
    rows = read_rows(out)
    assert [(row["centre"], row["case"]) for row in rows] == [
        ("north", "north"),
        ("south", "south"),
    ]
    for row in rows:
        name = row["case"]
        label = read_voxels(centres / name / "labels" / f"{name}.nii.gz")
        for folder, column in ((out, "adapted_dice"), (source, "source_dice")):
            expected = dice(read_voxels(folder / f"{name}_seg.nii.gz"), label)
            assert float(row[column]) == pytest.approx(expected, abs=1e-6)
        table = (out / "evaluation.md").read_text()
        numbers = [f"{float(row[column]):.3f}" for column in ("source_dice", "adapted_dice")]
        assert f"| {name} | 1 | {numbers[0]} | {numbers[1]} |" in table


def test_masks_and_records_are_written_as_by_inference(centres, tmp_path, run_bundle):
    run_bundle("evaluate", dataset_dir=str(centres), output_dir=str(tmp_path), recipe="source")
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        *(f"{name}_{end}" for name in ("north", "south") for end in ("seg.nii.gz", "record.json")),
        "evaluation.csv",
        "evaluation.md",
    }


def test_a_label_is_required(tmp_path, render, save, refusal):
    case = render()
    save(case.image, case.affine_ras, tmp_path / "images" / "a.nii.gz")
    said = refusal("evaluate", dataset_dir=str(tmp_path), output_dir=str(tmp_path / "out"))
    assert said.startswith("error: DatasetError: every image must have a label labels/a.nii.gz")


@pytest.mark.parametrize("defect", ["other shape", "other affine"])
def test_a_label_on_another_grid_fails_alone(defect, centres, tmp_path, render, save, open_bundle):
    case = render(0)
    affine = case.affine_ras.copy()
    affine[0, 3] += 5.0 if defect == "other affine" else 0.0
    label = case.label if defect == "other affine" else case.label[:-1]
    save(label, affine, centres / "north" / "labels" / "north.nii.gz")
    folders = {"dataset_dir": str(centres), "output_dir": str(tmp_path / "out")}
    workflow = open_bundle("evaluate", **folders, recipe="source")
    with pytest.raises(RuntimeError):
        workflow.run()
    failures = workflow.evaluator.state.failures
    assert [(failure.case, failure.reason) for failure in failures] == [("north", "GeometryError")]
    assert failures[0].message.startswith("label must lie on its image's grid")
    assert [row["case"] for row in read_rows(tmp_path / "out")] == ["south"]


GOOD = ("1", "2025_11", "a b", "case1.mha", "größe", "n" * 200, "x,y", "%d", "{case}")


def write_bad(folder: Path, image: np.ndarray) -> dict[str, str]:
    """Write three images that are wrong in ways of their own; give what they are refused for."""
    sizes = " ".join(map(str, image.shape))
    voxels = image.astype("<i2").tobytes(order="F")
    stream = bytearray(zlib.compress(voxels))
    stream[len(stream) // 2] ^= 0xFF
    header = "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\n"
    header += f"CompressedDataSize = {len(stream)}\nElementSpacing = 2.4 2.4 6\n"
    header += "TransformMatrix = 1 0 0 0 1 0 0 0 1\n"
    header += f"DimSize = {sizes}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (folder / "damaged.mha").write_bytes(header.encode() + stream)
    header = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sizes}\nencoding: raw\n"
    header += "endian: little\nspace: left-posterior-superior\n\n"
    (folder / "nowhere.nrrd").write_bytes(header.encode() + voxels)
    nifti = nib.Nifti1Image(image.astype(np.int16), np.diag([2.4, 2.4, 6.0, 1.0]))
    content = bytearray(nifti.to_bytes())
    content[112:120] = np.array([np.inf, 0], "<f4").tobytes()  # scl_slope, scl_inter
    (folder / "scaled.nii").write_bytes(content)
    return {
        "damaged": "UnreadableImageError",
        "nowhere": "GeometryError",
        "scaled": "IntensityError",
    }


@pytest.mark.slow
def test_of_twelve_files_nine_get_masks_three_get_reasons_and_both_tables_are_there(
    tmp_path, render, save, run_process, bundle
):
    case = render()
    for name in GOOD:
        save(case.image, case.affine_ras, tmp_path / "images" / f"{name}.nii.gz")
    reasons = write_bad(tmp_path / "images", case.image)
    for name in (*GOOD, *reasons):
        save(case.label, case.affine_ras, tmp_path / "labels" / f"{name}.nii.gz")
    configs = [str(bundle / "configs" / f"{name}.json") for name in ("inference", "evaluate")]
    done = run_process(
        "evaluate", "--config_file", str(configs), "--recipe", "source",
        "--dataset_dir", str(tmp_path), "--output_dir", "2025_11",
    )  # fmt: skip
    assert done.returncode == 1
    out = tmp_path / "2025_11"
    masks = {path.name.removesuffix("_seg.nii.gz") for path in out.glob("*_seg.nii.gz")}
    assert masks == {"case1" if name == "case1.mha" else name for name in GOOD}
    for name, reason in reasons.items():
        assert f"{name}: {reason}: " in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "error: CaseError: every case must be segmented, 3 failed ("
    )
    rows = read_rows(out)
    assert {row["case"] for row in rows} == masks
    assert len({row["adapted_dice"] for row in rows}) == 1
    assert "| - | 9 |" in (out / "evaluation.md").read_text()
