"""One case, four hosts, one result: MONAI bundle run, MONAI Label, MONAI Deploy, plain Python.

The same voxels go in as NIfTI and as a DICOM series. MONAI Deploy takes DICOM alone.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import deploy_host
import highdicom as hd
import label_server
import nibabel as nib
import numpy as np
import pydicom
import pytest
from label_server import make_tiny_bundle, running_label

from grata_monai import segment
from grata_monai.phantom import make_case
from grata_monai.phantom.dicom import stored_volume, write_series
from grata_monai.record import Record

pytestmark = [pytest.mark.hosts, pytest.mark.slow]
NEEDS = {"label": label_server, "deploy": deploy_host}
SPACING, SHAPE = (2.4, 2.4, 6.0), (48, 48, 8)  # one window of the network
QUICK = {
    "base": "clinical",
    "name": "quick",
    "steps": 2,
    "windows": 1,
    "focus_views": ["identity", "scale:1.33:0,1"],
    "search_views": [],
    "source_below": 0.0,
}


@dataclass(frozen=True)
class Given:
    """What every host gets.

    Attributes:
        bundle: On a coarse grid, with a quick recipe.
        nifti: A file.
        series: A folder with the same voxels.
        folder: For what hosts write.
    """

    bundle: Path
    nifti: Path
    series: Path
    folder: Path


@dataclass(frozen=True)
class Got:
    """What a host gave: the mask's bytes as (x, y, z) of the series, and what its record says."""

    sha256: str
    weights: dict[str, str]
    steps: list[dict[str, object]]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosts")
    case = make_case(5, shift="endorectal_coil", spacing=SPACING, spatial_shape=SHAPE)
    write_series(folder / "series", case.image, case.affine_ras)
    voxels, affine = stored_volume(case.image, case.affine_ras)
    image = nib.Nifti1Image(voxels.astype(np.float32), affine)
    image.set_sform(affine, code=1)
    nib.save(image, folder / "case.nii.gz")
    # the profile is of the full grid, where nobody would adapt this case
    settings = {"spacing": list(SPACING), "roi_size": list(SHAPE), "recipe": QUICK, "profile": None}
    bundle = make_tiny_bundle(folder / "bundle", **settings)
    return Given(bundle, folder / "case.nii.gz", folder / "series", folder)


@pytest.fixture(scope="module")
def label(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("label")
    shutil.copytree(given.series, folder / "studies" / given.series.name)
    shutil.copy(given.nifti, folder / "studies")  # it reads nothing beside its studies
    with running_label(folder, bundle=given.bundle) as server:
        yield server


def to_got(mask, record):
    assert mask.any()
    assert record["outcome"] == "adapted"
    content = np.ascontiguousarray(mask, dtype=np.uint8).tobytes()
    return Got(hashlib.sha256(content).hexdigest(), record["weights"], record["steps"])


def read_dicom(out, series):
    """Read the segmentation, frame by frame of the series, from feet to head."""
    (folder,) = (path.parent for path in out.glob("*/segmentation.dcm"))
    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in series.iterdir()]
    sources.sort(key=lambda source: source.ImagePositionPatient[2])
    frames = hd.seg.segread(folder / "segmentation.dcm").get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in sources], combine_segments=True
    )
    return to_got(frames.transpose(2, 1, 0), json.loads((folder / "record.json").read_text()))


def ask_bundle_run(given, path, *more):
    """Run the command of the README, in a process of its own."""
    is_dicom = path.is_dir()
    names = ["inference", "dicom"] if is_dicom else ["inference"]
    configs = [str(given.bundle / "configs" / f"{name}.json") for name in names]
    out = given.folder / "_".join(["run", path.name, *more])
    command = ["monai.bundle", "run", "inference", "--config_file", str(configs)]
    command += ["--dataset_dir", str(path), "--output_dir", str(out), *more]
    subprocess.run(
        [sys.executable, "-m", *command],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if is_dicom:
        return read_dicom(out, path)
    mask = np.asarray(nib.Nifti1Image.from_filename(out / "case_seg.nii.gz").dataobj)
    return to_got(mask, json.loads((out / "case_record.json").read_text()))


def ask_plain(given, path, **settings):
    done = segment(path, bundle_dir=given.bundle, recipe=QUICK, settings=settings)
    return to_got(done.mask, json.loads(done.record.to_json()))


def ask_label(server, path, **options):
    extension = "" if path.is_dir() else ".nii.gz"
    studied = server.folder / "studies" / path.name
    answer = server.segment(studied, result_extension=extension, **options)
    return to_got(answer.mask, json.loads(Record.from_json(json.dumps(answer.record)).to_json()))


def ask_deploy(given, path, **settings):
    out = given.folder / "_".join(["deploy", *settings])
    done = deploy_host.run_deploy(path, out, bundle_dir=given.bundle, settings=settings)
    assert done.status == 0, done.err
    return read_dicom(done.folder, path)


@pytest.fixture(scope="module")
def expected(given):
    """What `python -m monai.bundle run` gives for each kind of input."""
    return {path.name: ask_bundle_run(given, path) for path in (given.nifti, given.series)}


def test_a_series_gives_the_bytes_of_the_same_voxels_in_nifti(given, expected):
    assert expected[given.nifti.name] == expected[given.series.name]


@pytest.mark.parametrize("host", ["plain", "label", "deploy"])
@pytest.mark.parametrize("kind", ["nifti", "series"])
def test_every_host_gives_the_bytes_of_bundle_run(given, expected, request, kind, host):
    if host in NEEDS and not NEEDS[host].is_installed():
        pytest.skip(NEEDS[host].NOT_INSTALLED)
    path = getattr(given, kind)
    if host == "label":
        got = ask_label(request.getfixturevalue("label"), path)
    elif host == "plain":
        got = ask_plain(given, path)
    elif path.is_dir():
        got = ask_deploy(given, path)
    else:
        pytest.skip("MONAI Deploy takes DICOM alone")
    assert got == expected[path.name]


@pytest.fixture(scope="module")
def with_tent(given):
    """What `--method tent` gives: TENT adapts, under the guard, and the record says so."""
    return ask_bundle_run(given, given.series, "--method", "tent")


def test_tent_is_another_method_than_grata(with_tent, expected, given):
    (step,) = with_tent.steps
    assert step["loss"] > 0
    assert step["cosine"] is None
    assert with_tent.weights["after"] != expected[given.series.name].weights["after"]


@pytest.mark.parametrize("host", ["plain", "label", "deploy"])
def test_every_host_runs_tent_as_bundle_run_does(given, with_tent, request, host):
    if host in NEEDS and not NEEDS[host].is_installed():
        pytest.skip(NEEDS[host].NOT_INSTALLED)
    if host == "label":
        got = ask_label(request.getfixturevalue("label"), given.series, method="tent")
    else:
        ask = {"plain": ask_plain, "deploy": ask_deploy}[host]
        got = ask(given, given.series, method="tent")
    assert got == with_tent
