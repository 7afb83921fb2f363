"""Every form in which the zoo's bundles are written: wrapped, run as printed, mask and record."""

import ast
import contextlib
import json
import re
import shlex
import sys

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow
from zoo_bundles import FORMS, SCRIPTS, make_bundle, render_table

from grata_monai import Record
from grata_monai.bundle.wrap import wrap_bundle
from grata_monai.core.errors import NetworkError

pytestmark = pytest.mark.slow

QUICK = {"base": "clinical", "steps": 1, "windows": 1, "focus_views": [], "min_cosine": None}


def run_printed(command, monkeypatch):
    """Run a printed command in this process, from the folder that the test is in."""
    words = shlex.split(command)
    options = words[words.index("run") :]
    files = ast.literal_eval(options[options.index("--config_file") + 1])
    given = {"bundle_root": options[-1]} if "--bundle_root" in options else {}
    where = contextlib.nullcontext()
    if words[0] == "cd":
        where = contextlib.chdir(words[1])
    for word in words:
        if word.startswith("PYTHONPATH="):
            monkeypatch.syspath_prepend(word.removeprefix("PYTHONPATH=").split("$")[0])
    with where:
        workflow = ConfigWorkflow(config_file=files, run_id=options[1], **given)
        workflow.initialize()
        workflow.run()
        workflow.finalize()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Work in a folder that is not the bundle's, and forget its modules afterwards."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[name]


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("name", FORMS)
def test_what_the_table_says_is_true(name, tmp_path, monkeypatch):
    form = FORMS[name]
    bundle = form.make(tmp_path / "bundle")
    if form.result == "refused":
        with pytest.raises(NetworkError, match=form.why):
            wrap_bundle(bundle, "overlay.json", recipe=QUICK)
        return
    report = wrap_bundle(bundle, "overlay.json", recipe=QUICK)
    assert (str(report.outputs), report.activation) == tuple(form.output.split(", ")[:2])
    run_printed(report.command, monkeypatch)
    record = Record.from_json((bundle / "eval" / "one_record.json").read_text())
    assert f"{record.outcome}: {' + '.join(record.parameters.groups)}" == form.result
    mask = nibabel.nifti1.load(next((bundle / "eval" / "one").glob("one_trans*")))
    image = nibabel.nifti1.load(bundle / "data" / "one.nii.gz")
    assert mask.shape[:3] == image.shape
    np.testing.assert_allclose(mask.affine, image.affine)


def test_the_documentation_shows_the_table(repository):
    page = (repository / "docs" / "reference" / "wrapped-networks.md").read_text()
    assert render_table() in page, "write what zoo_bundles.render_table() says into the page"


def read_mirroring(bundle):
    wrap_bundle(bundle, bundle / "overlay.json", recipe=QUICK)
    overlay = json.loads((bundle / "overlay.json").read_text())
    return overlay["inferer"].get("mirroring")


def test_sides_are_read_by_name_and_mirror_images_from_the_training(tmp_path):
    plain = FORMS["sided labels"].make(tmp_path / "plain")
    assert read_mirroring(plain) == {"pairs": [[1, 2]], "side_axis": 0}
    trained = FORMS["sided labels, training mirrored axis 1"].make(tmp_path / "trained")
    assert read_mirroring(trained) == {"axes": [1]}


def test_training_without_mirror_images_is_believed_too(tmp_path):
    bundle = FORMS["spleen-like"].make(tmp_path / "bundle")
    steps = [{"_target_": "RandShiftIntensityd", "keys": "image", "offsets": 0.1}]
    (bundle / "configs" / "train.json").write_text(json.dumps({"train": steps}))
    assert read_mirroring(bundle) == {"axes": []}


def test_the_side_axis_is_that_of_the_orientation(tmp_path):
    metadata = {"network_data_format": {"outputs": {"pred": {"channel_def": {
        "0": "background", "1": "lung, Left", "2": "lung, Right"}}}}}  # fmt: skip
    network = {**FORMS["spleen-like"].network, "out_channels": 3}
    orientation = {"_target_": "Orientationd", "keys": "image", "axcodes": "SPR", "labels": None}
    bundle = make_bundle(
        tmp_path / "bundle", network, metadata=metadata, preprocessing=[orientation]
    )
    assert read_mirroring(bundle) == {"pairs": [[1, 2]], "side_axis": 2}


