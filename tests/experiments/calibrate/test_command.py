"""Calibration from the command line, on two tiny phantoms and the bundle's network."""

import json

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

from grata_monai import CLINICAL, resolve_recipe
from grata_monai.adapt.profile import SourceProfile
from grata_monai.cli import main
from grata_monai.phantom import make_case

pytestmark = pytest.mark.slow

TINY = {"spacing": [2.4, 2.4, 6.0], "roi_size": [48, 48, 8]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two labelled phantoms."""
    return make_folder(tmp_path_factory.mktemp("cases"), (1, 2))


def make_folder(root, seeds):
    for seed in seeds:
        case = make_case(seed, spacing=(2.4, 2.4, 6.0), spatial_shape=(64, 64, 12))
        for kind, voxels in (("images", case.image), ("labels", case.label)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, case.affine_ras), root / kind / f"p{seed}.nii.gz")
    return root


@pytest.fixture
def calibrate(repository, folder, monkeypatch):
    """Run the command on a coarse grid; returns the exit status."""
    from grata_monai.experiments.harness import opening as module

    original = module.open_bench
    monkeypatch.setattr(
        module,
        "open_bench",
        lambda path, *, settings, **more: original(path, settings={**settings, **TINY}, **more),
    )

    def run(*more, cases=folder):
        places = [] if cases is None else ["--cases", f"source={cases}"]
        places += ["--network", str(repository / "bundle")]
        return main(["calibrate", *places, *map(str, more)])

    return run


def test_it_writes_a_recipe_that_the_bundle_takes_and_a_report(
    calibrate, repository, tmp_path, capsys
):
    candidates = tmp_path / "candidates.json"
    grid = {"flip": {"focus_views": [], "steps": 0}, "one": {"focus_views": [], "steps": 1}}
    candidates.write_text(json.dumps(grid))
    out = tmp_path / "recipe.json"
    options = ["--out", out, "--candidates", candidates, "--shifts", "none", "gamma_low"]
    assert calibrate(*options) == 0
    report = (tmp_path / "recipe.md").read_text()
    assert report in capsys.readouterr().out
    for text in ("| flip |", "| one |", "| gamma_low |", "Chosen: **", "left out"):
        assert text in report
    parser = ConfigParser()
    parser.read_config([str(repository / "bundle/configs/inference.json"), str(out)])
    recipe = resolve_recipe(parser.get_parsed_content("recipe"))
    assert recipe.guard.calibrated_for == CLINICAL.guard.calibrated_for  # this bundle's
    rows = sorted((tmp_path / "recipe").rglob("*.json"))
    assert len(rows) == 2 * 3 * 2  # shifts, methods, cases

    times = [path.stat().st_mtime_ns for path in rows]
    assert calibrate(*options) == 0
    assert [path.stat().st_mtime_ns for path in rows] == times  # what is done stays done
    dice = {path: json.loads(path.read_text())["dice"] for path in rows}
    assert np.isfinite(list(dice.values())).all()
    without = [d for p, d in dice.items() if "none" in p.parts]
    assert without != [d for p, d in dice.items() if "gamma_low" in p.parts]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "recipe.txt"], "out must be a .json file"),
        (["--out", "r.json", "--shifts", "blurr"], "shifts must be among none"),
        (["--out", "r.json", "--base", "clinicl"], "Did you mean 'clinical'"),
        (["--out", "r.json", "--candidates", "missing.json"], "must be a readable .json file"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    calibrate, options, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert calibrate(*options) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_candidates_must_be_named_settings(calibrate, tmp_path, capsys):
    path = tmp_path / "candidates.json"
    path.write_text("[1]")
    assert calibrate("--out", tmp_path / "r.json", "--candidates", path) == 2
    assert "an object of names to settings" in capsys.readouterr().err


@pytest.mark.parametrize("views", [["identity", "scale:1.3:0,1"], []])
def test_with_four_cases_the_overlay_names_a_fitted_profile(
    calibrate, repository, views, tmp_path, capsys
):
    cases = make_folder(tmp_path / "cases", (1, 2, 3, 4))
    candidates = tmp_path / "candidates.json"
    candidates.write_text(json.dumps({"two": {"focus_views": views, "steps": int(not views)}}))
    out = tmp_path / "recipe.json"
    options = ["--out", out, "--candidates", candidates, "--shifts", "none"]
    assert calibrate(*options, cases=cases) == 0
    told = capsys.readouterr().out
    assert "fitted to **two**, the recipe written" in told
    assert "does NOT hold: too few cases" in told
    overlay = json.loads(out.read_text())
    profile = SourceProfile.read(overlay["profile"])
    assert (profile.cases, profile.weights) == (4, CLINICAL.guard.calibrated_for)
    assert set(profile.models) == {"plain", "kept", "mirrored"}
    assert profile.models["kept"].compares_views == bool(views)
    assert overlay["recipe"]["focus_views"] == views


def test_images_without_labels_make_a_profile_alone(calibrate, tmp_path, capsys):
    images = make_folder(tmp_path / "cases", (1, 2, 3)) / "images"
    out = tmp_path / "profile.json"
    assert calibrate("--out", out, "--observe", f"here={images}", cases=None) == 0
    assert "A profile of 3 cases." in capsys.readouterr().out
    overlay = json.loads(out.read_text())
    assert list(overlay) == ["profile"]
    profile = SourceProfile.read(overlay["profile"])
    assert profile.cases == 3
    assert not profile.is_fitted
    assert profile.organ is None
    assert profile.home_below > 0
