"""Read one volume with its geometry, or refuse it with the reason and what to do.

Decisions:

- Files are decoded in `decode`, in a confined subprocess; MONAI's readers let damaged ones pass.
- Sheared grids are refused: neither NIfTI's qform, ITK, nor DICOM SEG can hold them.
- `meta` holds only what geometry needs. Other header fields may name the patient.
"""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import MapTransform
from monai.utils import MetaKeys, SpaceKeys

from grata_monai.core.errors import (
    ChannelError,
    GeometryError,
    IntensityError,
    UnreadableImageError,
)
from grata_monai.core.limits import CASE_SECONDS, Limits
from grata_monai.read.decode import FILE_LIMITS, Float64, decode
from grata_monai.read.elapsed import note_elapsed
from grata_monai.read.formats.stored import EXPORT_AGAIN

__all__ = [
    "CheckImaged",
    "LoadImageCheckedd",
    "ReadLabeld",
    "check_image",
    "name_image",
    "read_image",
]

SPACING_RANGE = (0.01, 100.0)  # mm
LARGEST_SHEAR = 0.01  # cosine between two axes


def read_image(
    path: str | Path, *, channels: int = 1, spatial_dims: int = 3, limits: Limits | None = None
) -> MetaTensor:
    """Read and check one image.

    Args:
        path: A file of one of the `EXTENSIONS`.
        channels: How many channels the network takes; in a file they are the last axis.
        spatial_dims: 2 or 3.
        limits: Of size, memory and time; `FILE_LIMITS` of `decode` if None.

    Returns:
        float32 (c, *s) with the file's affine (voxel index to RAS in mm), and in `meta` what
        MONAI's `Invertd` and `SaveImage` need.

    Raises:
        UnreadableImageError: If the file is missing, damaged, too large, or no image of real
            numbers.
        GeometryError: If axes, affine or spacing are missing or make no sense.
        ChannelError: If the number of channels differs.
        IntensityError: If voxels are not finite, or all equal.
    """
    image = _read(Path(path), channels=channels, spatial_dims=spatial_dims, limits=limits)
    _check_intensities(image, Path(path).name)
    return image


def check_image(
    image: torch.Tensor, *, name: str = "image", channels: int = 1, spatial_dims: int = 3
) -> MetaTensor:
    """Check an image that a host has loaded already.

    Args:
        image: (c, *s), or (*s) of one channel; without an affine it lies on the unit grid.
        name: What to call it in an error.
        channels: How many channels the network takes.
        spatial_dims: 2 or 3.

    Returns:
        The image as float32 (c, *s); a new object, but the voxels are shared where possible.

    Raises:
        GeometryError: If axes, affine or spacing make no sense.
        ChannelError: If the number of channels differs.
        IntensityError: If voxels are not finite, or all equal.
    """
    voxels = image.as_tensor() if isinstance(image, MetaTensor) else image
    voxels = voxels[None] if voxels.ndim == spatial_dims else voxels
    meta = dict(image.meta) if isinstance(image, MetaTensor) else {}
    trace = image.applied_operations if isinstance(image, MetaTensor) else None
    meta[str(MetaKeys.ORIGINAL_CHANNEL_DIM)] = 0
    checked = MetaTensor(voxels.to(torch.float32), meta=meta, applied_operations=trace)
    _check_axes(checked.shape[1:], name, spatial_dims=spatial_dims)
    _check_channels(checked.shape[0], name, channels=channels)
    _check_affine(np.asarray(checked.affine.cpu()), name, spatial_dims=spatial_dims)
    _check_intensities(checked, name)
    return checked


class CheckImaged(MapTransform):
    """Check images that are loaded already, and give them a channel axis: `check_image`.

    Args:
        keys: Of images.
        channels: How many channels the network takes.
        spatial_dims: 2 or 3.
        allow_missing_keys: Whether to pass over missing keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        channels: int = 1,
        spatial_dims: int = 3,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.channels, self.spatial_dims = channels, spatial_dims

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with checked images."""
        checked = dict(data)
        for key in self.key_iterator(checked):
            checked[key] = check_image(
                torch.as_tensor(checked[key]),
                name=name_image(checked[key], key),
                channels=self.channels,
                spatial_dims=self.spatial_dims,
            )
        return checked


