"""What a service looks like now: its cases worst first, its alarms, its scanners."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from grata_monai.read.outputs import REPORT_FOLDER
from grata_monai.service.config import ServiceConfig
from grata_monai.service.intake import deadline
from grata_monai.service.ledger import OPEN, Ledger, Series, State
from grata_monai.service.spool import Spool

__all__ = ["ALARMS", "Alarm", "CaseLine", "Health", "Scanner", "Snapshot"]

USUAL_SECONDS = 60.0  # of a case, until one has been segmented
MOST_LINES = 200
REVIEWS = "reviews.jsonl"
ALARMS: Mapping[str, str] = {
    "disk-low": "Free space below limits.free_gib; until then peers get A700.",
    "worker-down": "A worker does not run: see the log for why. It is started again by itself.",
    "stuck": "The oldest open case is older than limits.stuck_seconds: look at its line.",
    "not-delivered": "A destination does not take results: ask its administrator; sends go on.",
    "quarantined": "Cases failed too often: read why, put it right, then: service retry KEY.",
    "paused": "Nobody segments: service resume.",
    "draining": "No new work is taken; the service stops when nothing is open.",
}
"""Every alarm, and what to do about it; the documentation has a row for each."""

NOT_READY = ("disk-low", "worker-down", "draining")
_RANKS = ("quarantined", "refused", "red", "amber", "waiting", "none", "green", "receiving")


@dataclass(frozen=True)
class Alarm:
    """Something that a person must see to.

    Attributes:
        name: One of `ALARMS`.
        text: What is the case.
    """

    name: str
    text: str

    @property
    def remedy(self) -> str:
        """What to do."""
        return ALARMS[self.name]


@dataclass(frozen=True)
class CaseLine:
    """A case as the page shows it.

    Attributes:
        key: Of the series; a hash.
        rank: Which decides the order.
        state: Where it is.
        light: Of its mask; empty without one.
        scanner: Manufacturer and model.
        age_seconds: Since its first instance came.
        position: In the queue, from 1; 0 if it is not in it.
        eta_seconds: Until it is segmented; 0 if it is not in the queue.
        reason: Why it ended so, or why the last try failed.
    """

    key: str
    rank: str
    state: str
    light: str
    scanner: str
    age_seconds: float
    position: int
    eta_seconds: float
    reason: str


@dataclass(frozen=True)
class Scanner:
    """Cases of one scanner, in percent.

    Attributes:
        name: Manufacturer and model.
        cases: With a mask.
        amber: Masks to look at closely.
        red: Masks not to rely on.
        reviewed: How many a reader has judged.
        overridden: Of those, edited or rejected; None if none was judged.
    """

    name: str
    cases: int
    amber: float
    red: float
    reviewed: int
    overridden: float | None


@dataclass(frozen=True)
class Snapshot:
    """A service at one moment.

    Attributes:
        mode: ``run``, ``pause`` or ``drain``.
        counts: State to how many series.
        oldest_seconds: Age of the oldest open series.
        free_gib: Of the disk.
        workers: Which run.
        alarms: Worst first.
        lines: Cases, worst first.
        scanners: By name.
    """

    mode: str
    counts: Mapping[str, int]
    oldest_seconds: float
    free_gib: float
    workers: Mapping[str, bool]
    alarms: tuple[Alarm, ...]
    lines: tuple[CaseLine, ...]
    scanners: tuple[Scanner, ...]

    @property
    def is_ready(self) -> bool:
        """Whether new work is taken and done."""
        return not any(alarm.name in NOT_READY for alarm in self.alarms)


class Health:
    """Looks at a service.

    Args:
        config: Of the service.
        ledger: Of the service.
        spool: Of the service.
        alive: Says which workers run; whoever is not their parent knows none.
    """

    def __init__(
        self,
        config: ServiceConfig,
        ledger: Ledger,
        spool: Spool,
        alive: Callable[[], Mapping[str, bool]] = dict,
    ) -> None:
        self._config, self._ledger, self._spool, self._alive = config, ledger, spool, alive

    def look(self) -> Snapshot:
        """Look now."""
        rows, mode = self._ledger.find(), self._ledger.read_setting("mode", "run")
        now, workers, free = time.time(), self._alive(), self._spool.free_gib
        oldest = max((now - row.received for row in rows if row.state in OPEN), default=0.0)
        counts = {str(state): sum(row.state == state for row in rows) for state in State}
        return Snapshot(
            mode=mode,
            counts=counts,
            oldest_seconds=max(0.0, oldest),
            free_gib=free,
            workers=workers,
            alarms=tuple(self._find_alarms(rows, mode, oldest, free, workers)),
            lines=tuple(self._make_lines(rows, now)),
            scanners=tuple(self._judge_scanners(rows)),
        )

    def list_reports(self, key: str) -> list[Path]:
        """The pages of a series' volumes, which the room `report` has written; none without one."""
        row = self._ledger.get(key)
        if row is None or not row.light:
            return []
        return sorted((self._spool.results(key, row.edition) / REPORT_FOLDER).glob("*.html"))

    def _find_alarms(
        self,
        rows: list[Series],
        mode: str,
        oldest: float,
        free: float,
        workers: Mapping[str, bool],
    ) -> list[Alarm]:
        limits, found = self._config.limits, []
        if free < limits.free_gib:
            found.append(Alarm("disk-low", f"{free:.1f} GiB free"))
        down = [name for name, runs in workers.items() if not runs]
        if down and mode != "pause":
            found.append(Alarm("worker-down", ", ".join(down)))
        stuck = [row for row in rows if row.state == State.SEGMENTED and row.reason]
        for name in sorted({str(row.route["destination"]) for row in stuck}):
            found.append(Alarm("not-delivered", name))
        if oldest > limits.stuck_seconds:
            found.append(Alarm("stuck", f"{oldest / 60:.0f} minutes"))
        lost = sum(row.state == State.QUARANTINED for row in rows)
        if lost:
            found.append(Alarm("quarantined", f"{lost} case(s)"))
        if mode in ("pause", "drain"):
            found.append(Alarm("paused" if mode == "pause" else "draining", mode))
        return found

    def _make_lines(self, rows: list[Series], now: float) -> list[CaseLine]:
        queued = sorted((row for row in rows if row.state == State.QUEUED), key=deadline)
        places = {row.key: place for place, row in enumerate(queued, start=1)}
        each = statistics.fmean([row.seconds for row in rows if row.seconds] or [USUAL_SECONDS])
        lines = [
            CaseLine(
                key=row.key,
                rank=_rank(row),
                state=row.state,
                light=row.light,
                scanner=row.scanner,
                age_seconds=max(0.0, now - row.received),
                position=places.get(row.key, 0),
                eta_seconds=places.get(row.key, 0) * each / self._config.slots,
                reason="" if row.state == State.QUEUED and row.tries < 2 else row.reason,
            )
            for row in rows
        ]
        lines.sort(key=lambda line: (_RANKS.index(line.rank), -line.age_seconds))
        return lines[:MOST_LINES]

    def _judge_scanners(self, rows: list[Series]) -> list[Scanner]:
        groups: dict[str, list[Series]] = defaultdict(list)
        for row in rows:
            if row.light:
                groups[row.scanner].append(row)
        return [self._judge(name, found) for name, found in sorted(groups.items())]

    def _judge(self, name: str, rows: list[Series]) -> Scanner:
        decisions = [self._read_decision(self._spool.results(r.key, r.edition)) for r in rows]
        judged = [decision for decision in decisions if decision]
        overridden = [decision != "accept" for decision in judged]
        return Scanner(
            name=name or "unknown",
            cases=len(rows),
            amber=100 * statistics.fmean(row.light == "amber" for row in rows),
            red=100 * statistics.fmean(row.light == "red" for row in rows),
            reviewed=len(judged),
            overridden=100 * statistics.fmean(overridden) if judged else None,
        )

    def _read_decision(self, results: Path) -> str:
        """What a reader said last of a case, by ``grata_monai review``."""
        log = results / REVIEWS
        if not log.exists():
            return ""
        from grata_monai.report.reviews import read_reviews  # noqa: PLC0415  # brings torch

        try:
            reviews = read_reviews(log)
        except ValueError:
            return ""
        return reviews[-1].decision if reviews else ""


def _rank(row: Series) -> str:
    if row.state in (State.QUARANTINED, State.REFUSED, State.RECEIVING):
        return row.state
    return row.light if row.state == State.DELIVERED and row.light in _RANKS else "waiting"
