"""Keep instances and results on disk: each instance once, whole, and flushed before it counts."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from grata_monai.core.files import (
    UNFINISHED,
    ensure_writable,
    flush,
    flush_folder,
    temporary_name,
)

__all__ = ["Spool", "prepare_folder"]

GIB = 2**30


def prepare_folder(folder: Path) -> Path:
    """Make the folder of a service, for its user alone, and prove that it can be written.

    Raises:
        OutputError: If it cannot.
    """
    with suppress(OSError):  # the proof says what is wrong
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return ensure_writable(folder)


class Spool:
    """Folders of a service.

    ::

        incoming/            what is being received
        series/<key>/        the instances of a series, named by hashes
        results/<key>-<n>/   what its n-th edition gave
        failed/              files of a watched folder that are no DICOM

    Args:
        folder: Of the service; made if missing.

    Raises:
        OutputError: If it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = prepare_folder(folder)
        self.incoming = folder / "incoming"
        for path in (self.incoming, folder / "series", folder / "results"):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)

    @staticmethod
    def name(called: str, series_uid: str) -> str:
        """Name a series of a route; the UID cannot be read from it."""
        return hashlib.sha256(f"{called}\0{series_uid}".encode()).hexdigest()[:32]

    def series(self, key: str) -> Path:
        """Where the instances of a series are."""
        return self.folder / "series" / key

    def results(self, key: str, edition: int) -> Path:
        """Where the results of an edition are."""
        return self.folder / "results" / f"{key}-{edition}"

    def place(self, key: str, instance_uid: str) -> Path:
        """Where an instance is, or will be."""
        name = hashlib.sha256(instance_uid.encode()).hexdigest()[:32]
        return self.series(key) / f"{name}.dcm"

    def count(self, key: str) -> int:
        """How many instances of a series are there."""
        return sum(1 for _ in self.series(key).glob("*.dcm"))

    @property
    def free_gib(self) -> float:
        """Free space of the disk, GiB."""
        return shutil.disk_usage(self.folder).free / GIB

    @contextmanager
    def receiving(self) -> Iterator[Path]:
        """Lend a path to write an instance to; what is not kept is gone afterwards."""
        path = self.incoming / f"{temporary_name()}.dcm"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def keep(self, file: Path, place: Path) -> None:
        """Bring a file onto the disk under its name; both are flushed.

        Raises:
            OSError: If the file system refuses.
        """
        flush(file)
        if not place.parent.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flush_folder(place.parent.parent)
        os.replace(file, place)
        flush_folder(place.parent)

    def sweep(self) -> None:
        """Remove what a killed process was receiving."""
        for file in self.incoming.glob(f"{UNFINISHED}*"):
            file.unlink(missing_ok=True)

    def forget(self, key: str, editions: int) -> None:
        """Remove the DICOM objects of a series."""
        shutil.rmtree(self.series(key), ignore_errors=True)
        for edition in range(1, editions + 1):
            shutil.rmtree(self.results(key, edition), ignore_errors=True)
