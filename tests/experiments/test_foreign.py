"""Any bundle of the zoo's forms can be compared and calibrated, with labels given as folders."""

import json

import nibabel
import numpy as np
import pytest
from zoo_bundles import FORMS

from grata_monai.bundle.wrap import wrap_bundle
from grata_monai.cli import main
from grata_monai.core.errors import RecipeError

CANDIDATES = {"mirrored": {"steps": 1, "focus_views": ["identity"], "search_views": []}}


@pytest.fixture
def bundle(tmp_path):
    bundle = FORMS["spleen-like"].make(tmp_path / "bundle")
    (bundle / "labels").mkdir()
    image = nibabel.nifti1.load(bundle / "data" / "one.nii.gz")
    label = (np.asarray(image.dataobj) > 0.5).astype(np.uint8)
    for name in ("one", "two"):
        nibabel.nifti1.save(image, bundle / "data" / f"{name}.nii.gz")
        marked = nibabel.nifti1.Nifti1Image(label, image.affine)
        nibabel.nifti1.save(marked, bundle / "labels" / f"{name}.nii.gz")
    return bundle


@pytest.fixture
def cases(bundle):
    return ["--images", str(bundle / "data"), "--labels", str(bundle / "labels"),
            "--network", str(bundle)]  # fmt: skip


def test_methods_are_compared_on_it(cases, tmp_path, capsys):
    out = tmp_path / "compared"
    assert main(["compare", *cases, "--out", str(out), "--methods", "source", "tent"]) == 0
    assert "| tent |" in capsys.readouterr().out
    row = json.loads((out / "rows" / "tent" / "one.json").read_text())
    assert row["refusal"] == ""
    assert 0 < row["dice"] < 1


def test_a_recipe_is_calibrated_for_it_and_wrap_takes_what_was_written(cases, bundle, tmp_path):
    candidates, out = tmp_path / "candidates.json", tmp_path / "recipe.json"
    candidates.write_text(json.dumps(CANDIDATES))
    arguments = ["--out", str(out), "--candidates", str(candidates), "--shifts", "none"]
    assert main(["calibrate", *cases, *arguments]) == 0
    out.write_text(json.dumps({"recipe": {"base": "clinical", "steps": 1}, "profile": "p.json"}))
    wrap_bundle(bundle, tmp_path / "overlay.json", recipe=str(out))
    overlay = json.loads((tmp_path / "overlay.json").read_text())
    assert overlay["inferer"]["recipe"] == {"base": "clinical", "steps": 1}
    assert overlay["inferer"]["profile"] == "p.json"


def test_a_file_that_holds_no_recipe_is_refused(bundle, tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(RecipeError, match="must be a name or a file of settings"):
        wrap_bundle(bundle, tmp_path / "overlay.json", recipe=str(tmp_path / "other.json"))


def test_its_checkpoint_is_loaded(bundle):
    import torch

    from grata_monai.experiments.harness.opening import open_bench

    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    network = open_bench(bundle, settings={"device#name": "cpu"}).network
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
