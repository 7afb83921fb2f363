"""Take instances in, from whichever door, and say when a series is complete.

An instance is answered for when its file and the row of its series are on the disk. What came twice
is kept once. A series that gets instances after it was complete is opened again, once.
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from queue import SimpleQueue

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.headers import FileKind, Header, read_headers
from grata_monai.read.dicom.limits import Limits
from grata_monai.service.config import ServiceConfig
from grata_monai.service.ledger import Ledger, Series, State
from grata_monai.service.parts import PRIORITIES, Route
from grata_monai.service.spool import Spool
from grata_monai.transfer.address import check_uid

__all__ = ["Answer", "HeaderReader", "Intake", "deadline"]

logger = logging.getLogger(__name__)

EPOCH = 1_767_225_600.0  # 2026-01-01; priorities of the queue have 31 bits
INCOMPLETE = "incomplete"


class Answer(Enum):
    """What a door tells whoever brought an instance."""

    KEPT = "kept"
    FULL = "no room: the disk is below its watermark, or the service drains"
    UNREADABLE = "no readable DICOM instance"
    OTHER = "not the instance that was announced"
    LATE = "the series was opened again before, and is closed"


@dataclass
class _Waiting:
    """A series that is being received; times of the monotonic clock, which nobody steps."""

    began: float
    touched: float
    expected: int = 0
    asked: float = 0.0


class HeaderReader:
    """Reads headers in one sandbox that stays, for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: SimpleQueue[Path | None] = SimpleQueue()
        self._headers = read_headers(iter(self._asked.get, None), limits=Limits())

    def read(self, file: Path) -> Header | FileKind | DicomError:
        """Read one header."""
        with self._lock:
            self._asked.put(file)
            return next(self._headers)

    def close(self) -> None:
        """End the sandbox."""
        with self._lock:
            self._headers.close()


