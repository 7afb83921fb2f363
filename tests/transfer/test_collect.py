"""Of a folder of results, what finished cases name is sent, and nothing else."""

import json
import logging
import shutil

import pydicom
import pytest

from grata_monai.core.errors import DatasetError
from grata_monai.transfer.collect import collect_files
from grata_monai.transfer.exchange import send

HIDDEN = ".0123456789abcdef"


def finish(folder, *sources, **objects):
    """Make the folder of a finished case: files, and the record that names them."""
    folder.mkdir(parents=True)
    names = ["segmentation.dcm", "measurements.dcm"][: len(sources)]
    items = []
    for name, source in zip(names, sources, strict=True):
        shutil.copy(source, folder / name)
        uid = str(pydicom.dcmread(source, stop_before_pixels=True).SOPInstanceUID)
        items.append({"file": name, "sop_instance_uid": uid} | objects)
    (folder / "record.json").write_text(json.dumps({"dicom": {"objects": items}}))
    return folder


@pytest.fixture
def results(tmp_path, series):
    """Three finished cases, one of two objects."""
    out = tmp_path / "results"
    finish(out / "a", *series[:2])
    finish(out / "b", series[2])
    finish(out / "study" / "c", series[3])
    (out / "refused.json").write_text("{}")
    return out


def named(results):
    found, left_out = collect_files([results])
    return [str(path.relative_to(results)) for path in found], left_out


GOOD = [
    "a/measurements.dcm",
    "a/segmentation.dcm",
    "b/segmentation.dcm",
    "study/c/segmentation.dcm",
]


def test_the_objects_of_every_finished_case_are_found(results):
    assert named(results) == (GOOD, 0)


def test_what_a_killed_run_left_is_left_out_and_said(results, series, caplog):
    finish(results / HIDDEN, series[4])
    finish(results / HIDDEN / "d", series[4])
    (results / "half").mkdir()
    shutil.copy(series[5], results / "half" / "segmentation.dcm")
    (results / "a" / f"{HIDDEN}.dcm").write_bytes(series[6].read_bytes()[:999])
    (results / "b" / "stray.dcm").write_bytes(b"")
    (results / "b" / "rtstruct.dcm").symlink_to(series[7])
    with caplog.at_level(logging.WARNING):
        assert named(results) == (GOOD, 6)
    assert "Left out 6 file(s) that no finished case names" in caplog.text
    assert "stray" not in caplog.text


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[",
        "7",
        "{}",
        '{"dicom": {"objects": []}}',
        '{"dicom": {"objects": [{"file": "segmentation.dcm"}]}}',
        '{"dicom": {"objects": [{"file": "segmentation.dcm", "sop_instance_uid": 7}]}}',
        '{"dicom": {"objects": [{"file": "../a/segmentation.dcm", "sop_instance_uid": "1.2"}]}}',
        '{"dicom": {"objects": [{"file": "missing.dcm", "sop_instance_uid": "1.2"}, '
        '{"file": "segmentation.dcm", "sop_instance_uid": "1.2"}]}}',
        "[" * 100_000,
    ],
)
def test_a_record_that_does_not_commit_its_objects_is_none(results, record):
    (results / "b" / "record.json").write_text(record)
    assert named(results) == ([name for name in GOOD if not name.startswith("b/")], 1)


@pytest.mark.parametrize("name", ["record.json", "segmentation.dcm"])
def test_a_linked_file_is_not_followed(results, name, tmp_path):
    shutil.move(results / "b" / name, tmp_path / name)
    (results / "b" / name).symlink_to(tmp_path / name)
    assert "b/segmentation.dcm" not in named(results)[0]


def test_a_linked_folder_is_not_followed(results, series, tmp_path):
    (results / "d").symlink_to(finish(tmp_path / "elsewhere", series[4]))
    assert named(results) == (GOOD, 0)


@pytest.mark.parametrize("name", [HIDDEN, "series"])
def test_a_folder_without_a_finished_case_is_refused(results, series, name):
    if name == HIDDEN:
        finish(results / HIDDEN, series[4])
    else:
        (results / name).mkdir()
        shutil.copy(series[4], results / name)
    with pytest.raises(DatasetError, match=r"folder must hold finished cases .* number 2 has none"):
        collect_files([results, results / name])


def test_a_file_that_a_caller_names_is_taken_as_it_is(series, results):
    found, left_out = collect_files([series[4], results / "b", series[4]])
    assert next(iter(found)) == series[4]
    assert found[series[4]] == ""
    assert (len(found), left_out) == (2, 0)
    with pytest.raises(TypeError, match="files must be a list of paths"):
        collect_files(str(series[0]))
    with pytest.raises(DatasetError, match="at least one, got none"):
        collect_files([])


def test_what_is_sent_is_what_the_records_name(results, series, start_peer, retry):
    finish(results / HIDDEN, series[4])
    peer = start_peer()
    report = send([results], peer.address, retry=retry)
    assert {d.SOPInstanceUID for d in peer.received} == {
        pydicom.dcmread(path).SOPInstanceUID for path in series[:4]
    }
    assert (report.instances, report.left_out) == (4, 1)
    assert "left out 1 file(s) that no finished case names" in str(report)


def test_an_object_that_is_not_the_one_of_its_record_is_refused(results, series, start_peer, retry):
    shutil.copy(series[7], results / "b" / "segmentation.dcm")
    peer = start_peer()
    with pytest.raises(DatasetError, match="instance 3 of 4 must be the one that its record names"):
        send([results], peer.address, retry=retry)
    assert peer.contexts == []
