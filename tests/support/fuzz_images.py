"""Fuzz NIfTI, MetaImage and NRRD: every answer is an image, or a `CaseError` with a remedy.

What is compressed may not be damaged and read all the same.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from fuzzing import Judge, Target
from image_corpus import VOXELS, meta, nifti, nifti_2, nrrd, raw

from grata_monai.core.errors import CaseError
from grata_monai.core.limits import MEBIBYTE, Limits
from grata_monai.core.sandbox import SandboxError
from grata_monai.read.decode import decode

__all__ = ["IMAGES"]

LIMITS = Limits(pixel_budget_bytes=64 * MEBIBYTE, memory_bytes=512 * MEBIBYTE, seconds=5.0)
PACKED = {"CompressedData": "True"}
SEEDS = {
    "1.nii": nifti(),
    "2.nii": nifti_2(),
    "3.nii": nifti(kind=">f4"),
    "4.nii.gz": gzip.compress(nifti(), mtime=0),
    "5.mha": meta(),
    "6.mha": meta(zlib.compress(raw()), **PACKED),
    "7.mhd": meta(b"", data="a.raw"),
    "8.nrrd": nrrd(),
    "9.nrrd": nrrd(gzip.compress(raw(), mtime=0), encoding="gzip"),
}
HEADER_END = {"4.nii.gz": 10}  # from here on every byte is held by a checksum


@contextmanager
def open_images(folder: Path) -> Iterator[Judge]:
    """Read files of the folder."""
    (folder / "a.raw").write_bytes(raw())

    def judge(name: str, content: bytes) -> tuple[str, str]:
        path = folder / name
        path.write_bytes(content)
        try:
            voxels, affine = decode(path, limits=LIMITS)
        except CaseError as error:
            is_unforeseen = isinstance(error.__cause__, SandboxError)
            finding = "" if str(error).endswith(".") else "no remedy"
            return type(error).__name__, "a cause nobody foresaw" if is_unforeseen else finding
        return "read", _judge_image(voxels, affine, name, content)

    yield judge


def _judge_image(voxels: np.ndarray, affine: np.ndarray, name: str, content: bytes) -> str:
    """Look for an image that should not have been accepted."""
    if affine.shape != (4, 4) or voxels.size * 4 > LIMITS.pixel_budget_bytes:
        return "an impossible image"
    original = SEEDS[name]
    first = HEADER_END.get(name)
    if first and content[:first] == original[:first] and content[first:] != original[first:]:
        is_same = voxels.shape == VOXELS.shape and np.array_equal(voxels, VOXELS)
        return "" if is_same else "damaged, and read all the same"
    return ""


IMAGES = Target(SEEDS, open_images)
