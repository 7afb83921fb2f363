"""Find the voxels of a NIfTI file.

Geometry and scale are left to nibabel, in the process that asked: it gets the header's bytes.
"""

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

from grata_monai.core.errors import GeometryError, UnreadableImageError
from grata_monai.read.formats.stored import (
    EXPORT_AGAIN,
    Inflated,
    Source,
    Stored,
    check_size,
    read_exactly,
    skip,
)

__all__ = ["open_nifti"]

# bytes of the header: its magic, where that is, and the formats and places of dim, datatype and
# vox_offset
HEADERS = {
    348: (b"n+1\0", 344, ("8h", 40), ("h", 70), ("f", 108)),
    540: (b"n+2\0\r\n\x1a\n", 4, ("8q", 16), ("h", 12), ("q", 168)),
}
FIRST_VOXEL = 4  # behind the header at the earliest: a flag for extensions lies between
TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
UNREAL = {32: "complex64", 128: "RGB", 1536: "float128", 1792: "complex128", 2304: "RGBA"}


def open_nifti(file: BinaryIO, path: Path, budget: int) -> Stored:
    """Read the header and go to the first voxel.

    Args:
        file: At its start.
        path: Of the file.
        budget: Bytes that voxels may take.

    Returns:
        With the header's bytes, ``header``, as geometry.

    Raises:
        UnreadableImageError: If it is no NIfTI file of real numbers, or cannot hold its voxels.
        GeometryError: If an extent is impossible.
        EOFError: If it ends within its header.
    """
    is_gzip = file.read(2) == b"\x1f\x8b"
    has_ending = path.name.lower().endswith(".gz")
    if is_gzip and not has_ending:
        raise UnreadableImageError(
            f"name must end in .gz if the file is compressed by gzip, {path.name!r} is. "
            "Correct its name."
        )
    if has_ending and not is_gzip:
        raise UnreadableImageError(
            f"file must be compressed by gzip if its name ends in .gz, {path.name!r} is not. "
            "Take .gz off the name if it is a NIfTI file; else copy it again, or export it."
        )
    file.seek(0)
    source: Source = Inflated(file) if is_gzip else file
    head = read_exactly(source, 4)
    order = next((o for o in "<>" if struct.unpack(o + "i", head)[0] in HEADERS), "")
    if not order:
        raise UnreadableImageError(
            f"image must be a NIfTI file, {path.name!r} is not. "
            "Copy it again, or export it as NIfTI."
        )
    size = struct.unpack(order + "i", head)[0]
    header = head + read_exactly(source, size - 4)
    magic, place, *fields = HEADERS[size]
    dim, datatype, offset = (struct.unpack_from(order + kind, header, at) for kind, at in fields)
    if header[place : place + len(magic)] != magic:
        raise UnreadableImageError(
            f"image must be a NIfTI file with its voxels in it, the header of {path.name!r} is "
            "of another format, or half of a pair. Convert it to .nii or .nii.gz."
        )
    shape = _check_dimensions(dim, path.name)
    stored = Stored(
        dtype=order + _find_type(datatype[0], path.name),
        shape=shape,
        spatial=tuple(range(min(len(shape), 3))),
        geometry={"header": header},
        source=source,
    )
    first = _check_offset(offset[0], size, path.name)
    available = os.fstat(file.fileno()).st_size - (0 if is_gzip else first)
    check_size(stored, name=path.name, available=available, budget=budget)
    skip(source, first - size, path.name)
    return stored


def _check_dimensions(dim: tuple[int, ...], name: str) -> tuple[int, ...]:
    count = dim[0]
    if not 1 <= count <= 7 or min(dim[1 : count + 1]) < 1:
        raise GeometryError(
            f"dim must tell 1 to 7 extents of at least 1, {name!r} has {list(dim)}. {EXPORT_AGAIN}"
        )
    return dim[1 : count + 1]


def _find_type(code: int, name: str) -> str:
    if code not in TYPES:
        found = UNREAL.get(code, f"datatype {code}")
        raise UnreadableImageError(
            f"voxels must be real numbers, {name!r} holds {found}. "
            "Save a magnitude or grey-scale image."
        )
    return TYPES[code]


def _check_offset(offset: float, size: int, name: str) -> int:
    earliest = size + FIRST_VOXEL
    if not math.isfinite(offset) or offset != int(offset) or offset < earliest:
        raise UnreadableImageError(
            f"vox_offset must be a whole number of at least {earliest}, {name!r} has {offset:g}. "
            f"{EXPORT_AGAIN}"
        )
    return int(offset)
