"""Decode one file of an image: voxels and affine, or the reason why not.

NIfTI is decoded by nibabel, from all bytes of the file. MONAI's reader never comes to the checksum
at a gzip's end, so that a damaged file reads as noise; it takes a spacing of 0 as 1 mm; and it
replaces an sform that disagrees with pixdim. All three are refused instead.
"""

import gzip
import io
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import ITKReader
from monai.data.utils import to_affine_nd
from monai.utils import MetaKeys
from numpy.typing import NDArray

from grata_monai.core.errors import GeometryError, GrataError, UnreadableImageError
from grata_monai.read.cases import EXTENSIONS

__all__ = ["EXPORT_AGAIN", "Float64", "Voxels", "decode"]

logger = logging.getLogger(__name__)

SPACING_TOLERANCE = 0.01  # relative, between pixdim and sform

EXPORT_AGAIN = "Correct the header, or export the image again."
"""What to do about a wrong header."""

Voxels = NDArray[Any]
Float64 = NDArray[np.float64]


def decode(path: Path) -> tuple[Voxels, Float64]:
    """Read a file as it is.

    Args:
        path: A file of one of the `EXTENSIONS`.

    Returns:
        Voxels (*s) or (*s, c), scaled as the header says, and the 4×4 affine from voxel index to
        RAS in mm.

    Raises:
        UnreadableImageError: If the file is missing, damaged, or no image of real numbers.
        GeometryError: If the header of a NIfTI file contradicts itself.
    """
    lower = path.name.lower()
    if not lower.endswith(EXTENSIONS):
        raise UnreadableImageError(
            f"image must end in one of {', '.join(EXTENSIONS)}, got {path.name!r}. "
            "Convert it to NIfTI."
        )
    if not path.is_file():
        raise UnreadableImageError(
            f"image must exist, {path.name!r} does not. Check the path or the list of cases."
        )
    try:
        decode_kind = _decode_nifti if lower.endswith((".nii", ".nii.gz")) else _decode_itk
        voxels, affine = decode_kind(path)
    except GrataError:
        raise
    except Exception as error:
        state = "is empty" if path.stat().st_size == 0 else f"is not ({type(error).__name__})"
        raise UnreadableImageError(
            f"image must be a complete NIfTI, MetaImage or NRRD file, {path.name!r} {state}. "
            "Copy it again, or export it as NIfTI."
        ) from error
    if voxels.dtype.kind not in "iufb":
        raise UnreadableImageError(
            f"voxels must be real numbers, {path.name!r} holds {voxels.dtype}. "
            "Save a magnitude or grey-scale image."
        )
    return voxels, affine


def _decode_nifti(path: Path) -> tuple[Voxels, Float64]:
    content = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        content = gzip.decompress(content)
    is_second = 540 in (int.from_bytes(content[:4], order) for order in ("little", "big"))
    kind: Any = nib.Nifti2Image if is_second else nib.Nifti1Image
    header = kind.header_class.from_fileobj(io.BytesIO(content), check=False)
    _check_nifti_header(header, path.name)
    image = kind.from_bytes(content)
    size = int(np.prod(image.shape, dtype=object)) * image.get_data_dtype().itemsize
    if size > len(content):  # before nibabel sets that much memory aside
        raise EOFError(f"{size} bytes of voxels expected, the file has {len(content)}")
    affine = np.asarray(image.affine, dtype=np.float64)
    _check_nifti_forms(image.header, affine, path.name)
    return np.asanyarray(image.dataobj), affine


def _check_nifti_header(header: Any, name: str) -> None:
    """Look at the header as it is on disk, before nibabel repairs it."""
    dims = min(max(int(header["dim"][0]), 1), 3)
    pixdim = [float(value) for value in header["pixdim"][1 : dims + 1]]
    if not all(np.isfinite(pixdim)) or 0.0 in pixdim:
        raise GeometryError(
            f"spacing must be finite and above 0, {name!r} has pixdim {pixdim}. {EXPORT_AGAIN}"
        )
    unit = header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise GeometryError(
            f"spacing must be in mm, the header of {name!r} says {unit}. Save the image in mm."
        )


def _check_nifti_forms(header: Any, affine: Float64, name: str) -> None:
    """Refuse a header whose sform contradicts its pixdim; warn where qform contradicts sform."""
    if not np.isfinite(affine).all():
        return  # refused with every other affine
    dims = min(len(header.get_data_shape()), 3)
    pixdim = np.asarray(header.get_zooms()[:dims], dtype=np.float64)
    spacing = np.linalg.norm(affine[:3, :dims], axis=0)
    if spacing.all() and not np.allclose(spacing, pixdim, rtol=SPACING_TOLERANCE):
        raise GeometryError(
            f"pixdim and sform must agree on the spacing, {name!r} has "
            f"{pixdim.round(4).tolist()} and {spacing.round(4).tolist()} mm. {EXPORT_AGAIN}"
        )
    forms = [header.get_sform(coded=True), header.get_qform(coded=True)]
    if all(code > 0 for _, code in forms) and not np.allclose(forms[0][0], forms[1][0], atol=0.1):
        logger.warning("%s: qform differs from sform; sform is used, also for the mask", name)


def _decode_itk(path: Path) -> tuple[Voxels, Float64]:
    reader = ITKReader()  # turns ITK's LPS into RAS
    voxels, meta = reader.get_data(reader.read(str(path)))
    return voxels, np.asarray(to_affine_nd(3, meta[MetaKeys.AFFINE]), dtype=np.float64)
