"""Any bundle of the zoo's forms can be compared and calibrated, with labels given as folders."""

import json

import nibabel
import numpy as np
import pytest
from zoo_bundles import FORMS

from grata_monai.bundle.wrap import wrap_bundle
from grata_monai.cli import main
from grata_monai.core.errors import DatasetError, RecipeError, WeightsError
from grata_monai.experiments.harness.opening import open_bench

pytestmark = pytest.mark.slow

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

    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    network = open_bench(bundle, settings={"device#name": "cpu"}).network
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


def test_a_checkpoint_that_is_not_there_or_does_not_fit_is_named(bundle):
    import torch

    path = bundle / "models" / "model.pt"
    torch.save({"other": torch.ones(1)}, path)
    with pytest.raises(WeightsError, match=r"'model.pt' does not load .*Missing key"):
        open_bench(bundle, settings={"device#name": "cpu"})
    path.unlink()
    with pytest.raises(
        WeightsError, match=r"'model.pt' does not load \(FileNotFoundError: No such"
    ):
        open_bench(bundle, settings={"device#name": "cpu"})


def test_a_case_that_its_network_cannot_take_is_named_with_the_reason(bundle):
    voxels = np.zeros((8, 8, 8, 4), np.float32)  # four channels for a network of one
    nibabel.nifti1.save(nibabel.nifti1.Nifti1Image(voxels, np.eye(4)), bundle / "four.nii.gz")
    bench = open_bench(bundle, settings={"device#name": "cpu"})
    with pytest.raises(DatasetError, match=r"'four' does not: RuntimeError: .*to have 1 channels"):
        bench.prepare({"case": "four", "image": str(bundle / "four.nii.gz")})
