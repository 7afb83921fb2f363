"""Open, inflate and cut into blocks what a file stores.

Runs in the sandbox, as all of this package. It imports the standard library alone: the subprocess
starts in the time of a bare Python, not in that of numpy.
"""

import math
import os
import re
import stat
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from grata_monai.core.errors import GeometryError, UnreadableImageError

__all__ = [
    "EXPORT_AGAIN",
    "HEADER_BYTES",
    "Inflated",
    "Source",
    "Stored",
    "SurplusError",
    "check_size",
    "compose_affine",
    "iterate_blocks",
    "open_beside",
    "open_regular",
    "read_exactly",
    "read_numbers",
    "skip",
]

EXPORT_AGAIN = "Correct the header, or export the image again."
"""What to do about a wrong header."""

HEADER_BYTES = 2**20  # of a header in text
SURPLUS_BYTES = 2**26  # what compressed data may hold before and behind the voxels
CHUNK = 2**20
BLOCK_BYTES = 2**23
LARGEST_RATIO = 1032  # of deflate, bytes out for a byte in
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class SurplusError(Exception):
    """A file holds far more than its header announces."""


class Inflated:
    """Deflated bytes of a file, read to their checksum: zlib, or gzip of one or more members.

    Args:
        file: Stands where they begin.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._stream = file, zlib.decompressobj(wbits=47)
        start = file.tell()
        self._is_gzip = file.read(1) == b"\x1f"
        file.seek(start)

    def read(self, size: int, /) -> bytes:
        """Inflate at most so many bytes; none at the end.

        Raises:
            EOFError: If the stream has no end.
            zlib.error: If it is damaged.
        """
        while not self._stream.eof or self._begin_next_member():
            rest = self._stream.unconsumed_tail
            fed = rest or self._file.read(CHUNK)
            found = self._stream.decompress(fed, size)
            if found:
                return found
            if not fed:
                raise EOFError
        return b""

    def _begin_next_member(self) -> bool:
        """Whether another gzip member follows; zeros may pad the end."""
        rest = self._stream.unused_data.lstrip(b"\0")
        while not rest and self._is_gzip and (more := self._file.read(CHUNK)):
            rest = more.lstrip(b"\0")
        if not rest or not self._is_gzip:
            return False
        self._stream = zlib.decompressobj(wbits=31)
        self._file.seek(-len(rest), os.SEEK_CUR)
        return True


Source = BinaryIO | Inflated
"""Where voxels are read."""


@dataclass(frozen=True)
class Stored:
    """What a header says of the voxels behind it.

    Attributes:
        dtype: numpy's name of their type with the byte order, such as ``<i2``.
        shape: Extents, the fastest axis first.
        spatial: Which of these axes lie in space.
        geometry: For the reader's other half: NIfTI's ``header``; or ``affine_lps``, 4×4.
        source: Stands at the first voxel.
    """

    dtype: str
    shape: tuple[int, ...]
    spatial: tuple[int, ...]
    geometry: dict[str, Any]
    source: Source

    @property
    def size(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.shape) * self.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes of one voxel."""
        return int(self.dtype[-1])


