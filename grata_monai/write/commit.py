"""Write the files of a case as one: all of them appear, or none, wherever the process is killed.

They are staged in a hidden folder. Renaming that folder to one that ends in ``.ready`` is the
commit: what was killed before left rubbish, which is removed; what was killed after is completed.
Both happen when a process next claims the output folder. Only one process at a time can claim it.
"""

import errno
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from grata_monai.core.errors import OutputError
from grata_monai.core.files import (
    UNFINISHED,
    Typed,
    as_path,
    ensure_writable,
    flush,
    flush_folder,
    refuse_as_output,
    temporary_name,
)
from grata_monai.read.outputs import RECORD, RECORD_ENDING, list_masks, list_objects, read_json

__all__ = ["RUN_WAIT_SECONDS", "claim", "discard", "staged"]

logger = logging.getLogger(__name__)

LOCK = f"{UNFINISHED}lock"
READY = ".ready"
LAST = f"{UNFINISHED}last"  # in a stage: names of the files that count as records
WAIT_SECONDS = 60.0  # for a writer outside a run, which holds the folder for one case only
RUN_WAIT_SECONDS = 1.0

_moving = threading.Lock()
_claiming = threading.Lock()


@contextmanager
def claim(output_dir: Typed, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[Path]:
    """Hold an output folder, alone among processes, and put right what a killed one left.

    Threads of one process share a claim. The lock ends with its process, however that ends. A
    folder that was made for the claim and is still empty at its end is taken away again.

    Args:
        output_dir: Made if missing.
        wait_seconds: How long to wait for another process.

    Yields:
        The folder.

    Raises:
        OutputError: If it cannot be written, or another process holds it.
    """
    folder = as_path(output_dir, name="output_dir")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    ensure_writable(folder)
    lock = FileLock(folder.resolve() / LOCK, is_singleton=True, thread_local=False)
    with _claiming:  # a thread that comes second must not write before the first has recovered
        is_locked = _acquire(lock, folder.name, wait_seconds)
        if is_locked and lock.lock_counter == 1:
            try:
                _recover(folder)
            except BaseException:
                _release(lock)
                raise
    try:
        yield folder
    finally:
        if is_locked:
            with _claiming:
                _release(lock)
        with suppress(OSError):
            for path in made:
                path.rmdir()


@contextmanager
def staged(folder: Path, *, last: Sequence[str] = ()) -> Iterator[Path]:
    """Lend a hidden folder; what lies in it when the block ends moves into `folder` as one.

    Files replace files and folders replace folders. A record is removed first and comes last, so
    that none ever stands beside files that it does not describe.

    Args:
        folder: Claimed by this process.
        last: Names of further files that count as records: they name the others.

    Yields:
        Where to write files and folders, under their later names.

    Raises:
        OutputError: If the file system refuses.
    """
    stage = folder / temporary_name()
    ready = stage.with_name(stage.name + READY)
    try:
        with refuse_as_output(folder.name):
            stage.mkdir()
            if last:
                (stage / LAST).write_text(json.dumps({"names": [*last]}), encoding="utf-8")
            yield stage
            _flush_tree(stage)
            os.rename(stage, ready)
            flush_folder(folder)
            try:
                _complete(ready)
            except Exception:
                shutil.rmtree(ready, ignore_errors=True)
                raise
            except BaseException:  # Ctrl-C: what is committed is completed, now or by the next run
                _complete(ready)
                raise
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def discard(folder: Path, case: str) -> bool:
    """Remove the outputs of an earlier run of a case: they are not of the case as it is now.

    Args:
        folder: Claimed by this process.
        case: Its name: of the files, or of the folder of a DICOM volume.

    Returns:
        Whether there were any.
    """
    record = folder / f"{case}{RECORD_ENDING}"
    masks, is_folder = list_masks([record]), bool(list_objects(folder / case))
    if not masks and not is_folder:
        return False
    rubbish = folder / temporary_name()
    with refuse_as_output(case):
        for mask in masks:  # the record last: alone it says that a mask is missing
            (folder / mask).unlink(missing_ok=True)
        if masks:
            record.unlink()
        if is_folder:
            os.rename(folder / case, rubbish)
            shutil.rmtree(rubbish)
    logger.info("%s: outputs of an earlier run are removed", case)
    return True


def _acquire(lock: FileLock, name: str, wait_seconds: float) -> bool:
    """Whether the folder is locked now; False where the file system knows no locks."""
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise OutputError(
            f"output folder must have one writer at a time, another process writes into {name!r}. "
            "Wait until it has ended, or choose another output folder."
        ) from error
    except OSError as error:
        logger.warning("output folder cannot be locked (%s): run one process", error.strerror)
        return False
    return True


def _release(lock: FileLock) -> None:
    if lock.lock_counter == 1:
        with suppress(OSError):
            os.unlink(lock.lock_file)  # whoever waits for it sees that, and makes a new one
    lock.release()


def _recover(folder: Path) -> None:
    """Complete what a killed process had committed, and remove what it had not."""
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(UNFINISHED) or path.name == LOCK:
            continue
        with refuse_as_output(path.name):
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
                continue
            if path.name.endswith(READY):
                logger.warning("outputs that an interrupted run had finished are put in place")
                _complete(path)
            shutil.rmtree(path, ignore_errors=True)


def _complete(ready: Path) -> None:
    """Move every file and folder to its place; may be stopped and begun again at any point."""
    folder = ready.parent
    with _moving:
        names = [path.name for path in ready.iterdir() if not path.name.startswith(UNFINISHED)]
        last = read_json(ready / LAST).get("names", [])
        records = [name for name in names if name.endswith(RECORD_ENDING) or name in last]
        for name in records:
            (folder / name).unlink(missing_ok=True)
        for name in sorted(names, key=lambda name: (name in records, name)):
            with refuse_as_output(name):
                if (ready / name).is_dir():
                    _move_away(folder / name, ready)
                os.replace(ready / name, folder / name)
        flush_folder(folder)
        shutil.rmtree(ready, ignore_errors=True)


def _move_away(place: Path, ready: Path) -> None:
    """Make room for a folder; no file, and no folder without a record, is taken for an output."""
    if place.is_symlink() or (place / RECORD).is_file():
        os.rename(place, ready / f"{UNFINISHED}{place.name}")
    elif place.is_dir() and any(place.iterdir()):
        raise FileExistsError(errno.EEXIST, "something else than an output has this name")


def _flush_tree(stage: Path) -> None:
    for folder, _, names in os.walk(stage, topdown=False):
        for name in names:
            flush(Path(folder) / name)
        flush_folder(Path(folder))
