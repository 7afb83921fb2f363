"""A file or folder is whole or not there, and a folder that cannot be written is refused early."""

import fcntl
import os
import shutil
import stat

import pytest
from crash import kill_at_call
from fire.parser import DefaultParseValue

from grata_monai.core.errors import OutputError
from grata_monai.core.files import as_text, atomic_folder, atomic_path, ensure_writable


def test_a_file_appears_when_the_block_ends(tmp_path):
    with atomic_path(tmp_path / "a.nii.gz") as path:
        assert path.name == "a.nii.gz"  # by which writers choose their format
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


def fill(path, error=None):
    """Write a folder of one file atomically, and fail halfway if told to."""
    with atomic_folder(path) as temporary:
        (temporary / "new.txt").write_text("new")
        if error is not None:
            raise error


def test_a_folder_appears_when_the_block_ends_and_replaces_the_old_one(tmp_path):
    for _ in range(2):
        fill(tmp_path / "case")
        assert os.listdir(tmp_path) == ["case"]
        assert os.listdir(tmp_path / "case") == ["new.txt"]
        (tmp_path / "case" / "old.txt").touch()


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt("mine")])
def test_an_exception_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "old.txt").touch()
    with pytest.raises(type(error), match="mine"):
        fill(tmp_path / "case", error)
    assert os.listdir(tmp_path) == ["case"]
    assert os.listdir(tmp_path / "case") == ["old.txt"]


def test_an_interruption_between_the_two_renames_gives_the_old_folder_back(tmp_path, monkeypatch):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "old.txt").touch()
    rename, calls = os.replace, []

    def interrupt(one, other):
        calls.append(other)
        if len(calls) == 2:
            raise KeyboardInterrupt("mine")
        rename(one, other)

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt, match="mine"):
        fill(tmp_path / "case")
    assert os.listdir(tmp_path / "case") == ["old.txt"]


def read_folder(path):
    return {one.name: one.read_text() for one in path.iterdir()}


@pytest.mark.parametrize("has_older", [False, True])
def test_no_call_at_which_a_process_is_killed_loses_a_folder_or_leaves_a_hidden_one(
    tmp_path, has_older
):
    seen = []
    for point in range(1, 99):
        shutil.rmtree(tmp_path / "case", ignore_errors=True)
        if has_older:
            (tmp_path / "case").mkdir()
            (tmp_path / "case" / "old.txt").write_text("old")
        is_killed = kill_at_call(point, lambda: fill(tmp_path / "case"))
        fill(tmp_path / "other")  # whoever writes there next puts it right
        shutil.rmtree(tmp_path / "other")
        assert {*os.listdir(tmp_path)} <= {"case"}
        seen.append(read_folder(tmp_path / "case") if (tmp_path / "case").exists() else None)
        if not is_killed:
            break
    assert len(seen) > 8
    older, new = {"old.txt": "old"} if has_older else None, {"new.txt": "new"}
    assert [state for state in seen if state not in (older, new)] == []
    assert seen == sorted(seen, key=lambda state: state == new)


def test_a_folder_that_is_being_written_is_not_taken_for_rubbish(tmp_path):
    with atomic_folder(tmp_path / "case") as folder:
        (folder / "a.txt").write_text("a")
        assert not kill_at_call(99, lambda: fill(tmp_path / "other"))
        assert read_folder(folder) == {"a.txt": "a"}
    assert {*os.listdir(tmp_path)} == {"case", "other"}


def test_a_file_in_the_place_of_a_folder_is_kept(tmp_path):
    (tmp_path / "case").write_text("mine")
    with pytest.raises(OutputError, match="'case' is not: Not a directory"):
        fill(tmp_path / "case")
    assert (tmp_path / "case").read_text() == "mine"


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


def test_no_call_at_which_a_process_is_killed_leaves_half_a_file_or_a_hidden_one(tmp_path):
    path, seen = tmp_path / "report.md", []
    for point in range(1, 99):
        path.write_text("old")
        is_killed = kill_at_call(point, lambda: write(path))
        assert {one.name for one in tmp_path.iterdir() if one.is_file()} == {"report.md"}
        ensure_writable(tmp_path)  # as whoever writes there next does
        assert os.listdir(tmp_path) == ["report.md"]
        seen.append(path.read_text())
        if not is_killed:
            break
    assert len(seen) > 5
    assert seen == sorted(seen, key=lambda text: text == "half")
    assert {*seen} == {"old", "half"}


def test_a_folder_that_another_program_locks_can_be_written(tmp_path):
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        write(tmp_path / "a")
    finally:
        os.close(lock)
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        OutputError, match="output folder must be writable, 'out' is not: Not a dir"
    ):
        ensure_writable(tmp_path / "file" / "out")
    with pytest.raises(OutputError, match="choose another output folder"):
        ensure_writable(tmp_path / "file")


def test_a_folder_may_hold_folders(tmp_path):
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "in").mkdir()
        (folder / "in" / "a.txt").write_text("a")
    assert (tmp_path / "out" / "in" / "a.txt").read_text() == "a"


@pytest.mark.parametrize("is_dangling", [False, True])
def test_a_folder_replaces_a_link_and_not_what_it_points_to(tmp_path, is_dangling):
    (tmp_path / "out").symlink_to(tmp_path / "other")
    if not is_dangling:
        (tmp_path / "other").mkdir()
    with pytest.raises(RuntimeError, match="stop"), atomic_folder(tmp_path / "out"):
        raise RuntimeError("stop")
    assert (tmp_path / "out").is_symlink()
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
    assert not (tmp_path / "out").is_symlink()
    assert (tmp_path / "out" / "a.txt").exists()
    assert (tmp_path / "other").exists() != is_dangling
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "other"}


@pytest.mark.parametrize("text", ["2025_11", "0x10", "2025.10", "1e3", "a,2_0"])
@pytest.mark.parametrize("form", ["--output_dir={}", "--output_dir {}"])
def test_what_was_typed_is_taken_not_what_a_command_line_made_of_it(monkeypatch, text, form):
    arguments = form.format(text).split()
    monkeypatch.setattr("sys.argv", ["run", "--other", "1", *arguments])
    assert as_text(DefaultParseValue(text), name="output_dir") == text
    assert as_text(7, name="output_dir") == "7"  # from somewhere else
