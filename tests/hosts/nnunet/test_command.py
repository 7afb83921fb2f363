import argparse
import sys
from importlib.util import find_spec

import pytest
from nnunet_trained import write_trained

from grata_monai.cli import main
from grata_monai.hosts.nnunet.command import add_nnunet_options

PLACES = ["-i", "in", "-o", "out", "-m", "model"]


@pytest.fixture
def parse():
    parser = argparse.ArgumentParser()
    add_nnunet_options(parser)
    return lambda *options: parser.parse_args([*PLACES, *options])


def test_folds_are_taken_as_nnunet_takes_them(parse):
    assert parse("-f", "0", "3").folds == ["0", "3"]
    assert parse("-f", "all").folds == ["all"]
    assert parse().folds == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-f", "first"], "argument -f: must be a number or all, got 'first'"),
        (["--orientation", "RLA"], "argument --orientation: must be three letters such as RAS"),
    ],
)
def test_what_makes_no_sense_is_refused(parse, capsys, options, told):
    with pytest.raises(SystemExit, match="2"):
        parse(*options)
    assert told in capsys.readouterr().err


def test_an_orientation_may_be_written_small(parse):
    assert parse("--orientation", "ras").orientation == "RAS"


def test_a_window_must_step(capsys):
    assert main(["nnunet", *PLACES, "-step_size", "0"]) == 2
    assert "step_size must lie in (0, 1], got 0" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("nnunetv2") is not None, reason="nnU-Net is installed here")
def test_without_nnunet_its_extra_is_named(capsys, tmp_path, monkeypatch):
    for name in ("hosts.nnunet.run", "nnunet.predictor"):
        # pytest's search for doctests leaves what it could not import
        monkeypatch.delitem(sys.modules, f"grata_monai.{name}", raising=False)
    places = [
        "-i",
        str(tmp_path),
        "-o",
        str(tmp_path / "out"),
        "-m",
        str(write_trained(tmp_path / "model")),
    ]
    assert main(["nnunet", *places, "--device", "cpu"]) == 2
    assert "pip install 'grata-monai[nnunet]'" in capsys.readouterr().err
