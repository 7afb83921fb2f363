"""nnU-Net v2: trained here for a few batches, then alone against ours, in its own environment."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from grata_monai.record import Record

REPOSITORY = Path(__file__).resolve().parents[2]
VENV = REPOSITORY / ".venv-nnunet"
SUPPORT = REPOSITORY / "tests" / "support"
NOT_INSTALLED = "no .venv-nnunet; run `make nnunet-env`"

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # the first test trains and runs everything
    pytest.mark.skipif(not (VENV / ".installed").exists(), reason=NOT_INSTALLED),
]


def run(program, *arguments, first=()):
    """Run a program of tests/support in nnU-Net's environment."""
    path = os.pathsep.join(map(str, [*first, REPOSITORY]))
    settings = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "nnUNet_def_n_proc": "1"}
    done = subprocess.run(
        [VENV / "bin" / "python", "-W", "ignore", SUPPORT / f"{program}.py", *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Trained and untrained networks, and what all commands made of them."""
    folder = tmp_path_factory.mktemp("nnunet")
    run("nnunet_folder", folder)
    run("nnunet_session", folder)
    return folder


@pytest.fixture(scope="module")
def said(folder):
    return json.loads((folder / "said.json").read_text())


def read_mask(path):
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)


def read_record(folder, run, case="one"):
    return Record.from_json((folder / "out" / run / f"{case}_record.json").read_text())


@pytest.fixture(scope="module", params=["", "oldest_"], ids=["newest", "oldest"])
def version(request, folder) -> str:
    """What the runs of a version of nnU-Net are named with; all networks are of the newest."""
    if request.param and not (folder / "oldest.json").exists():
        run("nnunet_session", folder, "--oldest", first=[VENV / "oldest"])
        said = json.loads((folder / "oldest.json").read_text())
        assert {each["status"] for each in said.values()} == {0}
    return request.param


@pytest.mark.parametrize(
    ("run", "cases"),
    [("source", ["one", "two"]), ("regions", ["one"]), ("plane", ["good"]), ("total", ["one"])],
)
def test_the_source_network_gives_the_bytes_of_nnunet(folder, version, run, cases):
    for case in cases:
        ours, theirs = (
            folder / place / f"{version}{run}" / f"{case}.nii.gz" for place in ("out", "native")
        )
        assert ours.read_bytes() == theirs.read_bytes()
        assert read_mask(ours).any()


def test_the_record_names_the_version(folder, version):
    said = read_record(folder, f"{version}source").environment.bundle.version
    assert said == f"folds 0 1, nnunetv2 {'2.6.0' if version else '2.8.1'}"


def test_nnunets_own_program_adapts_with_our_predictor(folder, version):
    ours, theirs = (
        folder / place / f"{version}moving" / "one.nii.gz" for place in ("out", "native")
    )
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(("run", "count"), [("moving", 256), ("folds", 512)])
def test_adaptation_moves_the_norm_layers_of_every_fold_and_leaves_no_trace(
    folder, version, run, count
):
    record = read_record(folder, f"{version}{run}")
    assert record.outcome == "adapted"
    assert record.parameters.count == count
    assert record.steps[0].update_norm > 0
    assert record.weights.after != record.weights.before == record.weights.restored
    assert record.environment.bundle.name == "Dataset900_Balls 3d_fullres"


def test_a_series_gets_the_same_mask_by_every_version(folder, version):
    (file,) = (folder / "out" / f"{version}dicom").glob("*/segmentation.dcm")
    (newest,) = (folder / "out" / "dicom").glob("*/segmentation.dcm")
    found, expected = (pydicom.dcmread(each).pixel_array for each in (file, newest))
    assert found.any()
    np.testing.assert_array_equal(found, expected)


def test_views_follow_the_mirroring_of_training(folder):
    assert read_record(folder, "views").views.prediction == ("identity", "flip:2")
    total = read_record(folder, "total")
    assert total.outcome == "source"
    assert "no mirrored views" in total.reason
    assert total.verdict.light == "amber"


def test_a_mask_has_its_record_and_page(folder):
    for run, case in (("plane", "good"), ("regions", "one"), ("total", "one")):
        assert (folder / "out" / run / "report" / f"{case}.html").is_file()
    assert list((folder / "out" / "dicom" / "report").glob("series_*.html"))
    names = {path.name for path in (folder / "out" / "folds").iterdir()}
    assert names == {"one.nii.gz", "one_record.json", "index.html", "report"}
    assert (folder / "out" / "folds" / "report" / "one.html").is_file()
    written = json.loads((folder / "out" / "folds" / "one_record.json").read_text())["output"]
    assert written["file"] == "one.nii.gz"


def test_what_is_done_is_not_done_again(said):
    assert "2 segmented" in said["source"]["out"]
    assert "0 segmented, 2 done before" in said["again"]["out"]


def test_a_case_that_fails_is_named_and_the_others_go_on(said, folder):
    assert said["plane"]["status"] == 1
    assert "1 segmented, 3 failed" in said["plane"]["out"]
    for line in (
        "broken: failed: UnreadableImageError",
        "single: failed: ChannelError",
        "unlike: failed: GeometryError",
    ):
        assert line in said["plane"]["err"]
    assert str(folder) not in said["plane"]["err"]
    assert (folder / "out" / "plane" / "good.nii.gz").is_file()


def test_a_cascade_is_refused_with_the_reason(said):
    assert said["cascade"]["status"] == 2
    assert "second stage of a cascade: it needs the masks of '3d_lowres'" in said["cascade"]["err"]


def test_dicom_is_refused_for_several_channels(said):
    assert said["mixed"]["status"] == 2
    assert "must take one channel where DICOM series are given" in said["mixed"]["err"]


def test_methods_are_compared_by_the_masks_that_nnunet_makes(said, folder):
    assert said["compare"]["status"] == 0
    assert "| grata-views | 2 |" in said["compare"]["out"]
    labels = folder / "nnUNet_raw" / "Dataset900_Balls" / "labelsTr"
    for case in ("case_0", "case_1"):
        row = json.loads((folder / "compared" / "rows" / "source" / f"{case}.json").read_text())
        mask = read_mask(folder / "native" / "labelled" / f"{case}.nii.gz")
        label = read_mask(labels / f"{case}.nii.gz")
        dice = [
            2 * ((mask == v) & (label == v)).sum() / ((mask == v).sum() + (label == v).sum())
            for v in (1, 2)
        ]
        assert row["dice"] == pytest.approx(np.mean(dice), abs=1e-6)
        assert 0 < row["dice"] < 1
    assert {"report.md", "best.png"} <= {path.name for path in (folder / "compared").iterdir()}


def test_a_recipe_and_a_profile_are_calibrated_and_taken(said, folder):
    assert said["calibrate"]["status"] == 0
    assert "Made of 5 cases" in said["calibrate"]["out"]
    overlay = json.loads((folder / "chosen.json").read_text())
    assert set(overlay) == {"recipe", "profile"}
    assert said["chosen"]["status"] == 0
    record = read_record(folder, "chosen")
    assert record.shift is not None
    assert 0 <= record.shift.percentile <= 100
    assert "predicted Dice" in record.reason


def test_a_setting_that_an_nnunet_does_not_have_is_refused(said):
    assert said["strange"]["status"] == 2
    assert "got 'fold'. Did you mean 'folds'?" in said["strange"]["err"]


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="no dcm2niix")
def test_a_series_gets_the_mask_that_its_conversion_by_dcm2niix_gets(folder):
    (file,) = (folder / "out" / "dicom").glob("*/segmentation.dcm")
    found = pydicom.dcmread(file)
    assert [segment.SegmentLabel for segment in found.SegmentSequence] == ["ball", "core"]
    mask = read_mask(folder / "out" / "nifti" / "series.nii.gz")
    stack = mask[:, ::-1].transpose(2, 1, 0)  # dcm2niix turns the rows upside down
    assert stack.any()
    count = len(stack)
    for frame, item in zip(found.pixel_array, found.PerFrameFunctionalGroupsSequence, strict=True):
        number = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        place = round(item.PlanePositionSequence[0].ImagePositionPatient[2] / 2)
        assert 0 <= place < count
        np.testing.assert_array_equal(frame, stack[place] == number)
