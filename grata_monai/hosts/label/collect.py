"""Gather the labels that readers submitted to MONAI Label, for calibrate and train."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from grata_monai.core.errors import DatasetError
from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.read.decode import decode

__all__ = ["collect_labels", "read_names"]

INDEX = "datastore_v2.json"  # of MONAI Label, in the folder of studies
TAG = "final"
NIFTI = (".nii.gz", ".nii")


def collect_labels(studies: Path, out: Path, names: dict[str, int]) -> list[str]:
    """Copy every study with a submitted label into ``images/``, and its label into ``labels/``.

    Args:
        studies: The folder that MONAI Label serves.
        out: A centre's folder, as ``--cases CENTRE=DIR`` takes it; made if missing.
        names: Of the labels in lower case, and their numbers. Other segments, such as the original
            network's mask, become background.

    Returns:
        Names of the studies.

    Raises:
        DatasetError: If the folder is none of MONAI Label's, or a label is no NIfTI.
        CaseError: If a label cannot be read within the limits of any image.
        OutputError: If `out` cannot be written.
    """
    try:
        objects: dict[str, Any] = json.loads((studies / INDEX).read_text("utf-8"))["objects"]
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(
            f"STUDIES must be a folder that MONAI Label served, {studies.name!r} has no readable "
            f"{INDEX}. Give the folder of `make label STUDIES=...`."
        ) from error
    found = {name: one for name, one in objects.items() if TAG in one.get("labels", {})}
    folders = [ensure_writable(out / kind) for kind in ("images", "labels")] if found else []
    for name, one in found.items():
        label = one["labels"][TAG]
        image = studies / f"{name}{one['image']['ext']}"
        if not str(label["ext"]).endswith(NIFTI) or not image.is_file():
            raise DatasetError(
                f"a submitted label must be NIfTI, and its study a file, {name!r} is otherwise. "
                "Set Slicer's File Extension to .nii.gz, and submit it again."
            )
        voxels, affine_ras = decode(studies / "labels" / TAG / f"{name}{label['ext']}")
        kept = np.zeros(voxels.shape, np.uint8)
        for number, value in _list_segments(name, label.get("info"), names):
            kept[voxels == value] = number
        target = f"{name}{one['image']['ext']}"
        with atomic_path(folders[0] / target) as path:
            shutil.copyfile(image, path)
        with atomic_path(folders[1] / f"{name}.nii.gz") as path:
            nifti = nib.Nifti1Image(kept, affine_ras)
            path.write_bytes(gzip.compress(nifti.to_bytes(), mtime=0))
    return sorted(found)


def read_names(metadata: Path) -> dict[str, int]:
    """Read the bundle's labels: name in lower case, as MONAI Label has it, to number."""
    content = json.loads(metadata.read_text("utf-8"))
    channels = content["network_data_format"]["outputs"]["pred"]["channel_def"]
    return {name.lower(): int(number) for number, name in channels.items() if int(number)}


def _list_segments(name: str, info: Any, names: dict[str, int]) -> list[tuple[int, int]]:
    """Number of the label and value in the file, of every segment that the bundle knows."""
    default = [{"name": label, "idx": number} for label, number in names.items()]
    try:
        segments: Any = (info or {}).get("label_info") or default
        pairs = [(names.get(str(s["name"]).lower()), int(s["idx"])) for s in segments]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(
            f"label_info of a submitted label must be a list of names and numbers, that of "
            f"{name!r} is none. Submit it again."
        ) from error
    return [(number, value) for number, value in pairs if number]
