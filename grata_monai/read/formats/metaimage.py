"""Read the header of a MetaImage and find its voxels.

ITK takes what is missing for 1 mm, the identity and 0, and inflates without looking at the
checksum. Here a spacing and a direction must be there, and the checksum must be right.
"""

import math
import os
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from grata_monai.core.errors import GeometryError, IntensityError, UnreadableImageError
from grata_monai.read.formats.stored import (
    EXPORT_AGAIN,
    HEADER_BYTES,
    Inflated,
    Stored,
    check_size,
    compose_affine,
    open_beside,
    read_numbers,
)

__all__ = ["open_metaimage"]

TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # of 4 bytes on every machine
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
SPACING = ("ElementSpacing", "ElementSize")  # the second one stands in where the first is missing
DIRECTION = ("TransformMatrix", "Rotation", "Orientation")
ORIGIN = ("Offset", "Position", "Origin")
UNIT_TOLERANCE = 0.01  # of the length of a direction

Fields = dict[str, str]


def open_metaimage(file: BinaryIO, path: Path, budget: int, stack: ExitStack) -> Stored:
    """Read the header and go to the first voxel.

    Args:
        file: At its start.
        path: Of the file.
        budget: Bytes that voxels may take.
        stack: Keeps a second file open.

    Returns:
        With ``affine_lps`` as geometry.

    Raises:
        UnreadableImageError: If it is no MetaImage that we read, or cannot hold its voxels.
        GeometryError: If the header does not say where the image lies, or contradicts itself.
        IntensityError: If it scales the voxels, which readers do not agree about.
    """
    fields = _read_fields(file, path.name)
    dims = _read_count(fields, "NDims", path.name)
    shape = tuple(_read_counts(fields.get("DimSize", ""), dims, path.name))
    channels = _read_count(fields, "ElementNumberOfChannels", path.name, default="1")
    first = 0 if channels == 1 else 1
    _check_scales(fields, path.name)
    data = fields["ElementDataFile"]
    if data.upper() != "LOCAL":
        file = stack.enter_context(open_beside(path, data))
    start = _find_start(fields, file, path.name)
    stored = Stored(
        dtype=_find_type(fields, path.name),
        shape=(channels, *shape)[1 - first :],
        spatial=tuple(range(first, first + min(dims, 3))),
        geometry={"affine_lps": _read_affine(fields, dims, path.name)},
        source=Inflated(file) if _read_flag(fields, "CompressedData") else file,
    )
    available = os.fstat(file.fileno()).st_size - start
    check_size(stored, name=path.name, available=available, budget=budget)
    return stored


def _read_fields(file: BinaryIO, name: str) -> Fields:
    """Read lines until the one that says where the voxels are, which is the last."""
    fields: Fields = {}
    while "ElementDataFile" not in fields:
        line = file.readline(HEADER_BYTES - file.tell())
        key, equals, value = (part.strip() for part in line.decode("latin-1").partition("="))
        if not equals or key in fields or file.tell() >= HEADER_BYTES:
            raise UnreadableImageError(
                f"image must be a MetaImage file, the header of {name!r} has no end or says "
                "something twice. Copy it again, or export it as NIfTI."
            )
        fields[key] = value
    if fields.get("ObjectType", "Image") != "Image" or not _read_flag(fields, "BinaryData", True):
        raise UnreadableImageError(
            f"MetaImage must be an image with binary voxels, {name!r} is not. Export it as NIfTI."
        )
    return fields


def _read_flag(fields: Fields, key: str, default: bool = False) -> bool:
    return fields.get(key, str(default))[:1].upper() in ("T", "1")


def _read_count(fields: Fields, key: str, name: str, default: str = "") -> int:
    return _read_counts(fields.get(key, default), 1, name)[0]


def _read_counts(text: str, count: int, name: str) -> list[int]:
    numbers = read_numbers(text, count=count, what="a count of MetaImage", name=name)
    if not all(number.is_integer() and 1 <= number < 2**31 for number in numbers):
        raise GeometryError(
            f"NDims, DimSize and channels must be whole numbers of at least 1, those of {name!r} "
            f"are not. {EXPORT_AGAIN}"
        )
    return [int(number) for number in numbers]


def _find_start(fields: Fields, file: BinaryIO, name: str) -> int:
    """Go to the first byte of the voxels."""
    skipped = read_numbers(fields.get("HeaderSize", "0"), count=1, what="HeaderSize", name=name)[0]
    if not skipped.is_integer() or skipped < 0:
        raise UnreadableImageError(
            f"HeaderSize must be at least 0, {name!r} has {skipped:g}. Say where the voxels begin."
        )
    return file.seek(int(skipped), os.SEEK_CUR)


def _find_type(fields: Fields, name: str) -> str:
    kind = fields.get("ElementType", "")
    if kind not in TYPES:
        raise UnreadableImageError(
            f"ElementType must be one of {', '.join(TYPES)}, {name!r} has another. "
            "Save the image as one of real numbers."
        )
    is_big = any(_read_flag(fields, f"{what}ByteOrderMSB") for what in ("BinaryData", "Element"))
    return (">" if is_big else "<") + TYPES[kind]


def _check_scales(fields: Fields, name: str) -> None:
    """Refuse what readers pass over though it changes what spacing and voxels mean."""
    if fields.get("DistanceUnits", "mm").lower() not in ("mm", "?", ""):
        raise GeometryError(
            f"DistanceUnits must be mm, {name!r} has another unit. Save the image in mm."
        )
    for key, plain in (("Slope", 1.0), ("Offset", 0.0)):
        field = f"ElementToIntensityFunction{key}"
        (value,) = read_numbers(fields.get(field, f"{plain}"), count=1, what=field, name=name)
        if value != plain:
            raise IntensityError(
                f"{field} must be {plain:g}, {name!r} has {value:g}, which readers pass over. "
                "Save the image with its intensities as they are."
            )


def _read_affine(fields: Fields, dims: int, name: str) -> list[list[float]]:
    """Compose spacing, direction and origin of at most three axes, LPS in mm."""
    spacing = _read_field(fields, SPACING, dims, name)
    if min(spacing) <= 0:
        raise GeometryError(
            f"spacing must be above 0, {name!r} has {', '.join(f'{v:g}' for v in spacing)}. "
            f"{EXPORT_AGAIN}"
        )
    matrix = _read_field(fields, DIRECTION, dims * dims, name)
    axes = [matrix[i * dims : (i + 1) * dims] for i in range(dims)]
    lengths = [math.hypot(*axis) for axis in axes]
    if max(abs(length - 1) for length in lengths) > UNIT_TOLERANCE:
        raise GeometryError(
            f"directions must have the length 1, {name!r} has "
            f"{', '.join(f'{v:.4g}' for v in lengths)}. {EXPORT_AGAIN}"
        )
    has_origin = any(key in fields for key in ORIGIN)
    origin = _read_field(fields, ORIGIN, dims, name) if has_origin else [0.0] * dims
    known = min(dims, 3)
    columns = [[value * spacing[i] for value in axes[i][:known]] for i in range(known)]
    return compose_affine(columns, origin[:known])


def _read_field(fields: Fields, keys: tuple[str, ...], count: int, name: str) -> list[float]:
    key = next((key for key in keys if key in fields), None)
    if key is None:
        raise GeometryError(
            f"MetaImage must have {keys[0]}, {name!r} has none: 1 mm or the identity would be a "
            f"guess. {EXPORT_AGAIN}"
        )
    return read_numbers(fields[key], count=count, what=key, name=name)
