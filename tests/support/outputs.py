"""Write the outputs of a small case as the bundle does, and say what lies in a folder of them."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor

from grata_monai.read.outputs import list_masks
from grata_monai.write.commit import claim, staged
from grata_monai.write.image import SaveImageAndRecordd, hash_labels


def write_pair(out: Path, case: str = "a", *, value: int = 1, made_from: str = "") -> None:
    """Write mask and record of a case of 2 × 2 × 2 voxels, all of one value."""
    meta = {"spatial_shape": (2, 2, 2), "original_affine": np.eye(4)}
    pred = MetaTensor(torch.full((1, 2, 2, 2), value), affine=torch.eye(4), meta=meta)
    record = json.dumps({"value": value})
    data: dict[Any, Any] = {"case": case, "pred": pred, "grata": record, "made_from": made_from}
    SaveImageAndRecordd("pred", out)(data)


def write_volume(out: Path, name: str = "a", *, value: int = 1, made_from: str = "") -> None:
    """Write the folder of a DICOM volume: an object that is none, and its record."""
    with claim(out) as folder, staged(folder) as stage:
        (stage / name).mkdir()
        (stage / name / "segmentation.dcm").write_text(str(value))
        objects = [{"file": "segmentation.dcm", "sop_instance_uid": f"1.{value}"}]
        content = {"value": value, "dicom": {"objects": objects, "made_from": made_from}}
        (stage / name / "record.json").write_text(json.dumps(content))


def read_values(out: Path) -> dict[str, int]:
    """Value of every finished case; fails if a record stands beside what it does not describe."""
    found = {}
    for record in out.glob("*_record.json"):
        value = json.loads(record.read_text())["value"]
        for name, digest in list_masks([record]).items():
            labels = np.asarray(nib.Nifti1Image.from_filename(out / name).dataobj)
            assert hash_labels(labels) == digest
            assert {*np.unique(labels).tolist()} == {value}
        found[record.name.removesuffix("_record.json")] = value
    for record in out.glob("*/record.json"):
        if not record.parent.name.startswith("."):
            value = json.loads(record.read_text())["value"]
            assert (record.parent / "segmentation.dcm").read_text() == str(value)
            found[record.parent.name] = value
    return found
