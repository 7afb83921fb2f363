"""Read the one DICOM volume that a folder holds, after triage and all checks of decoding."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.data import MetaTensor

from grata_monai.core.errors import DatasetError
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.load import read_volume
from grata_monai.read.dicom.selection import Selection
from grata_monai.read.dicom.triage import Triage, triage
from grata_monai.read.dicom.volume import DicomVolume

__all__ = ["only_volume", "read_folder"]


def read_folder(
    path: str | Path,
    *,
    selection: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> MetaTensor:
    """Read the one volume that a folder holds.

    Args:
        path: A folder tree, or one file of an enhanced series; names and extensions do not matter.
        selection: Fields of `Selection`: which volume is meant, if there are several.
        limits: Of size, memory and time; the defaults of `Limits` if None.

    Returns:
        As `read_volume`.

    Raises:
        DatasetError: If there is no acceptable volume, or more than one.
        DicomError: If it cannot be decoded.
        ValueError: If a field of the selection is unknown or breaks its rule.
    """
    rules = Selection.from_dict(selection or {})
    return read_volume(only_volume(triage(path, selection=rules, limits=limits)), limits=limits)


def only_volume(found: Triage) -> DicomVolume:
    """Take the one volume that was accepted.

    Raises:
        DatasetError: If there is none, or more than one; it names the reasons of rejections.
    """
    if len(found.volumes) == 1:
        return found.volumes[0]
    why = "; ".join(rejection.reason.value for rejection in found.rejections[:3])
    raise DatasetError(
        f"a folder must hold one acceptable DICOM volume, got {len(found.volumes)} and "
        f"{len(found.rejections)} rejection(s){f' ({why})' if why else ''}. "
        "Use segment_dicom for several, and `python -m grata_monai triage` to see why."
    )
