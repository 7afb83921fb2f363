"""The audit log: JSON lines that only grow, each with the hash of the one before.

Processes put events into the ledger's outbox, in the transaction that they tell of; `Auditor`, in
one process, moves them into the log. An event has a name of its own, so that a move that was killed
is repeated without writing a line twice.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from grata_monai.core.files import flush_folder
from grata_monai.service.ledger import Ledger

__all__ = ["START", "Auditor", "Verdict", "verify_audit"]

START = "0" * 64
BATCH = 500
_NAME = re.compile(r"\d{4}-\d{2}-\d{2}\.jsonl")


class Auditor:
    """Moves events from the ledger into the log; one process at a time.

    Args:
        folder: Of the log: one file a day.
        ledger: Whose outbox is emptied.
        send: Called with each new event, for another log elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        send: Callable[[Sequence[dict[str, Any]]], None] = lambda events: None,
    ) -> None:
        self._folder, self._ledger, self._send = folder, ledger, send
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._last = _mend(folder)
        self._known = _read_ids(folder)

    def move(self) -> int:
        """Write what is in the outbox, and forget it there.

        Returns:
            How many events there were.

        Raises:
            OSError: If the log cannot be written; nothing is lost then.
        """
        waiting = self._ledger.read_outbox(BATCH)
        fresh = [event for _, event in waiting if event["id"] not in self._known]
        if fresh:
            self._append(fresh)
        if waiting:
            self._ledger.empty_outbox([number for number, _ in waiting])
        self._known = set()
        return len(waiting)

    def _append(self, events: Sequence[dict[str, Any]]) -> None:
        lines, last = [], self._last
        for event in events:
            line = json.dumps({**event, "previous": last}, sort_keys=True).encode()
            last = hashlib.sha256(line).hexdigest()
            lines.append(line + b"\n")
        newest = max(
            [f"{datetime.now(UTC):%Y-%m-%d}.jsonl", *(p.name for p in _files(self._folder))]
        )
        path = self._folder / newest  # the clock may be stepped back: never before the last file
        is_new = not path.exists()
        size = 0 if is_new else path.stat().st_size
        try:
            with path.open("ab") as file:
                file.write(b"".join(lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            if path.exists():
                os.truncate(path, size)  # all lines or none
            raise
        if is_new:
            flush_folder(self._folder)
        self._last = last
        self._send(events)

    def forget(self, days: int) -> int:
        """Remove files older than so many days; return how many."""
        oldest = f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d}.jsonl"
        old = [path for path in _files(self._folder)[:-1] if path.name < oldest]
        for path in old:
            path.unlink()
        return len(old)


@dataclass(frozen=True)
class Verdict:
    """What `verify_audit` found.

    Attributes:
        lines: How many.
        first: Hash that the first line names: zeros, unless older files were removed by age.
        last: Hash of the last line: keep it elsewhere, and a log that was cut off shows.
        fault: Where the chain is broken, in a sentence; empty if it is not.
    """

    lines: int
    first: str
    last: str
    fault: str = ""


def verify_audit(folder: Path) -> Verdict:
    """Follow the chain of a log through all its files.

    Args:
        folder: Of the log.

    Returns:
        Whether it holds.
    """
    first, last, count = "", START, 0
    for path, number, line in _lines(folder):
        try:
            event = json.loads(line)
            previous = event["previous"]
        except (ValueError, KeyError, TypeError):
            fault = f"{path.name} must hold one event a line, line {number} is none."
            return Verdict(count, first, last, fault)
        if count and previous != last:
            fault = f"before line {number} of {path.name} something was changed or taken out."
            return Verdict(count, first, last, fault)
        first = first or previous
        last, count = hashlib.sha256(line).hexdigest(), count + 1
    return Verdict(count, first or START, last)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.jsonl") if _NAME.fullmatch(path.name))


def _lines(folder: Path) -> Iterator[tuple[Path, int, bytes]]:
    for path in _files(folder):
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            yield path, number, line


def _mend(folder: Path) -> str:
    """Cut off a line that a killed process has half written; return the hash of the last one."""
    for path in reversed(_files(folder)):
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
        if whole:
            return hashlib.sha256(content[:whole].splitlines()[-1]).hexdigest()
    return START


def _read_ids(folder: Path) -> set[str]:
    """Names of the last events that the log has: they may still be in the outbox."""
    lines: list[bytes] = []
    for path in reversed(_files(folder)):
        lines = path.read_bytes().splitlines() + lines
        if len(lines) > BATCH:
            break
    return {str(json.loads(line)["id"]) for line in lines[-BATCH:]}
