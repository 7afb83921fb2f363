"""Doors besides C-STORE: a watched folder, and a DICOMweb service that is asked for new series."""

import errno
import logging
import os
import shutil
import stat
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from grata_monai.core.errors import TransferError
from grata_monai.read.dicom.discover import discover
from grata_monai.service.intake import Answer, Intake
from grata_monai.service.parts import Pull, Watch
from grata_monai.service.spool import Spool
from grata_monai.transfer.address import WebAddress, parse_address
from grata_monai.transfer.exchange import fetch
from grata_monai.transfer.find import FoundSeries, list_series
from grata_monai.transfer.retry import Retry

__all__ = ["Puller", "Watcher"]

logger = logging.getLogger(__name__)

BLOCK = 2**20


class Watcher:
    """Takes DICOM files out of a folder once they have not grown for a while.

    Args:
        watch: The folder and its route.
        intake: Takes the instances.
    """

    def __init__(self, watch: Watch, intake: Intake) -> None:
        self._watch, self._intake = watch, intake
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}
        watch.folder.mkdir(parents=True, exist_ok=True)

    def look(self) -> int:
        """Look once, passing over links, pipes and devices; return how many files were taken."""
        now, seen, taken = time.monotonic(), {}, 0
        for file in discover(self._watch.folder).files:
            try:
                state = file.lstat()
            except OSError:
                continue  # whoever put it there took it away
            if not stat.S_ISREG(state.st_mode):
                continue
            stamp = (state.st_size, state.st_mtime_ns)
            known, since = self._seen.get(file, (None, now))
            seen[file] = (stamp, since if known == stamp else now)
            if now - seen[file][1] >= self._watch.settle_seconds and self._intake.has_room:
                try:
                    taken += self._take(file)
                except OSError as error:  # of one file; the others must not wait for it
                    logger.warning("A file of the watched folder: %s", error.strerror)
                    seen[file] = (stamp, now)
        self._seen = {file: state for file, state in seen.items() if file.exists()}
        return taken

    def _take(self, file: Path) -> int:
        """Take a file in; what is no instance is put aside."""
        spool, route = self._intake.spool, self._intake.config.route(self._watch.called)
        assert route is not None, "checked with the configuration"
        answer, most = Answer.UNREADABLE, self._intake.config.dicom.instance_bytes
        stamp = _stamp(file.lstat())
        with spool.receiving() as copy:
            if file.lstat().st_size <= most:
                stamp = _copy(file, copy, most)
                answer = self._intake.take(copy, route)
        if _stamp(file.lstat()) != stamp:
            return 0  # somebody has put another one in its place: that one comes next
        if answer is Answer.KEPT:
            file.unlink()
            return 1
        aside = spool.folder / "failed"
        aside.mkdir(exist_ok=True, mode=0o700)
        shutil.move(file, aside / f"{time.time_ns()}")
        logger.warning("A file of the watched folder was put aside: %s", answer.value)
        self._intake.ledger.note("put aside", {"reason": answer.value})
        return 0


def _copy(file: Path, copy: Path, most: int) -> tuple[int, ...]:
    """Copy a file that may be another by now: no link is followed, no pipe is waited for.

    Returns:
        What tells it from another one of this name.

    Raises:
        OSError: If it is no regular file, or grows beyond `most` bytes meanwhile.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as source, copy.open("wb") as target:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "is no regular file")
        left = most
        while block := source.read(min(BLOCK, left + 1)):
            left -= len(block)
            if left < 0:
                raise OSError(errno.EFBIG, "grows beyond the largest instance")
            target.write(block)
        return _stamp(state)


def _stamp(state: os.stat_result) -> tuple[int, ...]:
    return state.st_ino, state.st_size, state.st_mtime_ns


class Puller:
    """Asks a DICOMweb service for series that are new.

    Args:
        pull: The service and its route.
        intake: Takes the instances.
    """

    def __init__(self, pull: Pull, intake: Intake) -> None:
        self._pull, self._intake = pull, intake
        self._next = 0.0

    def look(self) -> int:
        """Ask, if it is time to; return how many series came."""
        if time.monotonic() < self._next or not self._intake.has_room:
            return 0
        self._next = time.monotonic() + self._pull.every_seconds
        address = parse_address(self._pull.source)
        assert isinstance(address, WebAddress), "checked with the configuration"
        since = f"{datetime.now(UTC) - timedelta(days=self._pull.days):%Y%m%d}-"
        try:
            found = list_series(
                address,
                dates=since,
                modality=self._pull.modality,
                security=self._pull.security,
                retry=Retry(attempts=1),
            )
            return sum(self._fetch(address, series) for series in found)
        except TransferError as error:
            logger.warning("A service could not be asked for series: %s", error)
            return 0

    def _fetch(self, address: WebAddress, series: FoundSeries) -> int:
        """Fetch a series, unless it has come before with as many instances."""
        spool = self._intake.spool
        key = Spool.name(self._pull.called, series.series_uid)
        row = self._intake.ledger.get(key)
        if row is not None and (row.edition > 1 or spool.count(key) >= series.instances):
            return 0
        route = self._intake.config.route(self._pull.called)
        assert route is not None, "checked with the configuration"
        folder = spool.incoming / f"pull-{key}"
        shutil.rmtree(folder, ignore_errors=True)
        where = replace(address, study_uid=series.study_uid, series_uid=series.series_uid)
        try:
            fetched = fetch(where, folder, security=self._pull.security, retry=Retry(attempts=2))
            for file in sorted(folder.iterdir()):
                self._intake.take(file, route)
            self._intake.expect(self._pull.called, series.series_uid, fetched.instances)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return 1
