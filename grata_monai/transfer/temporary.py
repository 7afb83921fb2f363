"""A private folder for fetched files that goes when the process ends, however it ends.

A signal that asks to end (SIGTERM, SIGHUP) becomes SystemExit, so that everything which cleans up
does so. What a killed process leaves is removed by the next one: each folder holds a lock that its
process keeps as long as it lives.
"""

import atexit
import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

if sys.platform != "win32":
    import fcntl

__all__ = ["end_by_exception", "make_private_folder"]

PREFIX = "grata_monai_"
LOCK = ".lock"
ENDING = ("SIGTERM", "SIGHUP")


def make_private_folder() -> Path:
    """Make a folder that only this user can read, and that goes with this process.

    Returns:
        The folder; it holds a hidden lock.
    """
    end_by_exception()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    if sys.platform != "win32":
        _remove_orphans()
        # never closed: the lock lasts as long as the process
        fcntl.flock(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
    atexit.register(_remove, folder, os.getpid())
    return folder


def end_by_exception() -> None:
    """Let signals that ask to end raise SystemExit, unless a host handles them itself."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name in ENDING:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked worker ends earlier
        shutil.rmtree(folder, ignore_errors=True)


if sys.platform != "win32":

    def _remove_orphans() -> None:
        """Remove folders of this user whose process has ended without doing so."""
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with suppress(OSError):
                if folder.lstat().st_uid == os.getuid() and _is_orphan(folder):
                    shutil.rmtree(folder, ignore_errors=True)

    def _is_orphan(folder: Path) -> bool:
        """Whether nobody holds the lock, and there is more: one that is being made is empty."""
        if all(path.name == LOCK for path in folder.iterdir()):
            return False
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(lock)
        return True
