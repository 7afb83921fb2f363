"""Any MONAI bundle can be wrapped, and the wrapped bundle adapts."""

import json
import re
import subprocess
import sys

import pytest
from monai.bundle import ConfigParser
from zoo_bundles import make_bundle

from grata_monai import Record
from grata_monai.bundle.forms import read_activation
from grata_monai.bundle.wrap import wrap_bundle
from grata_monai.cli import main
from grata_monai.core.errors import BundleError, NetworkError, RecipeError

KERNELS = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
COMMON = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
NETWORKS = {
    "UNet with BatchNorm": (
        {"_target_": "UNet", **COMMON, "channels": [4, 8], "strides": [2], "norm": "batch"},
        ("norm",),
    ),
    "UNet with InstanceNorm without affine": (
        {"_target_": "UNet", **COMMON, "channels": [4, 8], "strides": [2]},
        ("adapters",),
    ),
    "DynUNet": ({"_target_": "DynUNet", **COMMON, **KERNELS, "filters": [4, 8, 8]}, ("norm",)),
    "SegResNet": ({"_target_": "SegResNet", **COMMON, "init_filters": 8}, ("norm",)),
    "BasicUNet": ({"_target_": "BasicUNet", **COMMON, "features": [4] * 6}, ("norm",)),
    "SwinUNETR": (
        {"_target_": "SwinUNETR", **COMMON, "feature_size": 12, "depths": [1, 1, 1, 1]},
        ("norm",),
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "SwinUNETR" else n for n in NETWORKS]
)
def test_a_wrapped_bundle_adapts_to_its_case(name, tmp_path):
    network, groups = NETWORKS[name]
    roi_size = [64, 64, 32] if name == "SwinUNETR" else [32, 32, 32]
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": roi_size}
    bundle = make_bundle(tmp_path / "bundle", network, inferer=inferer)
    overlay = tmp_path / "overlay.json"
    report = wrap_bundle(
        bundle, overlay, recipe={"base": "clinical", "min_cosine": None, "focus_views": []}
    )
    assert report.groups == groups
    assert report.count > 0
    parser = ConfigParser()
    parser.read_config([str(report.config_file), str(overlay)])
    parser.get_parsed_content("evaluator").run()
    record = Record.from_json((bundle / "eval" / "one_record.json").read_text())
    assert record.outcome == "adapted"
    assert record.parameters.groups == tuple(groups)
    assert record.parameters.count == report.count
    assert any(step.update_norm > 0 for step in record.steps)
    assert record.weights.before == record.weights.restored != record.weights.after
    assert (bundle / "eval" / "one" / "one_trans.nii.gz").exists()


@pytest.mark.slow
@pytest.mark.parametrize("run_id", ["inference", "run", "evaluating"])
def test_the_printed_command_runs(tmp_path, capsys, run_id):
    others = {name: None for name in ("inference", "run", "evaluating") if name != run_id}
    changes = {**others, run_id: ["$@evaluator.run()"], "bundle_root": "."}
    bundle = make_bundle(tmp_path / "bundle", NETWORKS["DynUNet"][0], **changes)
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    drop = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda pred: pred.as_tensor()"}
    config["postprocessing"]["transforms"].append(drop)  # with its meta data, the record's carrier
    path.write_text(json.dumps(config))
    overlay = tmp_path / "overlay.json"
    assert main(["wrap", str(bundle), "--out", str(overlay), "--recipe", "paper"]) == 0
    printed = capsys.readouterr().out
    assert "what will move:       norm" in printed
    command = printed.strip().splitlines()[-1]
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    record = Record.from_json((bundle / "eval" / "one_record.json").read_text())
    assert record.recipe["name"] == "paper"
    assert re.search(rf"^one +{record.outcome} ", done.stderr.decode(), re.MULTILINE)


