"""The command `deploy` before it reaches the SDK."""

import sys

import pytest

from grata_monai.cli import main


def test_a_missing_sdk_is_one_line_that_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "holoscan", None)  # also where the SDK is installed
    monkeypatch.delitem(sys.modules, "grata_monai.hosts.deploy.application", raising=False)
    assert main(["deploy", str(tmp_path), str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "pip install 'grata-monai[deploy,dicom]'" in captured.err
    assert not (tmp_path / "out").exists()


def test_help_names_the_variables_of_a_map(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["deploy", "--help"])
    out = capsys.readouterr().out
    for name in ("INPUT", "OUTPUT", "MODEL"):
        assert f"HOLOSCAN_{name}_PATH" in out.replace("\n", " ")
