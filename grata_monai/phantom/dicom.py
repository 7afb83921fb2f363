"""A synthetic DICOM series from a volume: classic or enhanced MR and CT, in any transfer syntax.

For tests and demonstrations. The patient's data are obviously fake, unique identifiers come from a
seed, and the same arguments give the same bytes. Array axes (x, y, z) become column, row, frame.
Intensities are rounded to what the pixels can hold; `stored_volume` says what a reader must return.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pydicom.valuerep import DSfloat

from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.phantom import dicom_modules as modules
from grata_monai.phantom.geometry import Float64
from grata_monai.phantom.jpeg import encode_baseline, encode_lossless

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
Rescale = tuple[float, float]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
LIBRARY = (RLELossless, JPEGLSLossless, JPEG2000Lossless)  # pydicom finds their encoders
OWN = (JPEGLossless, JPEGLosslessSV1, JPEGBaseline8Bit)
TRANSFER_SYNTAXES = tuple(str(uid) for uid in (*NATIVE, *LIBRARY, *OWN))


@dataclass(frozen=True)
class SeriesOptions:
    """What kind of series to make; checked when built.

    Attributes:
        modality: ``"MR"`` or ``"CT"``.
        is_enhanced: One file of many frames (Enhanced MR or CT) instead of one file per slice.
        transfer_syntax: One of `TRANSFER_SYNTAXES`. JPEG Baseline takes 8 unsigned bits and loses.
        bits_stored: 2 to 16; up to 8 are stored in bytes, more in words.
        is_signed: Two's complement.
        rescale: Slope and intercept of all slices, or one pair per slice. Nothing: for CT
            (1, -1024) if unsigned and (1, 0) if signed, for classic MR no such elements.
        tilt_degrees: Gantry tilt: each slice lies lower along the columns than the last one.
        is_shuffled: File names and InstanceNumber say nothing about the place of a slice.
        description: SeriesDescription.
        body_part: BodyPartExamined; left out if empty.
        image_type: ImageType; nothing for what a scanner writes.
        series: SeriesNumber, from 1; series of one seed share study and frame of reference.
        seed: Decides all unique identifiers.

    Raises:
        ValueError: If an option breaks its rule.
    """

    modality: str = "MR"
    is_enhanced: bool = False
    transfer_syntax: str = ExplicitVRLittleEndian
    bits_stored: int = 16
    is_signed: bool = False
    rescale: Rescale | tuple[Rescale, ...] | None = None
    tilt_degrees: float = 0.0
    is_shuffled: bool = False
    description: str = "t2_tse_tra"
    body_part: str = "PROSTATE"
    image_type: tuple[str, ...] = ()
    series: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.modality not in ("MR", "CT"):
            raise ValueError(f"modality must be 'MR' or 'CT', got {self.modality!r}. Take one.")
        if self.transfer_syntax not in TRANSFER_SYNTAXES:
            raise ValueError(
                f"transfer_syntax must be one of {', '.join(TRANSFER_SYNTAXES)}, got "
                f"{self.transfer_syntax!r}. Take pydicom.uid.ExplicitVRLittleEndian."
            )
        if not 2 <= self.bits_stored <= 16:
            raise ValueError(
                f"bits_stored must lie in 2 to 16, got {self.bits_stored}. Scanners have 12 or 16."
            )
        if self.transfer_syntax == JPEGBaseline8Bit and (self.bits_stored > 8 or self.is_signed):
            raise ValueError(
                f"bits_stored must be 8 and unsigned for JPEG Baseline, got {self.bits_stored}. "
                "Take 8 bits, or JPEG Lossless."
            )
        if not abs(self.tilt_degrees) < 60:
            raise ValueError(
                f"tilt_degrees must lie between -60 and 60, got {self.tilt_degrees}. "
                "Gantries reach 30."
            )

    def rescales(self, slices: int) -> list[Rescale]:
        """Slope and intercept of each of so many slices."""
        if self.rescale is None:
            default = (1.0, -1024.0) if self.modality == "CT" and not self.is_signed else (1.0, 0.0)
            return [default] * slices
        pairs = np.asarray(self.rescale, dtype=np.float64)
        if pairs.shape not in ((2,), (slices, 2)) or not np.isfinite(pairs).all():
            raise ValueError(
                f"rescale must be a finite pair or one per slice ({slices}), got shape "
                f"{pairs.shape}. Give (slope, intercept)."
            )
        rows = np.broadcast_to(pairs, (slices, 2))
        return [(float(slope), float(intercept)) for slope, intercept in rows]


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
    slope, intercept = np.transpose(options.rescales(image.shape[2]))
    voxels = _stored(image, options) * slope + intercept
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
    frames = np.moveaxis(_stored(image, options), (2, 1, 0), (0, 1, 2))
    rescales = options.rescales(len(frames))
    slices = [
        modules.Slice(_texts(affine_lps[:3, 3] + index * affine_lps[:3, 2]), index + 1, *pair)
        for index, pair in enumerate(rescales)
    ]
    plane = _plane(affine_lps)
    if options.is_enhanced:
        series = [modules.enhanced_instance(_facts(options), plane, slices)]
        groups = [frames]
    else:
        has_rescale = options.modality == "CT" or options.rescale is not None
        facts = _facts(options)
        series = [modules.classic_instance(facts, plane, s, has_rescale) for s in slices]
        groups = [frame[None] for frame in frames]
    for number, (instance, group) in enumerate(zip(series, groups, strict=True), start=1):
        _identify(instance, options, number)
        _encode(instance, group, options)
    if options.is_shuffled:
        order = np.random.default_rng((options.seed, options.series)).permutation(len(series))
        for instance, other in zip(series, order.tolist(), strict=True):
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


def _stored(image: Image, options: SeriesOptions) -> NDArray[np.int64]:
    """Round to stored values, shape of `image`; they must fit."""
    if image.ndim != 3 or min(image.shape) < 1:
        raise ValueError(f"image must have three axes, got shape {image.shape}. Give one volume.")
    slope, intercept = np.transpose(options.rescales(image.shape[2]))
    stored: Float64 = np.rint((image - intercept) / slope)
    low = -(1 << (options.bits_stored - 1)) if options.is_signed else 0
    high = low + (1 << options.bits_stored) - 1
    if not ((stored >= low) & (stored <= high)).all():
        raise ValueError(
            f"stored values must lie in {low} to {high}, got {stored.min():g} to {stored.max():g}. "
            "Choose another rescale, more bits, or signed pixels."
        )
    whole: NDArray[np.int64] = stored.astype(np.int64)
    return whole


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


def _encode(instance: Dataset, frames: NDArray[np.int64], options: SeriesOptions) -> None:
    """Set the Image Pixel module from frames of shape (frames, rows, columns)."""
    syntax = UID(options.transfer_syntax)
    allocated = 8 if options.bits_stored <= 8 else 16
    instance.SamplesPerPixel = 1
    instance.PhotometricInterpretation = "MONOCHROME2"
    _, instance.Rows, instance.Columns = frames.shape
    instance.BitsAllocated, instance.BitsStored = allocated, options.bits_stored
    instance.HighBit = options.bits_stored - 1
    instance.PixelRepresentation = int(options.is_signed)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    pixels = frames.astype(f"{order}{'i' if options.is_signed else 'u'}{allocated // 8}")
    if syntax in OWN:
        instance.PixelData = encapsulate([_compress(frame, options) for frame in frames])
        instance["PixelData"].VR = "OB"
        if syntax == JPEGBaseline8Bit:
            instance.LossyImageCompression = "01"
            instance.LossyImageCompressionMethod = "ISO_10918_1"
            instance.LossyImageCompressionRatio = "4.0"
        return
    content = pixels.tobytes()
    instance.PixelData = content + b"\0" * (len(content) % 2)
    instance["PixelData"].VR = "OB" if allocated == 8 else "OW"
    if syntax in LIBRARY:
        instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        instance.compress(syntax, generate_instance_uid=False)


def _compress(frame: NDArray[np.int64], options: SeriesOptions) -> bytes:
    if options.transfer_syntax == JPEGBaseline8Bit:
        return encode_baseline(frame.astype(np.uint8))
    mask = (1 << options.bits_stored) - 1
    return encode_lossless((frame & mask).astype(np.uint16), bits=options.bits_stored)


def _texts(values: Sequence[float] | Float64) -> list[DSfloat]:
    """Write numbers as decimal strings of at most 16 characters, as exactly as these allow."""
    return [DSfloat(float(value), auto_format=True) for value in values]