def test_an_inferer_inside_the_evaluator_is_wrapped_where_it_stands(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", NETWORKS["DynUNet"][0])
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["evaluator"]["inferer"] = config.pop("inferer")
    config["evaluator"]["amp"] = True
    path.write_text(json.dumps(config))
    report = wrap_bundle(bundle, tmp_path / "overlay.json")
    overlay = json.loads((tmp_path / "overlay.json").read_text())
    wrapped = overlay["evaluator#inferer"]
    assert wrapped["_target_"] == "grata_monai.GraTaInferer"
    assert wrapped["inferer"]["roi_size"] == [32, 32, 32]
    assert overlay["evaluator#amp"] is False
    assert wrapped["precision"] == "fp16"
    assert any("amp is off" in note for note in report.notes)


def test_an_argmax_alone_says_softmax():
    argmax = {"_target_": "monai.transforms.AsDiscreted", "keys": "pred", "argmax": "@is_whole"}
    config = {"is_whole": True, "postprocessing": {"_target_": "Compose", "transforms": [argmax]}}
    assert read_activation(config) == "softmax"
    assert read_activation(config | {"is_whole": False}) == ""
    assert read_activation({}) == ""


@pytest.mark.parametrize("name", ["sigmoid", "softmax"])
def test_the_activation_is_that_of_the_bundles_postprocessing(tmp_path, name):
    steps = [{"_target_": "Activationsd", "keys": "pred", name: True}]
    postprocessing = {"_target_": "Compose", "transforms": steps}
    network = {**NETWORKS["DynUNet"][0], "out_channels": 3}
    bundle = make_bundle(tmp_path / "bundle", network, postprocessing=postprocessing)
    report = wrap_bundle(bundle, tmp_path / "overlay.json")
    overlay = json.loads((tmp_path / "overlay.json").read_text())
    assert overlay["inferer"]["activation"] == name
    assert not any("Activationsd" in note for note in report.notes)


def test_where_no_activation_is_named_a_note_says_what_is_assumed(tmp_path):
    postprocessing = {"_target_": "Compose", "transforms": []}
    bundle = make_bundle(tmp_path / "bundle", NETWORKS["DynUNet"][0], postprocessing=postprocessing)
    report = wrap_bundle(bundle, tmp_path / "overlay.json")
    assert report.activation == "softmax"
    assert any("taken for softmax" in note for note in report.notes)


@pytest.mark.parametrize("is_on", [True, False])
def test_amp_may_be_a_reference(tmp_path, is_on):
    bundle = make_bundle(tmp_path / "bundle", NETWORKS["DynUNet"][0], amp=is_on)
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["evaluator"]["amp"] = "@amp"
    path.write_text(json.dumps(config))
    wrap_bundle(bundle, tmp_path / "overlay.json")
    overlay = json.loads((tmp_path / "overlay.json").read_text())
    assert overlay["inferer"].get("precision") == ("fp16" if is_on else None)


def test_a_network_of_the_bundles_own_code_is_built_and_the_command_finds_it(tmp_path):
    bundle = make_bundle(tmp_path / "my bundle", NETWORKS["DynUNet"][0])
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text()) | {"network_def": {"_target_": "own_network.Own"}}
    path.write_text(json.dumps(config))
    (bundle / "own_network.py").write_text(
        "from torch import nn\n"
        "class Own(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))\n"
    )
    report = wrap_bundle(bundle, tmp_path / "overlay.json")
    assert report.network == "Own"
    assert f"PYTHONPATH='{bundle}'${{PYTHONPATH:+:$PYTHONPATH}} " in report.command
    assert str(bundle) not in sys.path


def test_a_bundle_that_cannot_be_run_is_refused_and_nothing_is_written(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", NETWORKS["DynUNet"][0], run=None, inference=None)
    with pytest.raises(NetworkError, match="must define one of inference, run, evaluating"):
        wrap_bundle(bundle, tmp_path / "overlay.json")
    assert not (tmp_path / "overlay.json").exists()


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"must hold configs/inference.json"):
        wrap_bundle(tmp_path, tmp_path / "overlay.json")


def test_a_bundle_without_an_evaluator_is_refused_and_nothing_is_written(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", NETWORKS["DynUNet"][0], inferer=None, evaluator={})
    with pytest.raises(NetworkError, match="must run an evaluator of one network"):
        wrap_bundle(bundle, tmp_path / "overlay.json")
    assert not (tmp_path / "overlay.json").exists()


def test_an_unknown_recipe_is_refused(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", NETWORKS["DynUNet"][0])
    with pytest.raises(RecipeError, match="Did you mean 'paper'"):
        wrap_bundle(bundle, tmp_path / "overlay.json", recipe="papper")
