"""Any weights and any setting from the command line, the same for every experiment."""

import argparse
import hashlib
import re

import pytest
import torch
from tiny_bench import BUNDLE

from grata_monai.bundle import open_bundle
from grata_monai.cli import main
from grata_monai.experiments.harness.options import add_network_options
from grata_monai.experiments.harness.run import read_rows

pytestmark = pytest.mark.slow

COARSE = ["--set", "spacing=[2.4, 2.4, 6.0]", "--set", "roi_size=[48,48,8]"]
SMALL = {
    "network_def#filters": [4, 4, 4, 4, 4],
    "network_def#norm_name": ["batch", {}],
}
SET_SMALL = [part for id, value in SMALL.items() for part in ("--set", f"{id}={value}")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of a small network with batch normalisation."""
    path = tmp_path_factory.mktemp("weights") / "S_BN.pt"
    torch.manual_seed(0)
    network = open_bundle(BUNDLE, settings=SMALL).get("network_def")
    torch.save(network.state_dict(), path)
    return path


def run(command, folder, out, *more):
    given = [f"--cases=north={folder}", "--only", "case3", "--network", BUNDLE, "--out", out]
    return main([command, *map(str, given), "--device", "cpu", *map(str, more)])


def test_compare_runs_other_weights_in_another_network(folder, weights, tmp_path, capsys):
    more = ["--weights", weights, *COARSE, *SET_SMALL, "--set", "precision=bf16"]
    methods = ["--methods", "source", "prediction_time_bn"]
    assert run("compare", folder, tmp_path / "out", *more, *methods) == 0
    report = capsys.readouterr().out
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert f"- weights: S_BN.pt, not of the bundle; SHA-256 {digest}\n" in report
    assert "- precision of predictions: bf16\n" in report
    assert re.search(r"- bundle: manifest [0-9a-f]{64}\n", report)  # still verified
    assert [row.refusal for row in read_rows(tmp_path / "out")] == ["", ""]  # batch normalisation


def test_calibrate_chooses_for_these_weights(folder, weights, tmp_path, capsys):
    candidates = tmp_path / "candidates.json"
    candidates.write_text('{"flip": {"focus_views": [], "steps": 0}}')
    more = ["--weights", weights, *COARSE, *SET_SMALL, "--candidates", candidates]
    out = tmp_path / "recipe.json"
    assert run("calibrate", folder, out, *more, "--only", "case3", "case4", "--shifts", "none") == 0
    assert "- weights: S_BN.pt, not of the bundle; SHA-256 " in capsys.readouterr().out


def test_benchmark_takes_them_in_place_of_training(volumes, weights, tmp_path, capsys):
    more = ["--weights", weights, *SET_SMALL, "--set", "network#network=@network_def"]
    layers = {"kernel_size": [[3, 3, 1]] * 2 + [[3] * 3] * 3, "out_channels": 2}
    layers |= {"strides": [[1, 1, 1], [2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]]}
    layers |= {"upsample_kernel_size": [[2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]]}
    for id, value in layers.items():
        more += ["--set", f"network_def#{id}={value}"]
    more += ["--methods", "source", "--cases", "1", "--shifts", "none"]
    places = ["--data", volumes, "--network", BUNDLE, "--out", tmp_path, "--device", "cpu"]
    assert main(["benchmark", "hippocampus", *map(str, [*places, *more])]) == 0
    assert "- weights: S_BN.pt, not of the bundle" in capsys.readouterr().out
    assert len(read_rows(tmp_path / "batch")) == 2
    assert not list(tmp_path.rglob("model.pt"))


@pytest.mark.parametrize("command", ["compare", "calibrate"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "spacin=[1,1,1]"], "got 'spacin'. Did you mean 'spacing'?"),
        (["--set", "network_deff#norm_name=batch"], "Did you mean 'network_def'?"),
        (["--set", "network_def#norm_nam=batch"], "Did you mean 'norm_name'?"),
        (["--set", "spacing"], "--set must be ID=VALUE"),
        (["--set", "device#name=cpu"], "Use --device"),
        (["--set", "device=cpu"], "Use --device"),
        (["--weights", "gone.pt"], "weights must be a readable file, 'gone.pt' is not: No such"),
        (["--weights", str(BUNDLE / "LICENSE")], "must be a state dict that loads with"),
        (["--set", "network_def#norm_name=['batch',{}]"], "exactly the network's keys"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    command, options, message, folder, tmp_path, capsys
):
    assert run(command, folder, tmp_path / "out.json", *options) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_package_s_bundle_is_found_from_any_folder(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    add_network_options(parser)
    assert parser.parse_args([]).network.samefile(BUNDLE)
    (tmp_path / "mine").mkdir()
    assert str(parser.parse_args(["--network", "mine"]).network) == "mine"
    with pytest.raises(SystemExit):
        parser.parse_args(["--network", "typo"])
    assert "argument --network: must be a folder, 'typo' is none." in capsys.readouterr().err
