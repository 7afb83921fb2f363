"""Experiments on toy data: what is trained, calibrated and compared, and that nothing mixes."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from toy_data import SIZE, blob

from grata_monai.adapt.network import hash_weights
from grata_monai.cli import main
from grata_monai.core.errors import DatasetError
from grata_monai.experiments.calibrate.profile import make_profile, observe
from grata_monai.experiments.calibrate.report import write_overlay
from grata_monai.experiments.harness.opening import open_bench
from grata_monai.experiments.harness.options import WEIGHTS
from grata_monai.experiments.reproduce.fundus import fundus
from grata_monai.experiments.reproduce.hippocampus import hippocampus
from grata_monai.experiments.reproduce.promise12 import promise12
from grata_monai.experiments.reproduce.run import Options, run_part
from grata_monai.experiments.reproduce.train import load_labels, train_network

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Colour images of two hospitals, 32 pixels wide."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for centre in ("DrishtiGS_Madurai", "DRIONS_Zaragoza"):
        for kind in ("images", "labels"):
            (root / centre / kind).mkdir(parents=True)
        for number in range(26):
            image, label = blob((32, 32), rng)
            colour = np.stack([image, image / 2, image / 4], -1).astype(np.uint8)
            Image.fromarray(colour).save(root / centre / "images" / f"{number:02}.png")
            Image.fromarray(label).save(root / centre / "labels" / f"{number:02}.png")
    return root


def make_options(repository, methods=(), **settings):
    return Options(
        bundle_dir=repository / "bundle",
        methods=methods,
        settings=settings,
        device="cpu",
        seed=0,
        facts={},
    )


def shrink(part):
    """A network and an augmentation that take seconds."""
    dims = part.settings["network_def"]["spatial_dims"]
    network = {
        **part.settings["network_def"],
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 6, 8],
    }
    augment = [{"_target_": "EnsureTyped", "keys": ["image", "label"], "track_meta": False}]
    more = {"roi_size": list(SIZE)} if dims == 3 else {}
    return replace(
        part,
        settings={**part.settings, "network_def": network, **more},
        training_settings={
            **part.training_settings,
            "augment": augment,
            "max_epochs": 2,
            "num_workers": 0,
            "training#dataset#num_workers": 0,
        },
        candidates={"flip": {"focus_views": [], "steps": 0}},
        calibration_shifts=["none", "gamma_low"],
    )


@pytest.mark.parametrize(("make", "data"), [(hippocampus, "volumes"), (fundus, "photographs")])
def test_no_case_is_used_twice(make, data, request):
    parts = make(request.getfixturevalue(data), cases=3, shifts=["none"], seed=0)
    assert len(parts) == 2
    for part in parts:
        groups = [part.training, part.calibration, part.tests]
        names = [case["case"] for group in groups for case in group]
        assert len(set(names)) == len(names)
        assert all(groups)
        assert list(part.source) == list(part.training)
        assert {case["centre"] for case in part.tests} > {"source"}


def test_a_part_is_trained_calibrated_and_compared_once(volumes, repository, tmp_path):
    part = hippocampus(volumes, cases=1, shifts=["none", "gamma_high"], seed=0)[0]
    part = shrink(replace(part, training=part.training[:4], calibration=part.calibration[:2]))
    methods = ["source", "ttt", "shape_moments", "grata-calibrated"]
    options = make_options(repository, methods)
    rows = run_part(part, tmp_path, options)
    assert {(row.method, row.centre) for row in rows} == {
        (method, centre) for method in methods for centre in ("source", "gamma_high", "group_uint8")
    }
    assert len(rows) == 4 * 3
    assert not any(row.refusal for row in rows)
    recipe = json.loads((tmp_path / "calibration.json").read_text())["recipe"]
    assert recipe == "source" or recipe["base"] == "clinical"

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    times = {path: path.stat().st_mtime_ns for path in files}
    assert repr(run_part(part, tmp_path, options)) == repr(rows)
    assert {path: path.stat().st_mtime_ns for path in files} == times


@pytest.mark.parametrize(("make", "data"), [(hippocampus, "volumes"), (fundus, "photographs")])
def test_a_calibrated_recipe_sees_its_source_profile(make, data, repository, tmp_path, request):
    part = make(request.getfixturevalue(data), cases=1, shifts=["none"], seed=0)[0]
    part = shrink(replace(part, training=part.training[:4], calibration=part.calibration[:3]))
    options = make_options(repository, ["source", "grata-calibrated"])
    weights = train_network(part, repository / "bundle", tmp_path, device="cpu", seed=0)
    settings = {**part.settings, WEIGHTS: str(weights), "device#name": "cpu"}
    bench = open_bench(repository / "bundle", settings=settings)
    profile = make_profile([observe(case, bench) for case in part.calibration], "")
    profile = replace(profile, weights=hash_weights(bench.network), home_below=1e9)
    write_overlay({"recipe": "views"}, profile, tmp_path / "calibration.json")
    rows = run_part(part, tmp_path, options)
    calibrated = [row for row in rows if row.method == "grata-calibrated"]
    assert [row.kept for row in calibrated] == ["source"] * len(calibrated)
    assert all(0 <= row.shift <= 100 for row in calibrated)
    assert all(math.isnan(row.shift) for row in rows if row.method == "source")


def test_training_teaches_and_is_repeatable(photographs, repository, tmp_path):
    part = shrink(fundus(photographs, cases=2, shifts=["none"], seed=0)[0])
    settings = {**part.training_settings, "max_epochs": 200, "heads": []}
    part = replace(
        part,
        training_settings=settings,
        calibration=(),
        training=part.training[:4],
        settings={k: v for k, v in part.settings.items() if k != "network#network"},
    )
    bundle = repository / "bundle"
    one, two = (train_network(part, bundle, tmp_path / n, device="cpu", seed=1) for n in "ab")
    states = [torch.load(path, weights_only=True) for path in (one, two)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    rows = run_part(part, tmp_path / "a", make_options(repository, ["source"]))
    assert {row.centre for row in rows} == {"source", "DRIONS_Zaragoza"}
    assert np.mean([row.dice for row in rows]) > 0.8  # a bright ball on dark ground


def test_labels_of_the_source_lie_on_the_networks_grid(volumes, repository):
    part = hippocampus(volumes, cases=2, shifts=["none"], seed=0)[0]
    part = replace(part, settings={**part.settings, "spacing": [2.0, 2.0, 2.0]})
    labels = load_labels(replace(part, source=part.source[:1]), repository / "bundle")
    assert [tuple(label.shape) for label in labels] == [(1, 1, 8, 8, 8)]
    assert set(labels[0].unique().tolist()) == {0, 1, 2}


def test_missing_data_are_named(tmp_path):
    (tmp_path / "DrishtiGS_Madurai" / "images").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"must hold \.png images"):
        fundus(tmp_path, cases=1, shifts=["none"], seed=0)
    Image.new("RGB", (8, 8)).save(tmp_path / "DrishtiGS_Madurai" / "images" / "a.png")
    with pytest.raises(DatasetError, match=r"'a\.png' has none"):
        fundus(tmp_path, cases=1, shifts=["none"], seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cases", "0"], "cases must be at least 1"),
        (["--shifts", "blurr"], "shifts must be among none"),
        ([], "dataset_dir must exist"),
    ],
)
def test_wrong_options_leave_nothing_behind(options, message, tmp_path, capsys):
    out = tmp_path / "out"
    places = ["--data", str(tmp_path / "none"), "--out", str(out)]
    assert main(["benchmark", "hippocampus", *places, *options]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.realdata
def test_the_cases_of_promise12_are_those_that_training_held_back(shared_data):
    (part,) = promise12(shared_data / "promise12", cases=20, shifts=["none"], seed=0)
    own = {case["case"] for case in part.tests if case["centre"] == "source"}
    assert own == {"Case13", "Case19", "Case25", "Case27", "Case33"}
    assert not own & {case["case"] for case in part.source}
    assert sum(case["centre"] == "HK" for case in part.tests) == 6
    assert part.training == ()
