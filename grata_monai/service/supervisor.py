"""Keep the workers alive: start one again that has ended, later each time if it ends at once."""

import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grata_monai.service.config import ServiceConfig
from grata_monai.service.jobs import DELIVER, SEGMENT
from grata_monai.service.ledger import Ledger

__all__ = ["Supervisor"]

logger = logging.getLogger(__name__)

SHORT_SECONDS = 60.0
LONGEST_WAIT = 60.0
ENDING_SECONDS = 30.0  # to close a database, beside what a case may take


@dataclass
class _Child:
    """One worker's place.

    Attributes:
        command: That starts it.
        name: For people.
        process: That runs; None if none does.
        started: Monotonic clock.
        failures: How often in a row it ended soon.
    """

    command: Sequence[str]
    name: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    again: float = field(default=0.0)


class Supervisor:
    """The workers of one service.

    Args:
        config: Of the service.
        path: Of its file, which workers read anew.
        ledger: Is told when a worker has died.
    """

    def __init__(self, config: ServiceConfig, path: Path, ledger: Ledger) -> None:
        self._config, self._ledger = config, ledger
        places = [(SEGMENT, slot) for slot in range(config.slots)] + [(DELIVER, 0)]
        self._children = [
            _Child(_command(path, kind, slot), f"{kind}{slot}") for kind, slot in places
        ]

    def tend(self, *, is_paused: bool = False) -> None:
        """Start what is not running; with a pause, end what segments instead."""
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._bury(child)
            wanted = not (is_paused and child.name.startswith(SEGMENT))
            if child.process is None and wanted and time.monotonic() >= child.again:
                child.process = subprocess.Popen(child.command, stdin=subprocess.PIPE)
                child.started = time.monotonic()
            elif child.process is not None and not wanted:
                child.process.terminate()

    def alive(self) -> dict[str, bool]:
        """Which workers run."""
        return {
            child.name: child.process is not None and child.process.poll() is None
            for child in self._children
        }

    def close(self) -> None:
        """Let every worker end what it is doing, for the time that a drain may take."""
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.terminate()
        end = time.monotonic() + self._config.limits.drain_seconds + ENDING_SECONDS
        for process in running:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("A worker has not ended in time; its case is begun again later")
                process.kill()
                process.wait()

    def _bury(self, child: _Child) -> None:
        """Note that a worker has ended, and when to start it again."""
        assert child.process is not None
        code = child.process.returncode
        lived = time.monotonic() - child.started
        child.failures = child.failures + 1 if lived < SHORT_SECONDS else 0
        wait = 0.0 if child.failures < 2 else min(2.0**child.failures, LONGEST_WAIT)
        child.process, child.again = None, time.monotonic() + wait
        if code != 0:
            logger.error(
                "Worker %s has ended (%s); started again in %.0f s", child.name, code, wait
            )
            self._ledger.note("worker died", {"worker": child.name, "code": code})


def _command(path: Path, kind: str, slot: int) -> list[str]:
    return [sys.executable, "-m", "grata_monai.service.worker", str(path), kind, str(slot)]
