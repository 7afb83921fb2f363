"""Outputs appear as one wherever a process is killed, and one process writes at a time."""

import os
import shutil
import signal
import threading

import pytest
from crash import fork_until_done, kill_at_byte, kill_at_call
from outputs import read_values, write_pair, write_volume

from grata_monai.core.errors import OutputError
from grata_monai.write.commit import claim, discard, staged

PAIR = {"a_seg.nii.gz", "a_record.json"}
KINDS = pytest.mark.parametrize(
    ("write", "names"), [(write_pair, PAIR), (write_volume, {"a"})], ids=["pair", "folder"]
)


def recover(out):
    with claim(out):
        pass


@pytest.mark.slow
@KINDS
@pytest.mark.parametrize("has_older", [False, True])
def test_no_call_at_which_a_process_is_killed_loses_or_mixes_outputs(
    tmp_path, write, names, has_older
):
    out, seen = tmp_path / "out", []

    def before():
        shutil.rmtree(out, ignore_errors=True)
        if has_older:
            write(out, value=1)

    def check():
        read_values(out)  # also before anything is recovered, no record stands beside other files
        if out.exists():
            recover(out)
        seen.append(read_values(out).get("a"))
        assert {*os.listdir(out)} == (names if seen[-1] else set()) if out.exists() else True

    killed = fork_until_done(
        kill_at_call, lambda: write(out, value=2), range(1, 99), check=check, before=before
    )
    assert killed > 15
    old = 1 if has_older else None
    assert {*seen} == {old, 2}
    assert seen == sorted(seen, key=lambda value: value == 2)  # old up to the commit, then new


@pytest.mark.slow
@KINDS
def test_no_call_at_which_a_recovery_is_killed_loses_or_mixes_outputs(tmp_path, write, names):
    state, out = tmp_path / "state", tmp_path / "out"
    for point in range(1, 99):  # find the states between commit and end
        shutil.rmtree(state, ignore_errors=True)
        write(state, value=1)
        assert kill_at_call(point, lambda: write(state, value=2))
        if any(name.endswith(".ready") for name in os.listdir(state)):
            break

    def before():
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(state, out)

    def check():
        read_values(out)
        recover(out)
        assert read_values(out) == {"a": 2}
        assert {*os.listdir(out)} == names

    work = lambda: recover(out)  # noqa: E731
    assert fork_until_done(kill_at_call, work, range(1, 99), check=check, before=before) > 5


@KINDS
def test_a_process_killed_while_it_writes_a_file_leaves_the_older_outputs(tmp_path, write, names):
    out = tmp_path / "out"
    write(out, value=1)

    def check():
        recover(out)
        assert {*os.listdir(out)} == names
        seen.append(read_values(out)["a"])

    seen = []
    sizes = range(8, 2000, 40)
    fork_until_done(
        kill_at_byte, lambda: write(out, value=2), sizes, check=check, before=lambda: None
    )
    assert seen[:-1] == [1] * (len(seen) - 1)
    assert seen[-1] == 2
    assert len(seen) > 3


@KINDS
def test_outputs_are_discarded_whole_at_the_latest_by_the_next_attempt(tmp_path, write, names):
    out = tmp_path / "out"

    def work():
        with claim(out) as folder:
            discard(folder, "a")

    def check():
        work()
        assert not out.exists() or os.listdir(out) == ["b_seg.nii.gz"]

    def before():
        write(out)
        (out / "b_seg.nii.gz").write_text("of nobody")

    assert fork_until_done(kill_at_call, work, range(1, 99), check=check, before=before) > 5
    with claim(out) as folder:
        assert not discard(folder, "b")


def test_what_is_not_ours_is_neither_removed_nor_replaced(tmp_path):
    for name in (".hidden", "notes.txt"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "image.dcm").write_text("mine")
    with pytest.raises(OutputError, match="'a' is not: something else than an output has this"):
        write_volume(tmp_path)
    assert {*os.listdir(tmp_path)} == {".hidden", "notes.txt", "a"}
    assert (tmp_path / "a" / "image.dcm").read_text() == "mine"


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_after_the_commit_loses_nothing(tmp_path, monkeypatch, times):
    write_pair(tmp_path, value=1)
    replace, calls = os.replace, []

    def interrupt(one, other):
        if str(other) == str(tmp_path / "a_seg.nii.gz"):
            calls.append(other)
            if len(calls) <= times:
                raise KeyboardInterrupt
        replace(one, other)

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_pair(tmp_path, value=2)
    assert read_values(tmp_path) == ({"a": 2} if times == 1 else {})
    recover(tmp_path)
    assert read_values(tmp_path) == {"a": 2}
    assert {*os.listdir(tmp_path)} == PAIR


def test_a_folder_that_is_made_for_nothing_does_not_stay(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), claim(tmp_path / "b" / "c"):
        raise RuntimeError("stop")
    assert os.listdir(tmp_path) == []
    (tmp_path / "mine").mkdir()
    recover(tmp_path / "mine")
    assert os.listdir(tmp_path) == ["mine"]


@pytest.fixture
def other_process(tmp_path):
    """Another process that holds ``out``; the fixture is its id."""
    (tmp_path / "out").mkdir()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with claim(tmp_path / "out"):
            os.write(writer, b"x")
            signal.pause()
        os._exit(0)
    os.read(reader, 1)
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_second_process_is_refused_until_the_first_one_has_ended(tmp_path, other_process):
    with (
        pytest.raises(OutputError, match=r"another process writes into 'out'\. Wait until"),
        claim(tmp_path / "out", wait_seconds=0.1),
    ):
        pass
    os.kill(other_process, signal.SIGKILL)
    os.waitid(os.P_PID, other_process, os.WEXITED | os.WNOWAIT)
    write_pair(tmp_path / "out")
    assert {*os.listdir(tmp_path / "out")} == PAIR


@pytest.mark.slow
def test_two_processes_and_their_threads_never_mix_what_they_write(tmp_path):
    def write(value):
        for _ in range(5):
            write_pair(tmp_path, value=value)

    child = os.fork()
    if child == 0:
        write(1)
        os._exit(0)
    threads = [threading.Thread(target=write, args=(value,)) for value in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert read_values(tmp_path)["a"] in (1, 2, 3)
    assert {*os.listdir(tmp_path)} == PAIR


def test_a_claim_within_a_claim_leaves_what_the_outer_one_has_begun(tmp_path):
    with claim(tmp_path) as folder, staged(folder) as stage:
        write_pair(tmp_path, "b")
        (stage / "a.txt").write_text("a")
    assert {*os.listdir(tmp_path)} == {"a.txt", "b_seg.nii.gz", "b_record.json"}
