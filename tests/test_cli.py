import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pydicom
import pytest

from grata_monai.cli import _COMMANDS, main
from grata_monai.core.errors import DatasetError
from grata_monai.phantom import make_case
from grata_monai.phantom.dicom import SeriesOptions, write_series
from grata_monai.read.dicom.load import read_volume
from grata_monai.read.dicom.triage import triage


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


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_describes_itself_and_knows_what_it_runs(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert f"usage: grata-monai {name}" in capsys.readouterr().out


def test_no_command_is_refused_with_the_usage(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "usage: grata-monai" in capsys.readouterr().err


def test_an_unknown_option_is_refused_with_the_nearest(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["phantom", "--out", str(tmp_path), "--case", "3"])
    told = "every option must be known, got --case. Did you mean --cases?"
    assert told in capsys.readouterr().err


def test_an_unknown_command_is_refused_with_the_nearest(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["segmnt"])
    assert "got 'segmnt'. Did you mean segment?" in capsys.readouterr().err


def test_one_argument_too_many_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["phantom", "--out", str(tmp_path), "more"])
    assert "there must be no further argument, got 'more'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["segment", "--help"]])
def test_help_imports_no_framework(arguments):
    program = (
        "import sys\nfrom grata_monai.cli import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_is_one_line(tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("grata_monai.phantom.write_cases", stop)
    assert main(["phantom", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "stopped\n"


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


def test_triage_reports_every_volume_and_writes_it_without_uids(tmp_path, capsys):
    case = make_case(0, spacing=(4.0, 4.0, 6.0), spatial_shape=(32, 32, 8))
    files = write_series(tmp_path / "good", case.image, case.affine_ras)
    write_series(tmp_path / "bad", case.image, case.affine_ras, options=SeriesOptions(seed=1))
    (tmp_path / "bad" / "0004.dcm").unlink()
    assert main(["triage", str(tmp_path), "--json", str(tmp_path / "found.json")]) == 0
    out = capsys.readouterr().out
    assert out.endswith("1 accepted, 1 refused\n")
    (line,) = (line for line in out.splitlines() if "missing_slices" in line)
    (refused,) = triage(tmp_path).rejections
    assert refused.message in line
    assert refused.remedy in line
    text = (tmp_path / "found.json").read_text()
    assert json.loads(text)
    assert pydicom.dcmread(files[0]).SeriesInstanceUID not in text


def test_phantoms_are_written_as_series_of_studies_of_their_own(tmp_path, monkeypatch):
    def write(folder, **_):
        paths = []
        for seed in (4, 5):
            case = make_case(seed, spacing=(4.0, 4.0, 6.0), spatial_shape=(32, 32, 8))
            paths.append((folder / f"case_{seed}.nii.gz", folder / "label"))
            nib.save(nib.Nifti1Image(case.image, case.affine_ras), paths[-1][0])
        return paths

    monkeypatch.setattr("grata_monai.phantom.write_cases", write)
    arguments = ["--cases", "2", "--seed", "4", "--dicom"]
    assert main(["phantom", "--out", str(tmp_path), *arguments]) == 0
    volumes = triage(tmp_path / "series").volumes
    assert len({volume.study_uid for volume in volumes}) == 2
    image = nib.Nifti1Image.from_filename(tmp_path / "case_4.nii.gz")
    (volume,) = triage(tmp_path / "series" / "case_4").volumes
    voxels = read_volume(volume)
    assert np.allclose(voxels.affine, image.affine, atol=1e-4)
    assert np.abs(voxels[0].numpy() - np.asarray(image.dataobj)).max() <= 0.5


def test_a_missing_library_is_one_line_that_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "grata_monai.read.dicom.triage", None)
    with pytest.raises(ModuleNotFoundError):
        main(["triage", str(tmp_path)])

    def miss(*_, **__):
        raise ModuleNotFoundError("No module named 'pydicom'", name="pydicom.dataset")

    monkeypatch.setattr("grata_monai.phantom.write_cases", miss)
    assert main(["phantom", "--out", str(tmp_path)]) == 2
    assert "pip install 'grata-monai[dicom]'" in capsys.readouterr().err
