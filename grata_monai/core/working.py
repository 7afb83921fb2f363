"""Lend a hidden working folder that goes with its process; what a killed one left is put right.

A process locks its own folder as long as it works there, and the system ends the lock with the
process. So whoever next works in the same place tells rubbish from work in progress.
"""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["OLD", "working_folder"]

PREFIX = ".grata_work-"
OLD = "old"
"""Folder in a working folder: what lies there goes back to its place, unless another has it now."""


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
    with _locked(parent):
        _clean(parent)
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


def _clean(parent: Path) -> None:
    for path in parent.glob(f"{PREFIX}*"):
        if path.is_symlink() or not path.is_dir():
            continue
        lock = _lock(path, is_tried=True)
        if lock is not None:
            _end(path)
            os.close(lock)


@contextmanager
def _locked(parent: Path) -> Iterator[None]:
    """Keep others from cleaning until a new folder has its own lock."""
    lock = _lock(parent)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


if sys.platform == "win32":

    def _lock(folder: Path, *, is_tried: bool = False) -> int | None:
        """Windows has no locks of folders: nothing is cleaned there."""
        return None

else:

    def _lock(folder: Path, *, is_tried: bool = False) -> int | None:
        """Lock a folder; None if another process has it, or the file system knows no locks."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if is_tried else 0))
        except OSError:
            os.close(descriptor)
            return None
        return descriptor
