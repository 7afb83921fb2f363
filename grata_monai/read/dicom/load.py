"""Load an accepted volume as an image with its geometry, and map results back to its frames."""

from collections.abc import Hashable, Mapping, Sequence
from time import monotonic
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from grata_monai.core.errors import DatasetError, GeometryError
from grata_monai.read.dicom.decode import check_budget, decode_padded
from grata_monai.read.dicom.grid import FrameGrid
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.volume import DicomVolume
from grata_monai.read.elapsed import note_elapsed
from grata_monai.read.padding import PADDING_KEY

__all__ = ["LoadDicomVolumed", "map_probabilities_to_frames", "map_to_frames", "read_volume"]

Array = NDArray[Any] | torch.Tensor


def read_volume(volume: DicomVolume, *, limits: Limits | None = None) -> MetaTensor:
    """Decode a volume's frames onto an orthogonal grid.

    Args:
        volume: What triage accepted. A tilted one is resampled within its planes (`FrameGrid`).
        limits: Of size, memory and time; the defaults of `Limits` if None.

    Returns:
        float32 (1, columns, rows, frames) with the grid's affine (voxel index to RAS in mm), and
        in `meta` what MONAI's `Invertd` and `SaveImage` need; the name is the volume's.

    Raises:
        DicomError: If files changed since triage, cannot be decoded, or go beyond the limits.
    """
    limits = limits or Limits()
    grid = FrameGrid(volume)
    check_budget(grid.spatial_shape, limits=limits)
    decoded, padding = decode_padded(volume, limits=limits)
    voxels = grid.resample(decoded)
    affine = grid.affine_ras
    meta = {
        MetaKeys.AFFINE: torch.as_tensor(affine),
        MetaKeys.ORIGINAL_AFFINE: affine,
        MetaKeys.SPATIAL_SHAPE: np.asarray(voxels.shape),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        "filename_or_obj": volume.name,
        **({PADDING_KEY: padding / voxels.size} if padding else {}),
    }
    tensor = torch.from_numpy(voxels[None])
    return MetaTensor(tensor, meta={str(key): value for key, value in meta.items()})


def map_to_frames(label_map: Array, affine_ras: Array, volume: DicomVolume) -> NDArray[np.uint8]:
    """Bring a label map from the grid of `read_volume` to the source frames.

    Args:
        label_map: Whole numbers from 0 to 255, (*s).
        affine_ras: 4×4, its index to RAS in mm.
        volume: What `read_volume` got.

    Returns:
        (frames, rows, columns), in the order of `volume.frames`: the same voxels for an orthogonal
        stack, the nearest ones for a tilted one.

    Raises:
        GeometryError: If the label map does not lie on the volume's grid.
        ValueError: If a label is no whole number from 0 to 255.
    """
    values, grid = _as_array(label_map), FrameGrid(volume)
    grid.check(values.shape, _as_array(affine_ras))
    with np.errstate(invalid="ignore"):
        labels = values.astype(np.uint8)
    if not np.array_equal(labels, values):
        raise ValueError(
            "label_map must hold whole numbers from 0 to 255, got values in "
            f"[{values.min()}, {values.max()}]. Take the argmax first."
        )
    return grid.map_back(labels, order=0)


def map_probabilities_to_frames(
    probabilities: Array, affine_ras: Array, volume: DicomVolume
) -> NDArray[np.float32]:
    """Bring probabilities from the grid of `read_volume` to the source frames.

    Args:
        probabilities: (k, *s).
        affine_ras: 4×4, their spatial index to RAS in mm.
        volume: What `read_volume` got.

    Returns:
        (k, frames, rows, columns), in the order of `volume.frames`: the same values for an
        orthogonal stack, linear between voxels for a tilted one.

    Raises:
        GeometryError: If they do not lie on the volume's grid.
    """
    values, grid = _as_array(probabilities), FrameGrid(volume)
    if values.ndim != 4:
        raise GeometryError(
            f"probabilities must have the axes (k, *s), got {values.ndim} axes. "
            "Give all channels at once."
        )
    grid.check(values.shape[1:], _as_array(affine_ras))
    return np.stack([grid.map_back(channel, order=1) for channel in values.astype(np.float32)])


class LoadDicomVolumed(MapTransform):
    """Load DICOM volumes by their names: `read_volume` for dictionaries.

    Put a `CheckImaged` behind it, which checks intensities and channels.

    Args:
        keys: Of volumes' names. A tensor, loaded already, passes through.
        volumes: What triage accepted.
        limits: Of size, memory and time; the defaults of `Limits` if None.
        allow_missing_keys: Whether to pass over missing keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        volumes: Sequence[DicomVolume],
        limits: Limits | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.volumes = {volume.name: volume for volume in volumes}
        self.limits = limits
        if len(self.volumes) < len(volumes):
            raise ValueError(
                f"volumes must have different names, {len(volumes)} volumes share "
                f"{len(self.volumes)}. Take them from one triage."
            )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with images in place of names."""
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            name = loaded[key]
            if isinstance(name, torch.Tensor):
                continue
            if name not in self.volumes:
                raise DatasetError(
                    f"{key} must name one of the {len(self.volumes)} volumes, it does not. "
                    "Take the names from the triage that made the volumes."
                )
            start = monotonic()
            image = read_volume(self.volumes[name], limits=self.limits)
            loaded[key] = note_elapsed(image, start)
        return loaded


def _as_array(values: Array) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
