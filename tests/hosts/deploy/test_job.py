"""What an operator does with a folder, without the SDK: the overlay's files, case by case."""

import json
from pathlib import Path

import pydicom
import pytest
from deploy_host import write_tree

from grata_monai import segment_dicom
from grata_monai.bundle import Bundle
from grata_monai.core.errors import BundleError, DatasetError, OutputError, WeightsError
from grata_monai.hosts.deploy.job import Job, find_bundle
from grata_monai.phantom import make_case
from grata_monai.phantom.dicom import write_series

pytestmark = pytest.mark.slow

TINY = {"spacing": [2.4, 2.4, 6.0], "roi_size": [48, 48, 8], "recipe": "source"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Two good series, one that lacks a slice, and a file that is no DICOM."""
    folder = tmp_path_factory.mktemp("tree")
    write_tree(folder)
    (folder / "notes.txt").write_text("no DICOM")
    return folder


@pytest.fixture
def bundle(repository) -> Path:
    return repository / "bundle"


@pytest.fixture
def open_job(tmp_path, bundle):
    def open_job(folder, *, bundle_dir=bundle, **settings):
        return Job(folder, tmp_path / "out", bundle_dir=bundle_dir, settings={**TINY, **settings})

    return open_job


def run(job):
    items = [job.segment(case) for case in job.list_cases()]
    written = [job.write(item) for item in items if item is not None]
    return written, job.finish()


def test_a_folder_gives_the_files_of_the_overlay(tree, tmp_path, bundle, open_job):
    expected = segment_dicom(tree, tmp_path / "overlay", bundle_dir=bundle, settings=TINY)
    written, done = run(open_job(tree))
    assert [folder.name for folder in written] == [result.name for result in expected.results]
    assert len(written) == 2
    for result in expected.results:
        one, two = (
            pydicom.dcmread(folder / result.name / "segmentation.dcm")
            for folder in (tmp_path / "out", tmp_path / "overlay")
        )
        assert one.PixelData == two.PixelData
        assert one.SOPInstanceUID == two.SOPInstanceUID
    refused = [(tmp_path / name / "refused.json").read_bytes() for name in ("out", "overlay")]
    assert refused[0] == refused[1]
    assert done.refusals == expected.refusals
    assert done.failures == ()


@pytest.mark.parametrize(
    ("kind", "also"), [("BINARY", ["measurements", "capture", "report"]), ("FRACTIONAL", [])]
)
def test_what_else_is_asked_for_is_written_too(kind, also, tree, open_job):
    (folder,), _ = run(open_job(tree / "good", dicom_output={"kind": kind, "also": also}))
    expected = {"segmentation.dcm", "record.json", *(f"{name}.dcm" for name in also)}
    assert {path.name for path in folder.iterdir()} == expected
    assert pydicom.dcmread(folder / "segmentation.dcm").SegmentationType == kind


def test_a_refusal_is_no_good_end_unless_it_is_allowed(tree, open_job):
    job = open_job(tree / "incomplete")
    assert job.list_cases() == []
    assert not job.has_ended_well()
    job = open_job(tree / "incomplete", allow_refused=["missing_slices"])
    assert job.list_cases() == []
    assert job.has_ended_well()
    job = open_job(tree / "incomplete", allow_refused=["localizer"])
    assert not job.has_ended_well()


def test_a_case_that_cannot_be_decoded_is_noted_and_the_others_go_on(
    tree, tmp_path, open_job, monkeypatch
):
    job = open_job(tree, allow_refused=True)
    first, second = job.list_cases()
    preprocess = job.bundle.preprocessing

    def fail_once(data):
        if data["case"] == first["case"]:
            raise RuntimeError("broken")
        return preprocess(data)

    monkeypatch.setattr(Bundle, "preprocessing", property(lambda bundle: fail_once))
    assert job.segment(first) is None
    folder = job.write(job.segment(second))
    assert (folder / "segmentation.dcm").is_file()
    done = job.finish()
    assert [failure.case for failure in done.failures] == [first["case"]]
    assert [result.name for result in done.results] == [second["case"]]
    assert not job.has_ended_well()


def test_a_case_whose_pixels_are_broken_is_a_refusal(tree, tmp_path, open_job):
    case = make_case(3, spacing=(2.4, 2.4, 6.0), spatial_shape=(48, 48, 8))
    files = write_series(tmp_path / "in", case.image, case.affine_ras)
    job = open_job(tmp_path / "in")
    (only,) = job.list_cases()
    files[2].unlink()
    assert job.segment(only) is None
    job.finish()
    (row,) = json.loads((tmp_path / "out" / "refused.json").read_text())["refused"]
    assert row["name"] == only["case"]
    assert not job.has_ended_well()


def test_a_folder_that_is_a_file_in_the_way_is_noted_for_its_case(tree, tmp_path, open_job):
    job = open_job(tree / "good")
    (case,) = job.list_cases()
    (tmp_path / "out" / case["case"]).write_text("in the way")
    assert job.write(job.segment(case)) is None
    (failure,) = job.finish().failures
    assert failure.reason == "OutputError"


def test_the_record_says_that_a_bundle_was_not_verified(tree, tmp_path, bundle):
    job = Job(tree / "good", tmp_path / "out", bundle_dir=bundle, settings=TINY, unverified=True)
    (folder,), done = run(job)
    (result,) = done.results
    assert result.folder == folder
    assert result.record.environment.bundle.is_verified is False


def test_a_changed_bundle_is_refused_before_anything_is_parsed(tree, tmp_path, bundle):
    changed = tmp_path / "bundle"
    for path in bundle.rglob("*"):
        if path.is_file() and "eval" not in path.parts and "training" not in path.parts:
            target = changed / path.relative_to(bundle)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (changed / "configs" / "inference.json").write_text("no JSON at all")
    with pytest.raises(BundleError, match=r"'configs/inference.json' differs"):
        Job(tree / "good", tmp_path / "out", bundle_dir=changed)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_a_folder_without_dicom_is_refused(folder, tmp_path, open_job):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"(dataset_dir must hold|path must exist)"):
        open_job(tmp_path / folder).list_cases()


def test_weights_that_do_not_fit_end_the_run_with_our_own_error(tree, open_job):
    job = open_job(tree / "good", **{"network_def#filters": [16, 32, 64, 128, 320]})
    (case,) = job.list_cases()
    with pytest.raises(WeightsError, match="the network's shapes"):
        job.segment(case)


def test_an_output_folder_that_cannot_be_written_is_refused_at_once(tree, tmp_path, open_job):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="output folder must be writable"):
        open_job(tree / "good")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"recpie": "source"}, "Did you mean 'recipe'"),
        ({"destination": "dicom://A@127.0.0.1:104"}, "that is yours to set, got 'destination'"),
        ({"output_dir": "elsewhere"}, "that is yours to set, got 'output_dir'"),
        ({"verified": {"is_verified": True}}, "a setting must not be 'verified'"),
    ],
)
def test_a_setting_that_would_change_nothing_or_too_much_is_refused(
    setting, message, tree, open_job
):
    with pytest.raises(ValueError, match=message):
        open_job(tree / "good", **setting)


def test_a_wrong_selection_is_a_value_error(tree, open_job):
    with pytest.raises(ValueError, match="modality"):
        open_job(tree / "good", selection={"modalty": ["MR"]}).list_cases()


def test_the_bundle_may_lie_in_the_folder_of_models(tmp_path, bundle):
    assert find_bundle(bundle) == bundle
    (tmp_path / "prostate").symlink_to(bundle)
    assert find_bundle(tmp_path) == tmp_path / "prostate"
    (tmp_path / "other").symlink_to(bundle)
    with pytest.raises(BundleError, match="has 2"):
        find_bundle(tmp_path)
    with pytest.raises(BundleError, match="has 0"):
        find_bundle(tmp_path / "missing")
