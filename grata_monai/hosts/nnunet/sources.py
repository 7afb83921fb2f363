"""Read cases and write their masks: image files as nnU-Net names them, and DICOM series."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from grata_monai.hosts.nnunet.cases import check_files, check_voxels, read_voxels
from grata_monai.hosts.nnunet.folder import ModelFolder
from grata_monai.hosts.nnunet.grid import affine_ras, invert_layout, plan_layout
from grata_monai.hosts.nnunet.options import Segmented
from grata_monai.read.dicom.load import read_volume
from grata_monai.read.dicom.triage import Triage
from grata_monai.read.outputs import RECORD_ENDING
from grata_monai.record.types import Output
from grata_monai.write.commit import claim, staged
from grata_monai.write.dicom.coded_concepts import Segment
from grata_monai.write.dicom.save import SaveDicomd
from grata_monai.write.image import hash_labels

__all__ = ["Images", "Series", "Source"]

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
            "pred": MetaTensor(_turn(done.labels)[None], affine=affine),
            "original": torch.from_numpy(_turn(voxels[0])[None]),
            "maps": torch.from_numpy(done.maps),
        }


@dataclass(frozen=True)
class Series:
    """DICOM series, with a folder of DICOM objects for each.

    Attributes:
        found: By triage.
        segments: What the labels mean.
        output_dir: Where the folders go.
        orientation: How the training's images lay, such as ``RAS``; empty for the way in which
            dcm2niix writes a series: as it is, rows from the bottom to the top.
    """

    found: Triage
    segments: Sequence[Segment]
    output_dir: Path
    orientation: str = ""

    def read(self, case: Case) -> tuple[NDArray[Any], dict[str, Any]]:
        """Decode a series, and lay it as the network's images lay."""
        image, layout = self._load(case)
        stack = np.ascontiguousarray(image.as_tensor().numpy()[0])
        voxels = nib.apply_orientation(stack, layout)
        spacing = np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)
        turned = [float(spacing[axis]) for axis in invert_layout(layout)[:, 0].astype(int)]
        check_voxels(voxels[None], 1)
        return _turn(voxels)[None], {"spacing": turned[::-1], "dicom": (image, layout)}

    def _load(self, case: Case) -> tuple[MetaTensor, NDArray[Any]]:
        volume = next(one for one in self.found.volumes if one.name == case["case"])
        image = read_volume(volume)
        return image, plan_layout(np.asarray(image.affine), self.orientation)

    def write(self, case: Case, voxels: NDArray[Any], done: Segmented) -> dict[str, Any]:
        """Write the folder of a series, whole or not at all."""
        image, layout = done.properties["dicom"]
        back = invert_layout(layout)
        affine = image.affine
        labels, *maps = (
            np.ascontiguousarray(nib.apply_orientation(one, back))
            for one in (_turn(done.labels), *done.maps)
        )
        pred = MetaTensor(labels[None], affine=affine)
        source = MetaTensor(maps[0][None], affine=affine)
        item: dict[Hashable, Any] = {"pred": pred, "source": source, "grata": done.record}
        item.update(case)
        writer = SaveDicomd("pred", self.found.volumes, self.segments, self.output_dir)
        written = writer(item)
        shown = {"original": image, "maps": torch.from_numpy(np.stack(maps))}
        return {str(key): value for key, value in (written | shown).items()}


def _turn(array: NDArray[Any]) -> NDArray[Any]:
    """Turn (z, y, x) into (x, y, z), and back."""
    return np.ascontiguousarray(array.transpose(2, 1, 0))


def _hash(path: Path, labels: NDArray[Any]) -> str:
    """Hash a mask's voxels as they lie in its file; a NIfTI's are read back, as a rerun does."""
    if path.name.endswith((".nii", ".nii.gz")):
        return hash_labels(np.asarray(nib.Nifti1Image.from_filename(path).dataobj))
    return hash_labels(_turn(labels))