class Intake:
    """Receives, and closes series that are complete.

    Args:
        config: Of the service.
        ledger: Rows of series.
        spool: Files of series.
    """

    def __init__(self, config: ServiceConfig, ledger: Ledger, spool: Spool) -> None:
        self.config, self.ledger, self.spool = config, ledger, spool
        self.headers = HeaderReader()
        self.is_draining = False
        self._lock = threading.Lock()  # between an instance that comes and a series that closes
        now = time.monotonic()
        open_series = ledger.find([State.RECEIVING])
        self._waiting = {series.key: _Waiting(now, now) for series in open_series}

    @property
    def has_room(self) -> bool:
        """Whether new work is taken."""
        return not self.is_draining and self.spool.free_gib >= self.config.limits.free_gib

    def take(self, file: Path, route: Route, *, announced: tuple[str, str] | None = None) -> Answer:
        """Take an instance in.

        Args:
            file: In the spool's `incoming`; is moved away if it is kept.
            route: Of the door.
            announced: UIDs of its SOP class and of itself, as the peer says; None if it does not.

        Returns:
            What became of it.

        Raises:
            OSError: If the disk refuses; nothing was kept then.
        """
        header = self.headers.read(file)
        if not isinstance(header, Header) or not _has_uids(header):
            return Answer.UNREADABLE
        if announced not in (None, (header.sop_class_uid, header.sop_instance_uid)):
            return Answer.OTHER
        key = Spool.name(route.called, header.series_uid)
        place = self.spool.place(key, header.sop_instance_uid)
        with self._lock:
            series = self.ledger.receive(
                key, called=route.called, rule=route.model_dump_json(by_alias=True)
            )
            if place.exists():
                return Answer.KEPT
            if series.state != State.RECEIVING and not self._reopen(series):
                return Answer.LATE
            self.spool.keep(file, place)
            now = time.monotonic()
            self._waiting.setdefault(key, _Waiting(now, now)).touched = now
        return Answer.KEPT

    def expect(self, called: str, series_uid: str, count: int) -> None:
        """Note how many instances a peer says that a series has."""
        with self._lock:
            waiting = self._waiting.get(Spool.name(called, series_uid))
            if waiting is not None:
                waiting.expected = count

    def list_uncounted(self) -> Iterator[str]:
        """Series that have been silent long enough to ask a peer how many instances they have."""
        rule, now = self.config.completeness, time.monotonic()
        with self._lock:
            for key, waiting in self._waiting.items():
                since = now - max(waiting.touched, waiting.asked)
                if rule.count and since >= rule.count_seconds:
                    waiting.asked = now
                    yield key

    def read_one(self, key: str) -> Header | None:
        """The header of one instance of a series; None if there is none."""
        file = next(self.spool.series(key).glob("*.dcm"), None)
        header = None if file is None else self.headers.read(file)
        return header if isinstance(header, Header) else None

    def note_count(self, key: str, expected: int) -> None:
        """Note what a peer has counted; 0 if it does not know."""
        with self._lock:
            if key in self._waiting:
                self._waiting[key].expected = expected

    def close_complete(self) -> list[Series]:
        """Close the series that are complete, and those whose instances do not come.

        Returns:
            Rows of the series that wait for a worker now.
        """
        with self._lock:
            keys = list(self._waiting)
        closed = []
        for key in keys:
            with self._lock:
                waiting = self._waiting[key]
                count = self.spool.count(key)
                verdict = self._judge(waiting, count)
                if verdict:
                    closed += self._close(key, count, waiting.expected, is_complete=verdict > 0)
        return closed

    def _judge(self, waiting: _Waiting, count: int) -> int:
        """1 for a complete series, -1 for one that is given up, 0 for one to wait for."""
        rule, now = self.config.completeness, time.monotonic()
        if waiting.expected and count == waiting.expected:
            return 1
        silence = now - waiting.touched
        if count < waiting.expected:
            return -1 if silence >= rule.give_up_seconds else 0
        return 1 if silence >= rule.quiet_seconds else 0

    def _close(self, key: str, count: int, expected: int, *, is_complete: bool) -> list[Series]:
        series = self.ledger.get(key)
        del self._waiting[key]
        if series is None or series.state != State.RECEIVING or count == 0:
            if series is not None and series.state == State.RECEIVING:
                self.ledger.remove(series)  # killed between its row and its first file
            return []
        values = {"instances": count, "expected": expected}
        if is_complete:
            done = self.ledger.move(
                series, State.QUEUED, event="complete", details=values, **values, job=series.job + 1
            )
            return [done] if done else []
        self.ledger.move(
            series,
            State.REFUSED,
            event="end",
            details={"end": State.REFUSED, "reason": INCOMPLETE, **values},
            reason=INCOMPLETE,
            **values,
        )
        return []

    def _reopen(self, series: Series) -> bool:
        """Open a series again for an instance that came late, once; say so."""
        if series.edition > 1:
            self.ledger.note("late", series=series)
            return False
        reopened = self.ledger.move(
            series,
            State.RECEIVING,
            event="reopened",
            details={"was": series.state},
            edition=series.edition + 1,
            tries=0,
            sends=0,
            waited=0.0,
            reason="",
            light="",
        )
        return reopened is not None or self._again(series.key)

    def _again(self, key: str) -> bool:
        """A worker has moved the row meanwhile: look at it anew."""
        series = self.ledger.get(key)
        return series is not None and (series.state == State.RECEIVING or self._reopen(series))


def _has_uids(header: Header) -> bool:
    """Whether its UIDs are some: another text could lead a question about it anywhere."""
    try:
        for uid in (header.study_uid, header.series_uid, header.sop_instance_uid):
            check_uid(uid, "UID")
    except ValueError:
        return False
    return True


def deadline(series: Series) -> int:
    """Place of a series in the queue: when it came, moved back by what its priority yields.

    Who came long ago is overtaken by nobody: that is the ageing.

    >>> from dataclasses import replace
    >>> normal = Series("a", 1, "queued", "T", '{"priority": "normal"}', EPOCH, EPOCH)
    >>> later = replace(normal, rule='{"priority": "emergency"}', received=EPOCH + 3599)
    >>> deadline(later) < deadline(normal) < deadline(replace(later, received=EPOCH + 3601))
    True
    """
    yields = PRIORITIES[series.route["priority"]]
    return min(max(1, int(series.received - EPOCH) + yields), 2**31 - 1)
