"""Read the header of an NRRD file and find its voxels.

ITK takes a missing space for LPS, a missing spacing for 1 mm, and any unit for mm. Here the header
must say where the image lies.

Source:
    Kindlmann: Definition of NRRD File Format, http://teem.sourceforge.net/nrrd/format.html
"""

import math
import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from grata_monai.core.errors import GeometryError, UnreadableImageError
from grata_monai.read.formats.stored import (
    EXPORT_AGAIN,
    HEADER_BYTES,
    Inflated,
    Source,
    Stored,
    check_size,
    compose_affine,
    open_beside,
    read_numbers,
    skip,
)

__all__ = ["open_nrrd"]

TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": (
        *("longlong", "long long", "long long int", "signed long long", "signed long long int"),
        *("int64", "int64_t"),
    ),
    "u8": (*("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),),
    "f4": ("float",),
    "f8": ("double",),
}
SPACES = {  # signs of the axes in LPS
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
}
TIME = ("-time", "t")  # endings of a space whose fourth axis is time
MILLIMETRES = ("mm", "millimeter", "millimeters", "millimetre", "millimetres")
MOST_AXES = 16

Fields = dict[str, str]
Vectors = list[list[float] | None]


def open_nrrd(file: BinaryIO, path: Path, budget: int, stack: ExitStack) -> Stored:
    """Read the header and go to the first voxel.

    Args:
        file: At its start.
        path: Of the file.
        budget: Bytes that voxels may take.
        stack: Keeps a second file open.

    Returns:
        With ``affine_lps`` as geometry.

    Raises:
        UnreadableImageError: If it is no NRRD that we read, or cannot hold its voxels.
        GeometryError: If the header does not say where the image lies.
    """
    fields = _read_fields(file, path.name)
    dims = int(_read_wholes(fields, "dimension", 1, path.name)[0])
    if dims > MOST_AXES:
        raise GeometryError(f"dimension must be at most {MOST_AXES}, {path.name!r} has {dims}.")
    shape = _read_wholes(fields, "sizes", dims, path.name)
    spatial, affine = _read_geometry(fields, dims, path.name)
    if "complex" in fields.get("kinds", ""):
        raise UnreadableImageError(
            f"voxels must be real numbers, {path.name!r} holds complex ones. "
            "Save a magnitude image."
        )
    if "data file" in fields:
        file = stack.enter_context(open_beside(path, fields["data file"]))
    source, start = _find_source(fields, file, path.name)
    stored = Stored(
        dtype=_find_type(fields, path.name),
        shape=shape,
        spatial=spatial,
        geometry={"affine_lps": affine},
        source=source,
    )
    available = os.fstat(file.fileno()).st_size - start
    check_size(stored, name=path.name, available=available, budget=budget)
    return stored


def _read_fields(file: BinaryIO, name: str) -> Fields:
    """Read lines up to an empty one; names in small letters, key/value pairs left out."""
    fields: Fields = {}
    is_nrrd = bool(re.fullmatch(rb"NRRD000[1-5]\r?\n", file.readline(16)))
    while is_nrrd and (line := file.readline(HEADER_BYTES - file.tell()).strip(b"\r\n")):
        text = line.decode("latin-1")
        key, colon, value = text.partition(": ")
        key = {"datafile": "data file"}.get(key.strip().lower(), key.strip().lower())
        is_other = text.startswith("#") or ":=" in text.partition(": ")[0]
        is_nrrd = is_other or bool(colon and key not in fields)
        if not is_other:
            fields[key] = value.strip()
    if not is_nrrd or file.tell() >= HEADER_BYTES:
        raise UnreadableImageError(
            f"image must be an NRRD file, the header of {name!r} has no end or says something "
            "twice. Copy it again, or export it as NIfTI."
        )
    return fields


def _read_wholes(fields: Fields, key: str, count: int, name: str) -> tuple[int, ...]:
    numbers = read_numbers(fields.get(key, ""), count=count, what=key, name=name)
    if not all(number.is_integer() and 1 <= number < 2**31 for number in numbers):
        raise GeometryError(
            f"{key} must be whole numbers of at least 1, {name!r} has others. {EXPORT_AGAIN}"
        )
    return tuple(int(number) for number in numbers)


def _find_type(fields: Fields, name: str) -> str:
    found = fields.get("type", "").lower()
    kind = next((kind for kind, names in TYPES.items() if found in names), None)
    endian = fields.get("endian", "little" if kind in ("i1", "u1") else "").lower()
    if kind is None or endian not in ("little", "big"):
        raise UnreadableImageError(
            f"NRRD must have a type of real numbers and say its endian, {name!r} does not. "
            "Save the image as one of grey values."
        )
    return ("<" if endian == "little" else ">") + kind


def _find_source(fields: Fields, file: BinaryIO, name: str) -> tuple[Source, int]:
    """Go to the first voxel; also say how many bytes of the file lie before the stored ones."""
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise UnreadableImageError(
            f"encoding must be raw or gzip, {name!r} has another. Save the image as one of these."
        )
    lines, count = (
        read_numbers(fields.get(key, "0"), count=1, what=key, name=name)[0]
        for key in ("line skip", "byte skip")
    )
    if lines != 0 or count < 0 or not count.is_integer():
        raise UnreadableImageError(
            f"line skip must be 0 and byte skip at least 0, {name!r} has {lines:g} and {count:g}. "
            "Say where the voxels begin, or save the image as one file."
        )
    start = file.tell()
    source: Source = file if encoding == "raw" else Inflated(file)
    skip(source, int(count), name)
    return source, start + (int(count) if encoding == "raw" else 0)


def _read_geometry(
    fields: Fields, dims: int, name: str
) -> tuple[tuple[int, ...], list[list[float]]]:
    """Say which axes lie in space, and compose their affine, LPS in mm."""
    signs = _read_space(fields, name)
    vectors = _read_vectors(fields, dims, name)
    spatial = tuple(i for i, v in enumerate(vectors) if v and _find_length(v, signs) > 0)
    units = re.findall(r'"([^"]*)"', fields.get("space units", ""))[: len(signs)]
    axes = re.findall(r'"([^"]*)"', fields.get("units", ""))
    units += [axes[i] for i in spatial if i < len(axes)]
    if any(unit.strip().lower() not in MILLIMETRES for unit in units):
        raise GeometryError(
            f"space units must be mm, the header of {name!r} says otherwise. Save the image in mm."
        )
    if len(spatial) != len(signs):
        raise GeometryError(
            f"{len(signs)} axes must have space directions, {len(spatial)} of {name!r} have one. "
            f"{EXPORT_AGAIN}"
        )
    columns = [_turn(vectors[i] or [], signs) for i in spatial]
    origin = [0.0] * len(signs)
    if "space origin" in fields:
        inner = fields["space origin"].strip().removeprefix("(").removesuffix(")")
        width = len(next(vector for vector in vectors if vector))
        found = read_numbers(inner, count=width, what="space origin", name=name)
        origin = [value * sign for value, sign in zip(found, signs, strict=False)]
    return spatial, compose_affine(columns, origin)


def _find_length(vector: list[float], signs: tuple[int, ...]) -> float:
    """Length in space, mm; 0 too for what is too small to be squared."""
    return math.sqrt(sum(v * v for v in vector[: len(signs)]))


def _turn(vector: list[float], signs: tuple[int, ...]) -> list[float]:
    """Bring a step into LPS, by way of spacing and direction as ITK does, to the last bit."""
    spacing = _find_length(vector, signs)
    return [v * (1 / spacing) * spacing * sign for v, sign in zip(vector, signs, strict=False)]


def _read_space(fields: Fields, name: str) -> tuple[int, ...]:
    """Signs that turn coordinates into LPS, one for each axis of space."""
    space = fields.get("space", "").lower()
    if not space and fields.get("space dimension") == "2":
        return (1, 1)  # no named space has two axes
    for ending in TIME:
        space = space if space in SPACES else space.removesuffix(ending)
    if space not in SPACES:
        raise GeometryError(
            f"space must be left-posterior-superior, right-anterior-superior or "
            f"left-anterior-superior, {name!r} has another or none. {EXPORT_AGAIN}"
        )
    return SPACES[space]


def _read_vectors(fields: Fields, dims: int, name: str) -> Vectors:
    """One vector for each axis; None for one outside of space."""
    text = fields.get("space directions", "")
    words = re.findall(r"none|\([^()]*\)", text, re.IGNORECASE)
    if len(words) != dims or re.sub(r"none|\([^()]*\)|\s", "", text, flags=re.IGNORECASE):
        raise GeometryError(
            f"space directions must have one vector or none for each of {dims} axes, {name!r} has "
            f"not: a spacing of 1 mm would be a guess. {EXPORT_AGAIN}"
        )
    is_timed = fields.get("space", "").lower().endswith(TIME)
    count = 2 if fields.get("space dimension") == "2" else 4 if is_timed else 3
    return [
        None
        if word.lower() == "none"
        else read_numbers(word[1:-1], count=count, what="space directions", name=name)
        for word in words
    ]
