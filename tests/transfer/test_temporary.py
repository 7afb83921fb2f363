"""Nothing that was fetched outlives its process, however that ends."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from archive import Archive

from grata_monai.transfer.temporary import end_by_exception, make_private_folder

pytestmark = pytest.mark.slow

HOLD = """
import sys
from grata_monai.transfer.temporary import make_private_folder
folder = make_private_folder() / "fetched"
folder.mkdir()
(folder / "a.dcm").write_bytes(b"voxels")
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def running(folder, *command):
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdin=-1,
        stdout=-1,
        stderr=-1,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509  # nohup ignores it
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=120)


def hold(folder):
    return running(folder, "-c", HOLD)


def end_of(process, number):
    process.send_signal(number)
    return process.wait(timeout=120)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_asks_to_end_leaves_nothing(tmp_path, number):
    with hold(tmp_path) as process:
        assert process.stdout.readline() == "ready\n"
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o077 == 0
        assert end_of(process, number) != 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    (tmp_path / "grata_monai_made_by_hand").mkdir()
    with hold(tmp_path) as living:
        assert living.stdout.readline() == "ready\n"
        (kept,) = (path for path in tmp_path.glob("grata_monai_*") if any(path.iterdir()))
        with hold(tmp_path) as killed:
            assert killed.stdout.readline() == "ready\n"
            assert end_of(killed, signal.SIGKILL) == -signal.SIGKILL
        assert len(list(tmp_path.glob("grata_monai_*/fetched/a.dcm"))) == 2
        with hold(tmp_path) as process:
            assert process.stdout.readline() == "ready\n"
            assert len(list(tmp_path.glob("grata_monai_*/fetched/a.dcm"))) == 2
            process.communicate("", timeout=120)
        assert list(tmp_path.glob("grata_monai_*/fetched/a.dcm")) == [kept / "fetched" / "a.dcm"]


def test_a_fetch_that_is_ended_leaves_nothing_half(tmp_path, series, replies, start_web):
    archive, asked, go_on = Archive(series, replies), threading.Event(), threading.Event()

    def answer(request):
        if len(request.path.split("/")) == 8 and len(web.requests) > 7:  # some files are there
            asked.set()
            go_on.wait(60)
        return archive(request)

    web = start_web(answer)
    source = f"{web.address}?study={archive.study}"
    out = tmp_path / "out"
    with running(
        tmp_path, "-m", "grata_monai", "fetch", "--source", source, "--out", str(out)
    ) as process:
        assert asked.wait(60)
        assert any(path.name.startswith(".") for path in tmp_path.iterdir())
        assert end_of(process, signal.SIGTERM) == 128 + signal.SIGTERM
    go_on.set()
    assert list(tmp_path.iterdir()) == []


def test_handlers_of_a_host_are_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_by_exception()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_than_the_main_one_can_make_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before, made = signal.getsignal(signal.SIGTERM), []
    thread = threading.Thread(target=lambda: made.append(make_private_folder()))
    thread.start()
    thread.join()
    assert [path.is_dir() for path in made] == [True]
    assert signal.getsignal(signal.SIGTERM) == before
