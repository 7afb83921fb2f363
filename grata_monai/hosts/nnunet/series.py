"""Read DICOM series for nnU-Net, and write DICOM objects on their own frames."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from grata_monai.hosts.nnunet.sources import Case, turn
from grata_monai.nnunet.cases import check_voxels
from grata_monai.nnunet.grid import invert_layout, plan_layout
from grata_monai.nnunet.options import Segmented
from grata_monai.read.dicom.load import read_volume
from grata_monai.read.dicom.triage import Triage
from grata_monai.write.dicom.coded_concepts import Segment
from grata_monai.write.dicom.save import SaveDicomd

__all__ = ["Series"]


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
        return turn(voxels)[None], {"spacing": turned[::-1], "dicom": (image, layout)}

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
            for one in (turn(done.labels), *done.maps)
        )
        pred = MetaTensor(labels[None], affine=affine)
        source = MetaTensor(maps[0][None], affine=affine)
        item: dict[Hashable, Any] = {"pred": pred, "source": source, "grata": done.record}
        item.update(case)
        writer = SaveDicomd("pred", self.found.volumes, self.segments, self.output_dir)
        written = writer(item)
        shown = {"original": image, "maps": torch.from_numpy(np.stack(maps))}
        return {str(key): value for key, value in (written | shown).items()}
