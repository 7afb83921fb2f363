"""A synthetic DICOM series from a volume: classic or enhanced MR and CT, in any transfer syntax.

For tests and demonstrations. The patient's data are obviously fake, unique identifiers come from a
seed, and the same arguments give the same bytes. Array axes (x, y, z) become column, row, frame.
Intensities are rounded to what the pixels can hold; `stored_volume` says what a reader must return.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID
from pydicom.valuerep import DSfloat

from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.phantom import dicom_modules as modules
from grata_monai.phantom.dicom_options import TRANSFER_SYNTAXES, SeriesOptions
from grata_monai.phantom.dicom_pixels import encode, store
from grata_monai.phantom.dicom_vendors import add_scale, as_vendor, order_frames
from grata_monai.phantom.geometry import Float64

__all__ = [
    "TRANSFER_SYNTAXES",
    "SeriesOptions",
    "make_series",
    "make_uid",
    "stored_volume",
    "write_instances",
    "write_nifti_as_series",
    "write_series",
]

Image = NDArray[np.number[Any]]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def make_uid(*parts: object) -> str:
    """Make a valid unique identifier (2.25.<128 bits>) that depends on the parts alone."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def stored_volume(
    image: Image, affine_ras: Float64, *, options: SeriesOptions = SeriesOptions()
) -> tuple[Float64, Float64]:
    """Say what a reader must make of the series that `write_series` writes.

    Args:
        image: As for `write_series`.
        affine_ras: As for `write_series`.
        options: As for `write_series`.

    Returns:
        Intensities after rounding and rescale, shape (columns, rows, slices), ordered along the
        planes' normal; and the affine that belongs to them, 4×4, RAS in mm, sheared by the tilt.
        JPEG Baseline may return intensities that are off by its losses.

    Raises:
        ValueError: As `write_series`.
    """
    affine_lps = _tilted(affine_ras, options.tilt_degrees)
    slope, intercept = np.transpose(options.read_rescales(image.shape[2]))
    voxels = store(image, options) * slope + intercept
    if np.linalg.det(affine_lps[:3, :3]) < 0:
        voxels = voxels[:, :, ::-1]
        affine_lps[:3, 3] += (voxels.shape[2] - 1) * affine_lps[:3, 2]
        affine_lps[:3, 2] *= -1
    return voxels, np.asarray(LPS_TO_RAS @ affine_lps, dtype=np.float64)


def make_series(
    image: Image, affine_ras: Float64, *, options: SeriesOptions = SeriesOptions()
) -> list[Dataset]:
    """Make the instances of a series in memory: one per slice, or a single enhanced one.

    Arguments and errors are those of `write_series`.

    Returns:
        Data sets with file meta information, in the order of the array's last axis.
    """
    affine_lps = _tilted(affine_ras, options.tilt_degrees)
    frames = np.moveaxis(store(image, options), (2, 1, 0), (0, 1, 2))
    rescales = options.rescales(len(frames))
    slices = [
        modules.Slice(_texts(affine_lps[:3, 3] + index * affine_lps[:3, 2]), index + 1, *pair)
        for index, pair in enumerate(rescales)
    ]
    plane, facts = _plane(affine_lps), _facts(options)
    scales = options.scale_slopes(len(frames))
    if options.is_enhanced:
        order = order_frames(range(len(frames)), vendor=options.vendor)
        series = [modules.enhanced_instance(facts, plane, [slices[i] for i in order])]
        as_vendor(series[0], vendor=options.vendor, scales=[scales[i] for i in order if scales])
        groups = [frames[order]]
    else:
        has_rescale = options.modality == "CT" or options.rescale is not None or options.is_scaled
        series = [modules.classic_instance(facts, plane, s, has_rescale) for s in slices]
        for instance, scale in zip(series, scales, strict=False):
            add_scale(instance, scale)
        groups = [frame[None] for frame in frames]
    for number, (instance, group) in enumerate(zip(series, groups, strict=True), start=1):
        _identify(instance, options, number)
        encode(instance, group, options)
    if options.is_shuffled:
        mixed = np.random.default_rng((options.seed, options.series)).permutation(len(series))
        for instance, other in zip(series, mixed.tolist(), strict=True):
            instance.InstanceNumber = other + 1
    return series