@contextmanager
def open_regular(path: Path, subject: str = "") -> Generator[BinaryIO, None, None]:
    """Open a file to read, but no pipe or device: reading one may never end.

    Args:
        path: Links are followed.
        subject: What to call it in an error; its name if empty.

    Yields:
        The file.

    Raises:
        UnreadableImageError: If it is no regular file, empty, or closed to us.
    """
    subject = subject or repr(path.name)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise UnreadableImageError(
            f"image must be readable, {subject} is not ({type(error).__name__}). "
            "Check that it exists and its permissions."
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImageError(
                f"image must be a regular file, {subject} is a folder, pipe or device. "
                "Copy the image into a file."
            )
        if status.st_size == 0:
            raise UnreadableImageError(
                f"image must hold something, {subject} is empty. "
                "Copy it again, or export it as NIfTI."
            )
        yield file


def open_beside(header: Path, name: str) -> Any:
    """Open the file of voxels that a header names: one file of the header's own folder.

    Args:
        header: File of the header.
        name: As the header has it.

    Returns:
        As `open_regular`.

    Raises:
        UnreadableImageError: If the name leads elsewhere, or the file is none.
    """
    is_plain = Path(name).name == name and not re.search(r"[\\%\0]|^(LIST|\.\.)?$", name)
    if is_plain:
        file = header.with_name(name)
        is_plain = file.resolve().parent == header.parent.resolve() and file.name != header.name
    if not is_plain:
        raise UnreadableImageError(
            f"voxels must be in one file beside their header, {header.name!r} names another "
            "place. Put both into one folder and name the file without a path, or save the image "
            "as one file."
        )
    return open_regular(file, f"the file of voxels that {header.name!r} names")


def read_exactly(source: Source, size: int) -> bytes:
    """Read so many bytes.

    Raises:
        EOFError: If there are fewer.
    """
    parts = []
    while size:
        part = source.read(min(size, BLOCK_BYTES))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def skip(source: Source, size: int, name: str) -> None:
    """Pass over bytes before the first voxel.

    Args:
        source: Where.
        size: How many.
        name: Of the file, for an error.

    Raises:
        UnreadableImageError: If there are more than a header has any use for.
        EOFError: If there are fewer in the file.
    """
    if size > SURPLUS_BYTES:
        raise UnreadableImageError(
            f"voxels must begin within the first {SURPLUS_BYTES} bytes, those of {name!r} begin "
            f"behind {size} others. {EXPORT_AGAIN}"
        )
    while size:
        size -= len(read_exactly(source, min(size, CHUNK)))


def check_size(stored: Stored, *, name: str, available: int, budget: int) -> None:
    """Compare what a header claims with the budget and the file, before a voxel is read.

    Args:
        stored: From the header.
        name: Of the file, for an error.
        available: Bytes of the file from the first voxel on, inflated or not.
        budget: Bytes that voxels may take as float32, or as they are stored.

    Raises:
        UnreadableImageError: If it claims more than the budget, or than the file can hold.
    """
    size = max(stored.size, math.prod(stored.shape) * 4)
    extents = "×".join(map(str, stored.shape))
    if size > budget:
        raise UnreadableImageError(
            f"voxels must take at most {budget} bytes, those of {name!r} ({extents}) take {size}. "
            "Crop the image, or raise pixel_budget_bytes of Limits if the size is true."
        )
    is_deflated = isinstance(stored.source, Inflated)
    if stored.size > available * (LARGEST_RATIO if is_deflated else 1):
        raise UnreadableImageError(
            f"image must hold the voxels that its header announces ({extents}), {name!r} has too "
            "few bytes for them. Copy it again; it is cut off."
        )


def iterate_blocks(stored: Stored) -> Generator[bytes, None, None]:
    """Read the voxels in whole planes of the two fastest axes, to the end of the source.

    Args:
        stored: At its first voxel, checked by `check_size`.

    Yields:
        Some planes.

    Raises:
        EOFError: If the source ends too early.
        SurplusError: If it goes on too long.
        zlib.error: If it is damaged.
    """
    plane = math.prod(stored.shape[:2]) * stored.itemsize
    count = math.prod(stored.shape[2:])
    at_once = max(BLOCK_BYTES // plane, 1)
    for first in range(0, count, at_once):
        yield read_exactly(stored.source, min(at_once, count - first) * plane)
    if isinstance(stored.source, Inflated):  # its checksum comes last
        surplus = 0
        while part := stored.source.read(CHUNK):
            surplus += len(part)
            if surplus > SURPLUS_BYTES:
                raise SurplusError


def read_numbers(text: str, *, count: int, what: str, name: str) -> list[float]:
    """Read the finite numbers of a header's field.

    Args:
        text: With spaces or commas between them.
        count: How many there must be.
        what: The field, for an error.
        name: Of the file, for an error.

    Returns:
        The numbers.

    Raises:
        GeometryError: If there are more or fewer, or one is no finite number.
    """
    words = text.replace(",", " ").split()
    if len(words) != count or not all(NUMBER.fullmatch(word) for word in words):
        raise GeometryError(
            f"{what} must be {count} finite number(s), {name!r} has something else. {EXPORT_AGAIN}"
        )
    numbers = [float(word) for word in words]
    if not all(map(math.isfinite, numbers)):
        raise GeometryError(f"{what} must be finite, {name!r} has larger ones. {EXPORT_AGAIN}")
    return numbers


def compose_affine(columns: list[list[float]], origin: list[float]) -> list[list[float]]:
    """Make the matrix from voxel index to mm.

    Args:
        columns: For each axis of the grid, its step along each axis of space.
        origin: Of the first voxel.

    Returns:
        Rows of the homogeneous matrix.
    """
    rows = [[*row, place] for *row, place in zip(*columns, origin, strict=True)]
    return [*rows, [0.0] * len(origin) + [1.0]]
