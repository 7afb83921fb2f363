"""Several processes write the rows that one would have written."""

from functools import partial

import pytest
from tiny_bench import BUNDLE, Ending, open_tiny

from grata_monai.cli import main
from grata_monai.core.errors import NetworkError
from grata_monai.experiments.calibrate.candidates import make_candidates
from grata_monai.experiments.calibrate.search import run_candidates
from grata_monai.experiments.harness.devices import open_in_turn, run_on_devices
from grata_monai.experiments.harness.run import read_rows, run_methods
from grata_monai.methods.registry import System, make_systems
from grata_monai.spread import Workers

pytestmark = pytest.mark.slow


def scores(rows):
    return {(row.method, row.case): (row.dice, row.refusal) for row in rows}


def test_two_processes_write_what_one_writes(cases, tmp_path):
    methods = make_systems(["tent", "sar", "mirror", "medbn"])  # online, episodic, refused
    alone = list(run_methods(methods, cases, open_tiny("cpu"), tmp_path / "one"))
    runs = run_on_devices(methods, cases, open_tiny, ["cpu"], tmp_path / "two", workers=Workers(2))
    both = list(runs)
    assert len(both) == len(methods) * len(cases)
    assert repr(sorted(scores(both).items())) == repr(sorted(scores(alone).items()))
    assert scores(read_rows(tmp_path / "two")).keys() == scores(both).keys()


def test_a_process_that_ends_early_is_an_error_that_says_how_to_go_on(cases, tmp_path):
    ending = {"ending": System(Ending())}
    runs = run_on_devices(ending, cases, open_tiny, ["cpu"], tmp_path, workers=Workers(2))
    with pytest.raises(NetworkError, match="Start again with the same --out"):
        list(runs)


def test_the_command_takes_several_devices_and_refuses_a_missing_one(
    folder, cases, tmp_path, capsys
):
    given = ["compare", f"--cases=north={folder}", "--only", cases[0]["case"]]
    given += ["--network", str(BUNDLE), "--methods", "source", "--against", "tent"]
    given += ["--out", str(tmp_path / "out"), "--device"]
    assert main([*given, "cpu", "cuda:99"]) == 2
    assert "device must exist on this machine" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*given, "cpu", "cpu"]) == 0
    report = capsys.readouterr().out
    assert "## all, against tent" in report
    assert "device: cpu, cpu" in report


def test_candidates_of_a_calibration_have_the_same_rows_from_workers(cases, tmp_path):
    candidates = make_candidates({"flip": {"focus_views": [], "steps": 0}}, "clinical")
    shifts = ["none", "gamma_low"]
    alone, crew = (
        run_candidates(candidates, cases, bench, tmp_path / name, shifts=shifts, crew=who)
        for name, bench, who in (
            ("one", open_tiny(), None),
            ("two", open_tiny(), (partial(open_in_turn, open_tiny, ["cpu"]), Workers(2))),
        )
    )
    one, two = (
        {(shift, row.method, row.case): row.dice for shift, row in x} for x in (alone, crew)
    )
    assert two == one
    assert len(one) == 8