def test_z_scores_are_spared_the_strong_view_that_rescales(tmp_path):
    normalise = {"_target_": "NormalizeIntensityd", "keys": "image"}
    network = FORMS["spleen-like"].network
    bundle = make_bundle(tmp_path / "bundle", network, preprocessing=[normalise])
    report = wrap_bundle(bundle, tmp_path / "overlay.json", recipe="paper")
    overlay = json.loads((tmp_path / "overlay.json").read_text())
    assert overlay["inferer"]["recipe"] == {
        "name": "paper",
        "base": "paper",
        "strong_view": "mild",
    }
    assert any("'mild' takes its place" in note for note in report.notes)


def test_a_configuration_of_any_name_that_begins_with_inference_is_found(tmp_path):
    bundle = FORMS["spleen-like"].make(tmp_path / "bundle")
    configs = bundle / "configs"
    (configs / "inference.json").rename(configs / "inference_v2.yaml")  # JSON is YAML
    report = wrap_bundle(bundle, tmp_path / "overlay.json", recipe=QUICK)
    assert report.config_file.name == "inference_v2.yaml"


def test_a_network_that_this_monai_cannot_build_is_refused_with_the_first_reason(tmp_path):
    bundle = FORMS["spleen-like"].make(tmp_path / "bundle")
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"]["img_size"] = [96, 96, 96]  # as SwinUNETR had until MONAI 1.5
    path.write_text(json.dumps(config))
    (bundle / "configs" / "metadata.json").write_text('{"monai_version": "1.4.0"}')
    with pytest.raises(
        NetworkError, match=r"TypeError: .*'img_size'.*made for MONAI 1\.4\.0, here"
    ):
        wrap_bundle(bundle, tmp_path / "overlay.json")


def test_an_auto3dseg_algorithm_is_refused_with_what_would_work(tmp_path):
    (tmp_path / "segresnet_0" / "configs").mkdir(parents=True)
    (tmp_path / "segresnet_0" / "scripts").mkdir()
    (tmp_path / "segresnet_0" / "scripts" / "infer.py").write_text("")
    with pytest.raises(NetworkError, match=r"Auto3DSeg algorithm.*Export its network"):
        wrap_bundle(tmp_path / "segresnet_0", tmp_path / "overlay.json")


def test_without_a_root_in_the_configuration_its_own_folder_is_where_paths_begin(
    tmp_path, elsewhere, monkeypatch
):
    form = FORMS["spleen-like"]
    bundle = make_bundle(tmp_path / "bundle", form.network, dataset_dir="data", output_dir="eval")
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    del config["bundle_root"]
    config["handlers"][0]["load_path"] = "models/model.pt"
    path.write_text(json.dumps(config))
    report = wrap_bundle(bundle, "overlay.json", recipe=QUICK)
    assert report.command.startswith(f"cd {bundle} && ")
    run_printed(report.command, monkeypatch)
    assert (bundle / "eval" / "one_record.json").exists()


def test_settings_of_an_ensemble_are_refused(tmp_path):
    engine = {"_target_": "EnsembleEvaluator", "networks": []}
    bundle = make_bundle(tmp_path / "bundle", FORMS["spleen-like"].network, evaluator=engine)
    with pytest.raises(NetworkError, match=r"one network.*Wrap each network"):
        wrap_bundle(bundle, tmp_path / "overlay.json")


def test_scripts_of_the_corpus_hold_every_network_that_it_names():
    names = {f.network["_target_"].rsplit(".", 1)[-1] for f in FORMS.values() if f.files}
    defined = set(re.findall(r"class (\w+)", SCRIPTS["scripts/networks.py"]))
    assert names & defined == names - {"ClassPrompts", "UNet"}
