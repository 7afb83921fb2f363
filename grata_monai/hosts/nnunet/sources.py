"""Read image files as nnU-Net names them, and write masks and records beside each other."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from grata_monai.nnunet.cases import check_files, check_voxels, read_voxels
from grata_monai.nnunet.folder import ModelFolder
from grata_monai.nnunet.grid import affine_ras
from grata_monai.nnunet.options import Segmented
from grata_monai.read.outputs import RECORD_ENDING
from grata_monai.record.types import Output
from grata_monai.write.commit import claim, staged
from grata_monai.write.image import hash_labels

__all__ = ["Case", "Images", "Source", "turn"]

Case = Mapping[str, Any]


class Source(Protocol):
    """Reads cases for nnU-Net, and writes what became of them."""

    def read(self, case: Case) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return voxels (c, z, y, x), and properties as nnU-Net's readers give them."""

    def write(self, case: Case, voxels: NDArray[Any], done: Segmented) -> dict[str, Any]:
        """Write mask and record; return what handlers are shown, on the image's grid."""


@dataclass(frozen=True)
class Images:
    """Image files, read and written by nnU-Net's own reader.

    Attributes:
        folder: The trained network.
        reader: Of nnU-Net.
        output_dir: Where ``<case>`` with the images' ending and ``<case>_record.json`` go.
    """

    folder: ModelFolder
    reader: Any
    output_dir: Path

    def read(self, case: Case) -> tuple[NDArray[Any], dict[str, Any]]:
        """Read the files of a case."""
        files, channels = case["images"], self.folder.channels
        check_files(files, self.folder.ending, channels)
        voxels, properties = read_voxels(self.reader, files)
        check_voxels(voxels, len(channels))
        return voxels, properties

    def write(self, case: Case, voxels: NDArray[Any], done: Segmented) -> dict[str, Any]:
        """Write mask and record, both or neither."""
        name = case["case"]
        file, record_file = f"{name}{self.folder.ending}", f"{name}{RECORD_ENDING}"
        with claim(self.output_dir) as folder, staged(folder) as stage:
            self.reader.write_seg(done.labels, str(stage / file), done.properties)
            output = Output(file, _hash(stage / file, done.labels), made_from=case["made_from"])
            record = {**json.loads(done.record), "output": asdict(output)}
            text = json.dumps(record, indent=2, sort_keys=True) + "\n"
            (stage / record_file).write_text(text, encoding="utf-8")
        affine = torch.as_tensor(affine_ras(done.properties))
        return {
            "case": name,
            "made_from": case["made_from"],
            "grata": done.record,
            "pred": MetaTensor(turn(done.labels)[None], affine=affine),
            "original": torch.from_numpy(turn(voxels[0])[None]),
            "maps": torch.from_numpy(done.maps),
        }


def turn(array: NDArray[Any]) -> NDArray[Any]:
    """Turn (z, y, x), as nnU-Net has it, into (x, y, z), and back."""
    return np.ascontiguousarray(array.transpose(2, 1, 0))


def _hash(path: Path, labels: NDArray[Any]) -> str:
    """Hash a mask's voxels as they lie in its file; a NIfTI's are read back, as a rerun does."""
    if path.name.endswith((".nii", ".nii.gz")):
        return hash_labels(np.asarray(nib.Nifti1Image.from_filename(path).dataobj))
    return hash_labels(turn(labels))
