"""Find what to send: files by name, and in folders the objects of finished cases only.

A case is finished when its folder holds `record.json` beside `segmentation.dcm`. Its record names
the objects and their UIDs; whatever else lies there, such as a hidden folder of a run that was
killed, a half-written or a stray file, is counted and left out.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from grata_monai.core.errors import DatasetError
from grata_monai.read.outputs import RECORD, SEGMENTATION, list_objects

__all__ = ["collect_files"]

logger = logging.getLogger(__name__)


def collect_files(files: Sequence[Path | str]) -> tuple[dict[Path, str], int]:
    """List files by name, and the objects of the finished cases in folders, each once.

    Args:
        files: Files and folders.

    Returns:
        The files, each with the SOPInstanceUID that its record names, or nothing where a caller
        named it; and how many ``*.dcm`` files of the folders were left out.

    Raises:
        TypeError: If `files` is a single path.
        DatasetError: If one does not exist, or a folder holds no finished case.
    """
    if isinstance(files, (str, Path)):
        raise TypeError("files must be a list of paths, got a single one. Write [path].")
    found: dict[Path, str] = {}
    seen: set[Path] = set()
    for number, path in enumerate(map(Path, files), start=1):
        if path.is_dir():
            cases, present = _look_through(path)
            if not cases:
                raise DatasetError(
                    f"folder must hold finished cases ({RECORD} beside {SEGMENTATION}), number "
                    f"{number} has none. Segment again; name other DICOM files one by one."
                )
            found.update(cases)
            seen |= present
        elif path.exists():
            found.setdefault(path, "")
        else:
            raise DatasetError(
                f"files must exist, number {number} does not exist. Check the paths."
            )
    if not found:
        raise DatasetError("files must be at least one, got none. Name what to send.")
    left_out = len(seen - found.keys())
    if left_out:
        logger.warning("Left out %d file(s) that no finished case names", left_out)
    return found, left_out


def _look_through(root: Path) -> tuple[dict[Path, str], set[Path]]:
    """The objects of finished cases under a folder, and all ``*.dcm`` files there."""
    cases: dict[Path, str] = {}
    present: set[Path] = set()
    for folder, _, names in os.walk(root):
        here = Path(folder)
        present |= {here / name for name in names if name.endswith(".dcm")}
        inside = here.resolve().parts[len(root.resolve().parts) - 1 :]  # the root's own name too
        if not any(part.startswith(".") for part in inside):
            cases.update(list_objects(here))
    return dict(sorted(cases.items())), present
