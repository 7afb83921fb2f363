"""Find the files of a folder tree, each once, also where links form circles."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from grata_monai.core.errors import DatasetError

__all__ = ["Tree", "discover"]

Identity = tuple[int, int]


@dataclass(frozen=True)
class Tree:
    """What is in a folder tree.

    Attributes:
        root: The folder, or the folder of the one file.
        files: Regular files, each once, in an order that depends on their names only.
        closed: Folders that may not be listed.
        special: How many pipes, devices, sockets and dead links there are.
    """

    root: Path
    files: tuple[Path, ...]
    closed: tuple[Path, ...]
    special: int

    def relative(self, path: Path) -> str:
        """Name a path as seen from the root."""
        return path.relative_to(self.root).as_posix()


def discover(path: Path) -> Tree:
    """Find every file of a folder and below it.

    Args:
        path: A folder, or one file.

    Returns:
        Its files; links are followed, but no folder and no file is listed twice.

    Raises:
        DatasetError: If the path does not exist.
    """
    if not path.exists():
        raise DatasetError(f"path must exist, {path.name!r} does not. Check it.")
    if not path.is_dir():
        return Tree(path.parent, (path,), (), 0)
    closed: list[Path] = []
    found: list[Path] = []
    special = 0
    seen: set[Identity] = set()
    _is_new(path, seen)  # a link below may point back here
    for folder, folders, names in os.walk(
        path, followlinks=True, onerror=lambda error: closed.append(Path(error.filename))
    ):
        folders[:] = [name for name in sorted(folders) if _is_new(Path(folder, name), seen)]
        for name in sorted(names):
            file = Path(folder, name)
            if not _is_regular(file):
                special += 1
            elif _is_new(file, seen):
                found.append(file)
    return Tree(path, tuple(found), tuple(sorted(closed)), special)


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


def _is_regular(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except OSError:
        return False