class LoadImageCheckedd(CheckImaged):
    """Read and check images: `read_image` for dictionaries.

    MONAI Deploy loads images itself and removes every transform with "LoadImage" in its class
    name; put a `CheckImaged` behind this one to check there too.

    Args:
        keys: Of paths: a file of one of the `EXTENSIONS`; a folder with one DICOM volume, or a file
            that ends in ``.dcm``. An image that is loaded already is only checked.
        channels: How many channels the network takes.
        spatial_dims: 2 or 3.
        allow_missing_keys: Whether to pass over missing keys.
        selection: Which DICOM volume of a folder is meant: fields of `Selection`.
        limits: What a file or volume may cost; the defaults for its kind if None.
        case_seconds: How long a case may take to read, above 0; replaces that of the limits.
    """

    def __init__(
        self,
        keys: KeysCollection,
        channels: int = 1,
        spatial_dims: int = 3,
        allow_missing_keys: bool = False,
        selection: Mapping[str, Any] | None = None,
        *,
        limits: Limits | None = None,
        case_seconds: int | float = CASE_SECONDS,
    ) -> None:
        super().__init__(keys, channels, spatial_dims, allow_missing_keys)
        self.selection = selection
        self.file_limits = replace(limits or FILE_LIMITS, case_seconds=case_seconds)
        self.dicom_limits = replace(limits or Limits(), case_seconds=case_seconds)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with images in place of paths."""
        settings: dict[str, int] = {"channels": self.channels, "spatial_dims": self.spatial_dims}
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            value, start = loaded[key], monotonic()
            if isinstance(value, torch.Tensor):
                loaded[key] = check_image(value, name=name_image(value, key), **settings)
                continue
            if _is_dicom(value):
                volume = _read_dicom(value, self.selection, self.dicom_limits)
                image = check_image(volume, name=name_image(volume, key), **settings)
            else:
                image = read_image(value, limits=self.file_limits, **settings)
            loaded[key] = note_elapsed(image, start)
        return loaded


class ReadLabeld(MapTransform):
    """Read label maps: one channel of whole numbers, int32; an empty one is no error.

    Args:
        keys: Of paths.
        spatial_dims: 2 or 3.
        allow_missing_keys: Whether to pass over missing keys.
    """

    def __init__(
        self, keys: KeysCollection, spatial_dims: int = 3, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_dims = spatial_dims

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with label maps in place of paths."""
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            label = _read(Path(loaded[key]), channels=1, spatial_dims=self.spatial_dims)
            if not bool((label == label.round()).all()):
                raise IntensityError(
                    f"label map must hold whole numbers, {Path(loaded[key]).name!r} does not. "
                    "Save the segmentation without smoothing or resampling."
                )
            loaded[key] = label.to(torch.int32)
        return loaded


def _is_dicom(path: str | Path) -> bool:
    if not str(path):  # what a host gives for a name it does not know; as a path, this folder
        raise UnreadableImageError(
            "image must be named, got an empty path. Choose one of the images that the host lists."
        )
    return Path(path).is_dir() or Path(path).suffix.lower() == ".dcm"


def _read_dicom(
    path: str | Path, selection: Mapping[str, Any] | None, limits: Limits | None
) -> MetaTensor:
    from grata_monai.read.dicom.folder import read_folder  # noqa: PLC0415  # pydicom is an extra

    return read_folder(path, selection=selection, limits=limits)


