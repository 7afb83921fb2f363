"""Tell images and DICOM apart in what was given: a file, a folder, a data list, or both mixed."""

import os
from dataclasses import dataclass
from pathlib import Path

from grata_monai.core.errors import DatasetError
from grata_monai.read.cases import EXTENSIONS, suggest_path
from grata_monai.read.dicom.discover import holds_dicom
from grata_monai.read.outputs import RECORD_ENDING

__all__ = ["Inputs", "tell_apart"]

DEPTH = 2  # of images/ and labels/ of a centre


@dataclass(frozen=True)
class Inputs:
    """What was given.

    Attributes:
        path: Absolute.
        has_images: Whether it is or holds image files, or is a data list of them.
        has_dicom: Whether it is or holds DICOM files.
        overlooked: How many image files lie too deep in it to be taken.
    """

    path: Path
    has_images: bool
    has_dicom: bool
    overlooked: int


def tell_apart(path: Path) -> Inputs:
    """Look what a path holds, by the names of images and the first bytes of DICOM files.

    Args:
        path: A file or folder.

    Returns:
        What it holds.

    Raises:
        DatasetError: If it does not exist, or holds neither.
    """
    path = path.expanduser().absolute()
    if not path.exists():
        raise DatasetError(
            f"IN must exist, got {path.name!r}. {suggest_path(path)} Relative paths start at the "
            "current folder."
        )
    inputs = Inputs(path, _holds_images(path), holds_dicom(path), _count_overlooked(path))
    if not (inputs.has_images or inputs.has_dicom):
        raise DatasetError(
            f"IN must be or hold images ({', '.join(EXTENSIONS)}), a data list (.json) or DICOM "
            f"files, {path.name!r} holds none. Images lie in the folder itself, in images/, or in "
            "one folder per centre with images/ in it; DICOM files anywhere below it."
        )
    return inputs


def _holds_images(path: Path) -> bool:
    if not path.is_dir():
        return path.name.lower().endswith((*EXTENSIONS, ".json"))
    entries = [path, *path.iterdir()]
    return any(
        entry.name.lower().endswith(EXTENSIONS) or (entry / "images").is_dir() for entry in entries
    )


def _count_overlooked(path: Path) -> int:
    """Count image files outside of the folders that are looked into; results are none."""
    count = 0
    for folder, below, files in os.walk(path):
        below[:] = [name for name in below if not name.startswith(".")]
        parts = Path(folder).relative_to(path).parts
        is_known = not parts or (len(parts) <= DEPTH and parts[-1] in ("images", "labels"))
        if not is_known and not any(name.endswith(RECORD_ENDING) for name in files):
            count += sum(name.lower().endswith(EXTENSIONS) for name in files)
    return count
