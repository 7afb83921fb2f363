"""A calibration or comparison that is killed loses, halves and mixes nothing, and goes on."""

import json
import os
import shutil
from math import nan

import pytest
from crash import fork_until_done, kill_at_byte, kill_at_call

from grata_monai.adapt.profile import SourceProfile
from grata_monai.experiments.calibrate.choose import Choice, Scores
from grata_monai.experiments.calibrate.fit import Fit
from grata_monai.experiments.calibrate.report import write_choice
from grata_monai.experiments.harness import run as module
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.run import Row, read_rows, run_methods
from grata_monai.methods.registry import make_systems
from grata_monai.write.commit import claim

KILLS = pytest.mark.parametrize(
    ("kill", "points"),
    [(kill_at_call, range(1, 199)), (kill_at_byte, range(8, 40000, 200))],
    ids=["call", "byte"],
)
NAMES = {"site.json", "site_profile.json", "site.md", "site.html", "mine.txt"}


def calibrate(folder, monkeypatch, value):
    """Write what a calibration writes, all with one value in it."""
    from grata_monai.experiments.calibrate import report

    profile = SourceProfile("0" * 64, value, {}, (1.0,))
    fit = object.__new__(Fit)
    object.__setattr__(fit, "profile", profile)
    object.__setattr__(fit, "name", "source")
    monkeypatch.setattr(report, "_describe", lambda *_: f"# {value}\n")
    monkeypatch.setattr(report, "describe_fit", lambda _: "")
    monkeypatch.setattr(report, "_to_recipe", lambda *_: {"steps": value})
    choice = Choice("source", nan, nan, nan, nan, (), {}, 0.0, 0.0, 0)
    scores = object.__new__(Scores)
    write_choice(choice, scores, {}, folder / "site.json", facts={}, refused={}, fit=fit)


def read_recipe(folder):
    """Value of the recipe and of all that it names; None without a recipe."""
    if not (folder / "site.json").exists():
        return None
    overlay = json.loads((folder / "site.json").read_text())
    value = overlay["recipe"]["steps"]
    assert SourceProfile.read(overlay["profile"]).cases == value
    assert (folder / "site.md").read_text() == f"# {value}\n"
    assert f"<title>{value}" in (folder / "site.html").read_text()
    return value


@pytest.mark.slow
@KILLS
def test_recipe_profile_and_report_are_replaced_as_one(tmp_path, monkeypatch, kill, points):
    out, seen = tmp_path / "out", []

    def before():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        (out / "mine.txt").write_text("mine")
        calibrate(out, monkeypatch, 1)

    def check():
        assert read_recipe(out) in (None, 1, 2)  # also before anything is put right
        with claim(out):  # as the next calibration does before anything else
            pass
        assert {*os.listdir(out)} == NAMES
        seen.append(read_recipe(out))

    killed = fork_until_done(
        kill, lambda: calibrate(out, monkeypatch, 2), points, check=check, before=before
    )
    assert killed > 10
    assert seen == sorted(seen)
    assert {*seen} == {1, 2}


@pytest.mark.slow
@KILLS
def test_rows_are_whole_and_a_run_that_was_killed_ends_as_one_that_was_not(
    tmp_path, monkeypatch, bench, cases, kill, points
):
    ran = []

    def work():
        return [*run_methods(make_systems(["source"]), cases[:1], bench, tmp_path / "out")]

    def run(name, system, case, *_):
        ran.append((name, case["case"]))
        return Row(name, case["case"], case["centre"], dice=0.25, reason="x" * 999)

    def check():
        left = read_rows(tmp_path / "out")
        ran.clear()
        rows = work()
        assert [(row.case, row.dice) for row in rows] == [(c["case"], 0.25) for c in cases[:1]]
        assert len(ran) + len(left) == len(rows)  # what was whole is not computed again
        assert len(read_rows(tmp_path / "out")) == len(rows)
        assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {
            f"{cases[0]['case']}.json"
        }

    monkeypatch.setattr(module, "_run", run)
    monkeypatch.setattr(Bench, "prepare", lambda *_, **__: None)
    killed = fork_until_done(
        kill,
        work,
        points,
        check=check,
        before=lambda: shutil.rmtree(tmp_path / "out", ignore_errors=True),
    )
    assert killed > 5