def _read(
    path: Path, *, channels: int, spatial_dims: int, limits: Limits | None = None
) -> MetaTensor:
    """Read a file and check everything but its intensities."""
    name = path.name
    voxels, affine = decode(path, limits=limits)
    _check_axes(voxels.shape[:spatial_dims], name, spatial_dims=spatial_dims)
    extra = tuple(extent for extent in voxels.shape[spatial_dims:] if extent != 1)
    if len(extra) > 1:
        raise GeometryError(
            f"image must have {spatial_dims} spatial axes and at most one of channels, "
            f"{name!r} has shape {voxels.shape}. Save one volume per file."
        )
    voxels = np.moveaxis(voxels.reshape(*voxels.shape[:spatial_dims], *(extra or (1,))), -1, 0)
    _check_channels(voxels.shape[0], name, channels=channels)
    _check_affine(affine, name, spatial_dims=spatial_dims)
    tensor = torch.from_numpy(np.ascontiguousarray(voxels))
    meta = {
        MetaKeys.AFFINE: torch.as_tensor(affine),
        MetaKeys.ORIGINAL_AFFINE: affine,
        MetaKeys.SPATIAL_SHAPE: np.asarray(voxels.shape[1:]),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        "filename_or_obj": str(path),
    }
    return MetaTensor(tensor, meta={str(key): value for key, value in meta.items()})


def _check_axes(spatial_shape: tuple[int, ...], name: str, *, spatial_dims: int) -> None:
    if len(spatial_shape) != spatial_dims:
        raise GeometryError(
            f"image must have {spatial_dims} spatial axes, {name!r} has {len(spatial_shape)}. "
            "Save the whole volume as one file, or choose a network for these images."
        )
    if min(spatial_shape) < 2:
        raise GeometryError(
            f"image must have at least 2 voxels along every axis, {name!r} has "
            f"{'×'.join(map(str, spatial_shape))}. Save the whole volume, not a single slice."
        )


def _check_channels(count: int, name: str, *, channels: int) -> None:
    if count != channels:
        raise ChannelError(
            f"image must have {channels} channel(s), {name!r} has {count}. "
            "Save one volume (one time point, echo or contrast) per file."
        )


def _check_affine(affine: Float64, name: str, *, spatial_dims: int) -> None:
    columns = np.asarray(to_affine_nd(spatial_dims, affine))[:spatial_dims, :spatial_dims]
    if not np.isfinite(affine).all():
        raise GeometryError(
            f"affine must be finite, {name!r} has NaN or infinite entries. {EXPORT_AGAIN}"
        )
    spacing = np.linalg.norm(columns, axis=0)
    low, high = SPACING_RANGE
    if not ((low <= spacing) & (spacing <= high)).all():
        raise GeometryError(
            f"spacing must lie in [{low}, {high:g}] mm, {name!r} has "
            f"{' × '.join(f'{value:.4g}' for value in spacing)}. {EXPORT_AGAIN}"
        )
    cosines = columns / spacing
    if np.linalg.svd(cosines, compute_uv=False).min() < 1e-3:
        raise GeometryError(
            f"affine must be invertible, {name!r} has axes in one plane. {EXPORT_AGAIN}"
        )
    shear = float(np.abs(cosines.T @ cosines - np.eye(spatial_dims)).max())
    if shear > LARGEST_SHEAR:
        raise GeometryError(
            f"axes must be orthogonal, two axes of {name!r} have a cosine of {shear:.3f}. "
            "Resample the image to an orthogonal grid, as for gantry tilt."
        )


def _check_intensities(image: torch.Tensor, name: str) -> None:
    is_finite = torch.isfinite(image)
    if not bool(is_finite.all()):
        count = int((~is_finite).sum())
        raise IntensityError(
            f"voxels must be finite, {name!r} has {count} NaN or infinite of {image.numel()}. "
            "Replace them, for instance by 0, if you know where they come from."
        )
    if bool(image.min() == image.max()):
        raise IntensityError(
            f"voxels must not all be equal, {name!r} holds only {float(image.min()):g}. "
            "Check the export; there is nothing to segment."
        )


def name_image(image: Any, key: Hashable) -> str:
    """Name an image in an error: by its file, or by its key."""
    file = getattr(image, "meta", {}).get("filename_or_obj")
    return Path(str(file)).name if file else str(key)
