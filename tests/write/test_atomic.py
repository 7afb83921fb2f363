"""A file is whole or not there, and a folder that cannot be written is refused early."""

import os
import stat

import pytest

from grata_monai.errors import OutputError
from grata_monai.write.atomic import atomic_path, ensure_writable


def test_a_file_appears_when_the_block_ends(tmp_path):
    with atomic_path(tmp_path / "a.nii.gz") as path:
        assert path.parent == tmp_path
        assert path.name.endswith(".nii.gz")
        path.write_text("new")
        assert not (tmp_path / "a.nii.gz").exists()
    assert os.listdir(tmp_path) == ["a.nii.gz"]
    assert (tmp_path / "a.nii.gz").read_text() == "new"


def write(path, error=None):
    """Write to a path atomically, and fail halfway if told to."""
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt("mine")])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(type(error), match="mine"):
        write(tmp_path / "a.json", error)
    assert os.listdir(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "a") as path:
            path.write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_refusals_of_the_file_system_say_what_to_do(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"'a' is not: No space left on device\. Free space"):
        write(tmp_path / "a", OSError(28, "No space left on device"))
    with pytest.raises(OutputError, match="'a' is not: No such file"):
        write(tmp_path / "no" / "a")
    with pytest.raises(OutputError, match="'folder' is not: Is a directory"):
        write(tmp_path / "folder")
    with pytest.raises(OutputError, match="'a' is not: No such file"), atomic_path(tmp_path / "a"):
        pass  # nothing is written
    assert os.listdir(tmp_path) == ["folder"]


def test_a_missing_folder_is_made_and_left_empty(tmp_path):
    folder = tmp_path / "a" / "b"
    assert ensure_writable(str(folder)) == folder
    assert os.listdir(folder) == []


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        OutputError, match="output folder must be writable, 'out' is not: Not a dir"
    ):
        ensure_writable(tmp_path / "file" / "out")
    with pytest.raises(OutputError, match="choose another output folder"):
        ensure_writable(tmp_path / "file")
