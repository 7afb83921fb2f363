"""What an earlier run wrote is known by its record, and nothing else is taken for it."""

import json
import os

import pytest
from outputs import write_pair, write_volume

from grata_monai.read.dicom.discover import discover
from grata_monai.read.outputs import list_masks, list_objects, read_written


def test_masks_and_objects_are_known_by_their_records(tmp_path):
    write_pair(tmp_path, "a")
    assert [*list_masks([tmp_path / "a_record.json"])] == ["a_seg.nii.gz"]
    write_volume(tmp_path, "v")
    assert list_objects(tmp_path / "v") == {tmp_path / "v" / "segmentation.dcm": "1.1"}


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", "[" * 9999, '{"output": 1}'),
        *('{"output": {"file": "../a"}}', '{"output": {"more": [1]}}'),
    ],
)
def test_what_is_no_record_names_nothing(tmp_path, text):
    (tmp_path / "a_record.json").write_text(text)
    assert list_masks([tmp_path / "a_record.json"]) == {}


def test_a_pipe_or_a_link_in_place_of_a_record_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "a_record.json")
    (tmp_path / "b_record.json").symlink_to(tmp_path / "c.json")
    (tmp_path / "c.json").write_text(json.dumps({"output": {"file": "x"}}))
    for name in "ab":
        assert read_written(tmp_path / f"{name}_record.json", "output") == {}


def test_a_tree_is_looked_through_without_what_runs_wrote(tmp_path, caplog):
    write_volume(tmp_path, "v")
    for folder in ("v", "images", ".grata-0123", ".grata-4567.ready"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "image.dcm").write_text("image")
    with caplog.at_level("INFO", logger="grata_monai"):
        found = discover(tmp_path)
    expected = ["images/image.dcm", "v/image.dcm", "v/record.json"]
    assert sorted(found.relative(path) for path in found.files) == expected
    assert "passed over 1 object(s) that earlier runs wrote" in caplog.text
