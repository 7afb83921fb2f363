"""Find the files of a folder tree, each once, also where links form circles."""

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from grata_monai.core.errors import DatasetError
from grata_monai.core.files import is_unfinished
from grata_monai.read.outputs import RECORD, list_objects

__all__ = ["Tree", "discover", "holds_dicom"]

PREAMBLE = 128  # bytes before the prefix of a DICOM file

logger = logging.getLogger(__name__)

Identity = tuple[int, int]


@dataclass(frozen=True)
class Tree:
    """What is in a folder tree.

    Attributes:
        root: The folder, or the folder of the one file.
        files: Regular files, each once, in an order that depends on their names only.
        closed: Folders that may not be listed.
        special: How many pipes, devices, sockets and dead links there are.
        outside: Links that lead out of the root; they are not followed.
    """

    root: Path
    files: tuple[Path, ...]
    closed: tuple[Path, ...]
    special: int
    outside: tuple[Path, ...] = ()

    def relative(self, path: Path) -> str:
        """Name a path as seen from the root."""
        return path.relative_to(self.root).as_posix()


def discover(path: Path) -> Tree:
    """Find every file of a folder and below it.

    Args:
        path: A folder, or one file.

    Returns:
        Its files. Links are followed within the folder, but no folder and no file is listed
        twice; one that leads out of it counts as `outside`: what lies there is another's. What
        earlier runs wrote is passed over, and so is what a killed one left.

    Raises:
        DatasetError: If the path does not exist.
    """
    if not path.exists():
        raise DatasetError(f"path must exist, {path.name!r} does not. Check it.")
    if not path.is_dir():
        return Tree(path.parent, (path,), (), 0)
    closed: list[Path] = []
    found: list[Path] = []
    outside: list[Path] = []
    special = outputs = 0
    root = Path(os.path.realpath(path))
    seen: set[Identity] = set()
    _is_new(path, seen)  # a link below may point back here
    waiting = [path]  # a stack of our own: os.walk recurses, and ends where Python's does
    while waiting:
        folder = waiting.pop()
        try:
            entries, passed = _list_inputs(folder)
        except OSError:
            closed.append(folder)
            continue
        outputs += passed
        folders: list[Path] = []
        for entry in entries:
            mode = _find_mode(entry)
            is_link = entry.is_symlink()
            if mode and is_link and not Path(os.path.realpath(entry)).is_relative_to(root):
                outside.append(entry)
            elif not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                special += 1
            elif _is_new(entry, seen):
                (folders if stat.S_ISDIR(mode) else found).append(entry)
        waiting += reversed(folders)
    if outputs:
        logger.info("passed over %d object(s) that earlier runs wrote", outputs)
    return Tree(path, tuple(found), tuple(sorted(closed)), special, tuple(outside))


def holds_dicom(path: Path) -> bool:
    """Whether a path is or holds a file that begins as DICOM files do; nothing else is read.

    Args:
        path: A folder or a file; one that does not exist holds nothing.

    Returns:
        Whether one was found.
    """
    return path.exists() and any(_begins_as_dicom(file) for file in discover(path).files)


def _begins_as_dicom(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"
    except OSError:
        return False


def _list_inputs(folder: Path) -> tuple[list[Path], int]:
    """List a folder without what runs wrote there, and say how many objects that were."""
    entries = sorted(folder.iterdir())
    outputs = list_objects(folder) if folder / RECORD in entries else {}
    rest = [entry for entry in entries if entry not in outputs]
    return [entry for entry in rest if not is_unfinished(entry.name)], len(outputs)


def _is_new(path: Path, seen: set[Identity]) -> bool:
    """Whether a file or folder is seen for the first time, under any name."""
    try:
        status = path.stat()
    except OSError:
        return True  # listing or reading it raises the error later
    identity = (status.st_dev, status.st_ino)
    is_new = identity not in seen
    seen.add(identity)
    return is_new


def _find_mode(path: Path) -> int:
    """What kind of file it is, or what its link points to; 0 if that cannot be told."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0
