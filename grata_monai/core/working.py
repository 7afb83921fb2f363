"""Lend a hidden working folder that goes with its process; what a killed one left is put right.

A process locks its own folder as long as it works there, and the system ends the lock with the
process. So whoever next works in the same place tells rubbish from work in progress.
"""

import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["OLD", "PREFIX", "clean", "working_folder"]

PREFIX = ".grata_work-"
"""How the names of working folders begin."""

OLD = "old"
"""Folder in a working folder: what lies there goes back to its place, unless another has it now."""
LOCK_SECONDS = 0.5  # another program may lock the folder for itself for ever


@contextmanager
def working_folder(parent: Path) -> Iterator[Path]:
    """Lend a hidden folder of this process, after cleaning up behind killed ones.

    Args:
        parent: In which it is made; it must exist.

    Yields:
        The folder. What is moved into its folder `OLD` is moved back at the end, by this process or
        by a later one, if nothing else has its name by then.

    Raises:
        OSError: If the file system refuses.
    """
    with _locked(parent) as is_alone:
        if is_alone:
            clean(parent)
        work = parent / f"{PREFIX}{secrets.token_hex(8)}"
        work.mkdir()
        lock = _lock(work)
    try:
        yield work
    finally:
        _end(work)
        if lock is not None:
            os.close(lock)


def _end(work: Path) -> None:
    with suppress(OSError):
        for path in (work / OLD).iterdir():
            place = work.parent / path.name
            if not place.exists() and not place.is_symlink():
                os.replace(path, place)
    shutil.rmtree(work, ignore_errors=True)


def clean(parent: Path) -> None:
    """Put right what killed processes left in a folder; work in progress stays.

    Args:
        parent: The folder.
    """
    for path in parent.glob(f"{PREFIX}*"):
        if path.is_symlink() or not path.is_dir():
            continue
        lock = _lock(path)
        if lock is not None:
            _end(path)
            os.close(lock)


@contextmanager
def _locked(parent: Path) -> Iterator[bool]:
    """Keep others from cleaning until a new folder has its own lock; says whether that worked."""
    lock = _lock(parent, seconds=LOCK_SECONDS)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


if sys.platform == "win32":

    def _lock(folder: Path, *, seconds: float = 0.0) -> int | None:
        """Windows has no locks of folders: nothing is cleaned there."""
        return None

else:

    def _lock(folder: Path, *, seconds: float = 0.0) -> int | None:
        """Lock a folder; None if another process keeps it, it is gone, or nothing can be locked."""
        end = time.monotonic() + seconds
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except OSError:
            return None
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if isinstance(error, BlockingIOError) and time.monotonic() < end:
                    time.sleep(0.01)
                    continue
                os.close(descriptor)
                return None
            return descriptor
