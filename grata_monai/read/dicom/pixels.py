"""Find where a file's pixels lie and whether all of them are there, without decoding any.

Imported by the sandbox: only the standard library.
"""

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["PixelSurvey", "survey_encapsulated", "survey_native"]

UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM = 0xFFFEE000
SEQUENCE_DELIMITER = 0xFFFEE0DD
MOST_FRAGMENTS = 2**20

Range = tuple[int, int]  # first byte in the file, number of bytes


@dataclass(frozen=True)
class PixelSurvey:
    """Where the pixel data lie, and whether they are complete.

    Attributes:
        is_complete: Whether the file goes on as far as its own lengths say.
        available: Bytes of pixels that the file holds.
        fragments: Of encapsulated pixel data, where each begins and how long it is.
    """

    is_complete: bool
    available: int
    fragments: tuple[Range, ...] = ()


def survey_native(*, start: int, length: int, file_size: int) -> PixelSurvey:
    """Compare a length with the file's end.

    Args:
        start: First byte of the value.
        length: As the element says.
        file_size: Bytes of the file.

    Returns:
        The survey; not complete where the length is undefined, which native pixels may not be.
    """
    available = max(min(length, file_size - start), 0)
    is_complete = length != UNDEFINED_LENGTH and available == length
    return PixelSurvey(is_complete, available)


def survey_encapsulated(
    file: BinaryIO, *, start: int, length: int, file_size: int | None = None
) -> PixelSurvey:
    """Go from item to item; only their 8-byte heads are read.

    Args:
        file: Open for reading.
        start: First byte of the value, the item of the basic offset table.
        length: As the element says; must be undefined.
        file_size: Bytes of the file, if known.

    Returns:
        The survey; not complete where an item goes past the end, something else stands where an
        item should, or the delimiter is missing.

    Source:
        DICOM PS3.5, A.4.
    """
    size = os.fstat(file.fileno()).st_size if file_size is None else file_size
    if length != UNDEFINED_LENGTH:
        return PixelSurvey(False, 0)
    items: list[Range] = []
    position, is_complete = start, False
    while len(items) <= MOST_FRAGMENTS:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        group, element, item_length = struct.unpack("<HHL", head)
        if group << 16 | element != ITEM:
            is_complete = group << 16 | element == SEQUENCE_DELIMITER
            break
        if position + 8 + item_length > size:
            break
        items.append((position + 8, item_length))
        position += 8 + item_length
    fragments = tuple(items[1:])
    return PixelSurvey(is_complete, sum(n for _, n in fragments), fragments)
