"""Limit the bytes that the sandbox reads of a header, and silence pydicom's warnings and log."""

import logging
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import BinaryIO

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.rejection import Reason

__all__ = ["BudgetedFile", "quiet_pydicom", "unreadable"]

SMALLEST_COST = 64  # bytes of the budget


def unreadable(rule: str) -> DicomError:
    """Make the error of a file that cannot be read.

    Args:
        rule: What "DICOM file" must do, and what was found; no element's text.

    Returns:
        To be raised.
    """
    return DicomError(f"DICOM file {rule}.", reason=Reason.UNREADABLE.value)


@contextmanager
def quiet_pydicom() -> Generator[None, None, None]:
    """Silence pydicom's warnings and log lines, which quote elements' values."""
    logger = logging.getLogger("pydicom")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled


class BudgetedFile:
    """A file that stops the reading of a header at a limit of bytes, and notes where it is cut off.

    Args:
        file: Open for reading.
        budget: Bytes that may be read; each reading counts as 64 at least, which bounds their
            number, and so the time.

    Attributes:
        is_exhausted: Whether the budget was overdrawn.
        is_cut: Whether more was asked for than the file has left, but not at its end.
    """

    def __init__(self, file: BinaryIO, budget: int) -> None:
        self.file, self.budget = file, budget
        self.size = os.fstat(file.fileno()).st_size
        self.is_exhausted = self.is_cut = False
        self._position = file.tell()  # asked of the file itself, it costs as much as a reading

    def read(self, count: int = -1) -> bytes:
        """Read so many bytes, or what is left of the file."""
        rest = self.size - self._position
        expected = rest if count < 0 else min(count, rest)
        self.budget -= max(expected, SMALLEST_COST)
        if self.budget < 0:
            self.is_exhausted = True
            raise unreadable("must keep the header within its limit of bytes")
        self.is_cut |= 0 < rest < count
        content = self.file.read(max(expected, 0))
        self._position += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place, which may lie beyond the end."""
        self._position = self.file.seek(offset, whence)
        self.is_cut |= self._position > self.size
        return self._position

    def tell(self) -> int:
        """Say where the next byte is read."""
        return self._position
