"""The shipped weights on real cases: what the model card claims, and a target case end to end."""

import csv
import json
from statistics import fmean

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from grata_monai.read.cases import list_cases, split_cases

pytestmark = [pytest.mark.realdata, pytest.mark.slow]

IN_DOMAIN_DICE = 0.86  # measured .8615, see the model card


def run_bundle(repository, output_dir, **overrides):
    configs = repository / "bundle" / "configs"
    workflow = ConfigWorkflow(
        config_file=[str(configs / "inference.json"), str(configs / "evaluate.json")],
        workflow_type="infer",
        logging_file=False,
        output_dir=str(output_dir),
        precision="bf16",
        **overrides,
    )
    workflow.initialize()
    workflow.run()
    with (output_dir / "evaluation.csv").open() as file:
        return list(csv.DictReader(file))


def test_held_back_source_cases_are_segmented_as_the_model_card_says(
    shared_data, repository, tmp_path
):
    dataset_dir = shared_data / "promise12"
    cases = list_cases(dataset_dir, labels=True, only=["RUNMC", "UCL"])
    _, held_back = split_cases(cases, held_back=5, seed=0)
    names = [case["case"] for case in held_back]
    rows = run_bundle(
        repository, tmp_path, dataset_dir=str(dataset_dir), only=names, recipe="source"
    )
    assert [row["case"] for row in rows] == names
    assert fmean(float(row["source_dice"]) for row in rows) >= IN_DOMAIN_DICE


def test_a_target_case_is_adapted_and_the_network_left_alone(shared_data, repository, tmp_path):
    recipe = {"base": "clinical", "precision": "bf16", "steps": 1}
    rows = run_bundle(
        repository,
        tmp_path,
        dataset_dir=str(shared_data / "promise12" / "BIDMC"),
        only=["Case00"],
        recipe=recipe,
    )
    record = json.loads((tmp_path / "Case00_record.json").read_text())
    assert record["weights"]["before"] == record["weights"]["restored"]
    assert record["outcome"] in ("adapted", "views")
    mask = nib.Nifti1Image.from_filename(tmp_path / "Case00_seg.nii.gz")
    image = nib.Nifti1Image.from_filename(
        shared_data / "promise12" / "BIDMC" / "images" / "Case00.nii.gz"
    )
    label = nib.Nifti1Image.from_filename(
        shared_data / "promise12" / "BIDMC" / "labels" / "Case00.nii.gz"
    )
    assert mask.shape == image.shape
    assert np.allclose(mask.affine, image.affine)
    one, two = np.asarray(mask.dataobj) > 0, np.asarray(label.dataobj) > 0
    dice = 2 * (one & two).sum() / (one.sum() + two.sum())
    assert float(rows[0]["adapted_dice"]) == pytest.approx(dice, abs=1e-4)