def write_instances(
    instances: Sequence[Dataset], folder: str | os.PathLike[str], *, has_plain_names: bool = True
) -> list[Path]:
    """Write data sets as DICOM files.

    Args:
        instances: With file meta information.
        folder: Made if missing; files of the same names are replaced.
        has_plain_names: ``0001.dcm`` and so on, or hashes without an extension.

    Returns:
        Paths, in the order of `instances`.

    Raises:
        OutputError: If the folder or a file cannot be written.
    """
    target = ensure_writable(Path(folder))
    paths = []
    for number, instance in enumerate(instances, start=1):
        uid = str(instance.file_meta.MediaStorageSOPInstanceUID)
        hashed = hashlib.sha256(uid.encode()).hexdigest()[:16]
        name = f"{number:04d}.dcm" if has_plain_names else hashed
        paths.append(target / name)
        with atomic_path(paths[-1]) as unfinished:
            instance.save_as(unfinished, enforce_file_format=True)
    return paths


def write_series(
    folder: str | os.PathLike[str],
    image: Image,
    affine_ras: Float64,
    *,
    options: SeriesOptions = SeriesOptions(),
) -> list[Path]:
    """Write a volume as a DICOM series.

    Args:
        folder: Made if missing.
        image: Intensities, shape (columns, rows, slices). They are rounded to the nearest value
            that the pixels hold, see `stored_volume`.
        affine_ras: 4×4, voxel index to RAS in mm, axes orthogonal; any orientation.
        options: What kind of series.

    Returns:
        Paths, in the order of the array's last axis; a single one if enhanced.

    Raises:
        ValueError: If an argument breaks its rule, or an intensity does not fit into the pixels.
        OutputError: If the folder or a file cannot be written.
    """
    series = make_series(image, affine_ras, options=options)
    return write_instances(series, folder, has_plain_names=not options.is_shuffled)


def write_nifti_as_series(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    options: SeriesOptions = SeriesOptions(),
) -> list[Path]:
    """Write a NIfTI image as a DICOM series, its slices along the last axis.

    Args:
        path: Of the image, with axes that are orthogonal.
        folder: As for `write_series`.
        options: As for `write_series`.

    Returns:
        Paths, in the order of the image's last axis.

    Raises:
        ValueError: As `write_series`.
        OutputError: If the folder or a file cannot be written.
    """
    nifti = nib.Nifti1Image.from_filename(path)
    image = np.asarray(nifti.dataobj, dtype=np.float64)
    return write_series(folder, image, np.asarray(nifti.affine, np.float64), options=options)


def _tilted(affine_ras: Float64, degrees: float) -> Float64:
    """Turn to LPS, check, and shear the step between slices along the columns."""
    affine_lps = LPS_TO_RAS @ np.asarray(affine_ras, dtype=np.float64)
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    if not np.isfinite(affine_lps).all() or not (spacing > 0).all():
        raise ValueError("affine_ras must be finite and invertible, it is not. Give another one.")
    cosines = affine_lps[:3, :3] / spacing
    shear = float(np.abs(cosines.T @ cosines - np.eye(3)).max())
    if shear > 1e-4:
        raise ValueError(
            f"axes of affine_ras must be orthogonal, two have a cosine of {shear:.4f}. "
            "Use tilt_degrees for a sheared stack."
        )
    affine_lps[:3, 2] += np.tan(np.deg2rad(degrees)) * spacing[2] * cosines[:, 1]
    return affine_lps


def _plane(affine_lps: Float64) -> modules.Plane:
    axes = affine_lps[:3, :2]
    columns, rows = np.linalg.norm(axes, axis=0).tolist()
    normal = np.cross(axes[:, 0], axes[:, 1]) / (columns * rows)
    directions = np.concatenate([axes[:, 0] / columns, axes[:, 1] / rows])
    thickness = abs(float(affine_lps[:3, 2] @ normal))
    return modules.Plane(_texts(directions), _texts([rows, columns]), _texts([thickness])[0])


def _facts(options: SeriesOptions) -> modules.Facts:
    return modules.Facts(
        modality=options.modality,
        image_type=options.image_type,
        description=options.description,
        body_part=options.body_part,
        series=options.series,
        tilt_degrees=options.tilt_degrees,
    )


def _identify(instance: Dataset, options: SeriesOptions, number: int) -> None:
    seed, series = options.seed, options.series
    instance.StudyInstanceUID = make_uid("study", seed)
    instance.SeriesInstanceUID = make_uid("series", seed, series)
    instance.FrameOfReferenceUID = make_uid("frame of reference", seed)
    instance.SOPInstanceUID = make_uid("instance", seed, series, number)
    instance.file_meta = FileMetaDataset()
    instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
    instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    instance.file_meta.TransferSyntaxUID = UID(options.transfer_syntax)


def _texts(values: Sequence[float] | Float64) -> list[DSfloat]:
    """Write numbers as decimal strings of at most 16 characters, as exactly as these allow."""
    return [DSfloat(float(value), auto_format=True) for value in values]
