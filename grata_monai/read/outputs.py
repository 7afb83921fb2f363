"""Recognise what an earlier run wrote: masks and DICOM objects that a record beside them names.

A run writes ``<case>_seg.nii.gz`` with ``<case>_record.json``, or a folder per DICOM volume with
`record.json`. The record comes last: what no record names is not finished, or not ours.
"""

import json
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "RECORD",
    "RECORD_ENDING",
    "REPORT_FOLDER",
    "SEGMENTATION",
    "is_regular",
    "list_masks",
    "list_objects",
    "read_json",
    "read_written",
]

RECORD, SEGMENTATION = "record.json", "segmentation.dcm"
RECORD_ENDING = f"_{RECORD}"
REPORT_FOLDER = "report"
RECORD_BYTES = 64 * 2**20


def read_written(record: Path, part: str) -> dict[str, Any]:
    """Read what a record says was written.

    Args:
        record: Its file.
        part: ``output`` of a mask, or ``dicom`` of a folder.

    Returns:
        That part; empty if the file is no record that has it.
    """
    written = read_json(record).get(part)
    return dict(written) if isinstance(written, Mapping) else {}


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that a run wrote; empty if it is no small regular file with a JSON object."""
    if not is_regular(path) or path.stat().st_size > RECORD_BYTES:
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return dict(content) if isinstance(content, Mapping) else {}


def list_masks(records: Iterable[Path]) -> dict[str, str]:
    """List the masks that records, which lie beside them, name.

    Returns:
        Names of their files, with the SHA-256 of their voxels.
    """
    found: dict[str, str] = {}
    for record in records:
        output = read_written(record, "output")
        more = output.get("more", ())
        for item in (output, *(more if isinstance(more, list) else ())):
            name = item.get("file") if isinstance(item, Mapping) else None
            if isinstance(name, str) and name and name == Path(name).name:
                found[name] = str(item.get("sha256"))
    return found


def list_objects(folder: Path) -> dict[Path, str]:
    """List the DICOM objects that a folder's record names, with their UIDs.

    Args:
        folder: Of one volume.

    Returns:
        The objects; nothing if one is missing, or no segmentation is among them: then the folder is
        not one of a finished case.
    """
    written = read_written(folder / RECORD, "dicom")
    try:
        objects = {folder / item["file"]: item["sop_instance_uid"] for item in written["objects"]}
    except (LookupError, TypeError):
        return {}
    is_finished = folder / SEGMENTATION in objects and all(
        path.parent == folder and is_regular(path) and isinstance(uid, str) and uid
        for path, uid in objects.items()
    )
    return objects if is_finished else {}


def is_regular(path: Path) -> bool:
    """Whether it is a file itself, neither a link to one nor a pipe."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False
