"""Against a real PACS: what is pushed comes back equal, byte for byte and voxel for voxel."""

import hashlib
import subprocess
import sys

import highdicom as hd
import numpy as np
import pydicom
import pytest
from orthanc import is_installed, running_orthanc

from grata_monai.cli import main
from grata_monai.core.errors import TransferError
from grata_monai.phantom.dicom import SeriesOptions, stored_volume
from grata_monai.read.dicom.load import read_volume
from grata_monai.read.dicom.triage import triage
from grata_monai.transfer.commitment import Commitment
from grata_monai.transfer.exchange import fetch, send

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_installed(), reason="no Orthanc (apt-get install orthanc orthanc-dicomweb)"
    ),
]
TINY = {"spacing": [4.0, 4.0, 6.0], "roi_size": [32, 32, 8], "recipe": "source"}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


def where(path, server, *, has_series=True):
    """The address of a file's series, or of its whole study."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    series = f"&series={header.SeriesInstanceUID}" if has_series else ""
    return f"{server.web_address}?study={header.StudyInstanceUID}{series}"


@pytest.mark.parametrize("way", ["store_address", "web_address"])
def test_a_series_comes_back_voxel_by_voxel(pacs, make_files, volume, tmp_path, way):
    seed = 10 if way == "store_address" else 11
    files = make_files(seed=seed)
    send(files, getattr(pacs, way))
    fetched = fetch(where(files[0], pacs), tmp_path / "back")
    assert (fetched.series, fetched.instances) == (1, len(files))
    (found,) = triage(tmp_path / "back").volumes
    image = read_volume(found)
    voxels, affine = stored_volume(*volume, options=SeriesOptions(seed=seed))
    assert np.array_equal(image[0].numpy(), voxels)
    assert np.allclose(image.affine, affine, atol=1e-6)


def test_what_stow_stored_comes_back_byte_for_byte(pacs, make_files, tmp_path):
    files = make_files(seed=12)
    send(files, pacs.web_address)
    fetch(where(files[0], pacs), tmp_path / "back")

    def pixels(paths):
        datasets = map(pydicom.dcmread, paths)
        return {d.SOPInstanceUID: hashlib.sha256(d.PixelData).digest() for d in datasets}

    assert pixels(path for path in (tmp_path / "back").iterdir()) == pixels(files)


def test_a_segmentation_goes_the_whole_way(pacs, make_files, repository, tmp_path):
    files = make_files(seed=13)
    send(files, pacs.store_address)
    configs = [str(repository / "bundle" / "configs" / f"{n}.json") for n in ("inference", "dicom")]
    settings = {
        **TINY,
        "config_file": configs,
        "source": where(files[0], pacs),
        "destination": pacs.web_address,
        "output_dir": tmp_path / "out",
    }
    arguments = [f"--{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "monai.bundle", "run", "inference", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    (sent,) = (tmp_path / "out").glob("*/segmentation.dcm")
    header = pydicom.dcmread(files[0])
    for secret in (header.StudyInstanceUID, header.SeriesInstanceUID, str(header.PatientName)):
        said = (done.stdout + done.stderr).replace(settings["source"], "")  # MONAI logs its input
        assert secret not in said
    for _ in range(2):  # a repeated send is harmless
        assert send([sent], pacs.web_address).instances == 1
        assert send([sent], pacs.store_address).instances == 1
    assert fetch(where(sent, pacs), tmp_path / "back").instances == 1
    (back,) = (tmp_path / "back").iterdir()
    ours, theirs = (hd.seg.segread(path) for path in (sent, back))
    assert ours.SOPInstanceUID == theirs.SOPInstanceUID
    one, two = (s.get_volume(combine_segments=True) for s in (ours, theirs))
    assert np.array_equal(one.array, two.array)
    assert np.allclose(one.affine, two.affine)
    study = fetch(where(sent, pacs, has_series=False), tmp_path / "study")
    assert (study.series, study.instances) == (2, len(files) + 1)


def test_two_runs_and_two_sends_are_as_many_instances_as_one(
    pacs, make_files, repository, tmp_path
):
    files = make_files(seed=17)
    configs = [str(repository / "bundle" / "configs" / f"{n}.json") for n in ("inference", "dicom")]
    before = pacs.ask("statistics")
    for run in ("one", "two"):
        settings = {
            **TINY,
            "config_file": configs,
            "dataset_dir": files[0].parent,
            "output_dir": tmp_path / run,
            "dicom_output#also": ["measurements", "rtstruct"],
        }
        arguments = [f"--{key}={value}" for key, value in settings.items()]
        command = [sys.executable, "-m", "monai.bundle", "run", "inference", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        assert send([tmp_path / run], pacs.web_address).instances == 3
        assert send([tmp_path / run], pacs.store_address).instances == 3
    after = pacs.ask("statistics")
    counts = [after[f"Count{what}"] - before[f"Count{what}"] for what in ("Series", "Instances")]
    assert counts == [3, 3]


def test_it_commits_to_keeping_what_it_got(pacs, make_files):
    commitment = Commitment(reply=f"127.0.0.1:{pacs.reply_port}")
    report = send(make_files(seed=14), pacs.store_address, commitment=commitment)
    assert report.commitment == "committed"


def test_a_title_that_it_does_not_know_is_refused(pacs, make_files):
    with pytest.raises(TransferError, match="title"):
        send(make_files(seed=15), pacs.store_address.replace("ORTHANC", "OTHER"))


def test_the_command_line_sends_and_fetches(pacs, make_files, tmp_path, capsys):
    files = make_files(seed=16)
    assert main(["send", *map(str, files), "--destination", pacs.store_address]) == 0
    assert "stored 8 instance(s)" in capsys.readouterr().out
    source = where(files[0], pacs)
    assert main(["fetch", "--source", source, "--out", str(tmp_path / "back")]) == 0
    assert "fetched 8 instance(s) of 1 series" in capsys.readouterr().out
    reply = ["--commitment", f"127.0.0.1:{pacs.reply_port}"]
    assert main(["send", str(files[0]), "--destination", pacs.store_address, *reply]) == 0
    assert "storage commitment: committed" in capsys.readouterr().out
    arguments = ["send", str(files[0]), "--destination", pacs.store_address, "--commitment"]
    assert main(arguments) == 2  # nobody listens where it reports to
    assert "All 1 instance(s) are stored" in capsys.readouterr().err
    unknown = f"{pacs.web_address}?study=1.2.3"
    assert main(["fetch", "--source", unknown, "--out", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()
