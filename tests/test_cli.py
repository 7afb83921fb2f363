import subprocess
import sys

import pytest

from grata_monai.cli import main
from grata_monai.errors import DatasetError


def run_module(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "grata_monai", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_module_runs_as_a_program():
    done = run_module("--version")
    assert done.returncode == 0
    assert done.stdout == "0.1.0\n"


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "phantom" in capsys.readouterr().out


def test_no_command_is_refused_with_the_usage(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "usage: python -m grata_monai" in capsys.readouterr().err


def test_phantom_reports_as_many_cases_as_it_wrote(tmp_path, capsys):
    folder = tmp_path / "cases"
    assert main(["phantom", "--out", str(folder), "--cases", "1"]) == 0
    images = list((folder / "images").iterdir())
    assert capsys.readouterr().out == f"wrote {len(images)} cases to {folder}\n"


def test_phantom_hands_on_what_was_asked_for(tmp_path, monkeypatch, capsys):
    asked = {}

    def write_cases(folder, *, cases, shift, seed):
        asked.update(folder=folder, cases=cases, shift=shift, seed=seed)
        return []

    monkeypatch.setattr("grata_monai.phantom.write_cases", write_cases)
    main(["phantom", "--out", str(tmp_path), "--cases", "3", "--shift", "bias", "--seed", "7"])
    assert asked == {"folder": tmp_path, "cases": 3, "shift": "bias", "seed": 7}


def test_an_unknown_shift_is_one_line_on_stderr(tmp_path, capsys):
    assert main(["phantom", "--out", str(tmp_path), "--shift", "no-such-shift"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert "no-such-shift" in captured.err


@pytest.mark.parametrize("error", [DatasetError("no\n  case"), ValueError("no\n  case")])
def test_a_refusal_is_one_line_and_exit_status_2(error, tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("grata_monai.phantom.write_cases", refuse)
    assert main(["phantom", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: no case\n"
