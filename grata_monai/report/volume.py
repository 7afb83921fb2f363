"""Pack a case's image and mask for the viewer in its page: cropped, 8 bits, as NIfTI in base64."""

import base64
import gzip
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from grata_monai.report.case import ReportedCase

__all__ = ["pack_volumes"]

MARGIN_MM = 25.0
MOST_BYTES = 900_000  # of a packed image
GREY_PERCENTILES = (0.5, 99.5)


def pack_volumes(case: ReportedCase) -> dict[str, str]:
    """Pack what the viewer shows, coarser if it must be to keep the page small.

    Args:
        case: The case.

    Returns:
        ``image`` and ``mask``, each a gzipped NIfTI file in base64.
    """
    near = case.cropped(MARGIN_MM)
    low, high = np.nanpercentile(near.voxels, GREY_PERCENTILES)
    scaled = (np.nan_to_num(near.voxels, nan=low) - low) / max(high - low, 1e-6)
    grey = (255 * scaled.clip(0, 1)).astype(np.uint8)
    step = 1
    while len(packed := _pack(grey, near.affine_ras, step)) > MOST_BYTES:
        step += 1
    mask = _pack(near.kept, near.affine_ras, step)
    return {"image": _encode(packed), "mask": _encode(mask)}


def _pack(array: NDArray[Any], affine: NDArray[np.float64], step: int) -> bytes:
    """Take every step-th voxel within slices; there are few slices."""
    along = np.linalg.norm(affine[:3, :3], axis=0)
    steps = [step if size < 1.5 * along.min() or step > 4 else 1 for size in along]
    part = array[tuple(slice(None, None, n) for n in steps)]
    image = nib.Nifti1Image(np.ascontiguousarray(part), affine @ np.diag([*steps, 1]))
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
