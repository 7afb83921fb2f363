"""The service itself: open the doors, supervise workers, queue what is complete, keep the log."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from grata_monai.core.errors import GrataError, OutputError, TransferError
from grata_monai.service.audit import Auditor
from grata_monai.service.config import ServiceConfig, read_config
from grata_monai.service.intake import Intake
from grata_monai.service.jobs import Jobs, list_names
from grata_monai.service.ledger import OPEN, Ledger, State
from grata_monai.service.scp import Receiver
from grata_monai.service.sources import Puller, Watcher
from grata_monai.service.spool import Spool
from grata_monai.service.status import Health
from grata_monai.service.supervisor import Supervisor
from grata_monai.service.syslog import Syslog
from grata_monai.service.web import WebServer
from grata_monai.service.worker import prepare_logging
from grata_monai.transfer.find import count_instances
from grata_monai.transfer.retry import Retry

__all__ = ["Service", "serve"]

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.25
COUNTERS = 4  # threads that ask how many instances a series has
RECONCILE_SECONDS = 30.0
TIDY_SECONDS = 3600.0
COUNT = Retry(attempts=1, connect_seconds=5, answer_seconds=20)
DAY = 86400.0


def serve(path: Path, *, workers_only: bool = False) -> str:
    """Run until a signal asks to end, or a drain is done.

    Args:
        path: Of the configuration.
        workers_only: Whether to open no door: another machine does, with the same folder and
            database.

    Returns:
        A report.

    Raises:
        ValueError: If the configuration breaks a rule.
        GrataError: If an address is not free, or another process serves this folder.
    """
    config = read_config(path)
    prepare_logging()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if workers_only:
        _help(config, path.absolute(), stop)
    else:
        with Service(config, path.absolute()) as service:
            service.run(stop)
    return "drained and stopped"


def _help(config: ServiceConfig, path: Path, stop: threading.Event) -> None:
    """Keep workers alive for a service that another machine runs."""
    with ExitStack() as stack:
        ledger, jobs = Ledger(config), Jobs(config)
        stack.callback(ledger.close)
        stack.callback(jobs.close)
        jobs.release(list_names(config))
        supervisor = Supervisor(config, path, ledger)
        stack.callback(supervisor.close)
        while not stop.wait(TICK_SECONDS):
            supervisor.tend(is_paused=ledger.read_setting("mode", "run") == "pause")


class Service:
    """All that one process of a service does; a context that opens and closes it.

    Args:
        config: Of the service.
        path: Of its file, for workers.
    """

    def __init__(self, config: ServiceConfig, path: Path) -> None:
        self.config, self._path = config, path
        self._closing = ExitStack()

    def __enter__(self) -> "Service":
        with ExitStack() as stack:
            self._open(stack)
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _open(self, stack: ExitStack) -> None:
        config = self.config
        self.spool = Spool(config.folder)
        lock = FileLock(config.folder / "serve.lock")
        try:
            stack.enter_context(lock.acquire(timeout=10))
        except Timeout as error:
            raise OutputError(
                "folder must belong to one running service, another one has it. Stop that first."
            ) from error
        self.spool.sweep()
        self.ledger = Ledger(config)
        stack.callback(self.ledger.close)
        syslog = Syslog(config.audit)
        self.auditor = Auditor(config.folder / "audit", self.ledger, syslog.send)
        stack.callback(self.auditor.move)
        self.jobs = Jobs(config)
        stack.callback(self.jobs.close)
        self._take_over()
        self.intake = Intake(config, self.ledger, self.spool)
        stack.callback(self.intake.headers.close)
        self.intake.headers.read(Path(__file__))  # starts the sandbox before a peer waits for it
        self.supervisor = Supervisor(config, self._path, self.ledger)
        stack.callback(self.ledger.note, "stopped")
        stack.callback(self.supervisor.close)
        self._sources: Sequence[Watcher | Puller] = [
            *(Watcher(watch, self.intake) for watch in config.watch),
            *(Puller(pull, self.intake) for pull in config.pull),
        ]
        self._looking: dict[Watcher | Puller, Future[None]] = {}
        threads = COUNTERS + len(self._sources)
        self._pool = stack.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="ask"))
        health = Health(config, self.ledger, self.spool, self.supervisor.alive)
        web = WebServer(config.web, health)
        stack.callback(web.close)
        self.receiver = Receiver(config, self.intake)
        stack.callback(self.receiver.close)

    def run(self, stop: threading.Event) -> None:
        """Do what is due, again and again.

        Args:
            stop: Ends it. A drain ends it too, once no case is open.
        """
        self.ledger.note("started", {"version": _version(), "configuration": self.config.digest})
        logger.info(
            "Listening at %s, page at %s", self.config.dicom.address, self.config.web.address
        )
        due = _Due()
        while not stop.is_set():
            mode = self.ledger.read_setting("mode", "run")
            self.intake.is_draining = mode == "drain"
            self._attempt(partial(self.supervisor.tend, is_paused=mode == "pause"))
            self._attempt(self._queue_complete)
            self._attempt(self._ask_counts)
            for source in self._sources:
                self._look(source)
            self._attempt(self.receiver.note_rejections)
            self._attempt(self.auditor.move)
            if due.is_due("reconcile", RECONCILE_SECONDS):
                self._attempt(partial(self.jobs.reconcile, self.ledger))
            if due.is_due("tidy", TIDY_SECONDS):
                self._attempt(self._tidy)
            if mode == "drain" and not self.ledger.find(OPEN, most=1):
                self.ledger.write_setting("mode", "run")
                return
            stop.wait(TICK_SECONDS)
        self.intake.is_draining = True
        logger.info("Draining: what runs may end, the rest goes on after the next start")

    def _take_over(self) -> None:
        """Begin again what processes that are no more had begun; say so after an upgrade."""
        self.jobs.release(list_names(self.config))
        before, now = self.ledger.read_setting("version"), _version()
        if before not in ("", now):
            count = self.jobs.restart(self.ledger)
            self.ledger.note("upgraded", {"before": before, "now": now, "queued again": count})
            logger.warning("Version %s after %s: %d open cases queued again", now, before, count)
        self.ledger.write_setting("version", now)

    def _queue_complete(self) -> None:
        self.jobs.put(self.intake.close_complete())

    def _look(self, source: Watcher | Puller) -> None:
        """Let a source look in a thread, unless it still does: a study may take minutes."""
        if source not in self._looking or self._looking[source].done():
            self._looking[source] = self._pool.submit(self._attempt, source.look)

    def _ask_counts(self) -> None:
        """Ask, in threads, how many instances silent series have."""
        for key in list(self.intake.list_uncounted()):
            self._pool.submit(self._attempt, partial(self._count, key))

    def _count(self, key: str) -> None:
        rule, header = self.config.completeness, self.intake.read_one(key)
        if header is None:
            return
        try:
            found = count_instances(
                rule.peer, header.study_uid, header.series_uid, security=rule.security, retry=COUNT
            )
        except TransferError as error:
            logger.warning("completeness.count could not be asked, silence decides: %s", error)
        else:
            self.intake.note_count(key, found)

    def _tidy(self) -> None:
        """Remove what is older than it has to be kept."""
        self.jobs.forget()
        removed = self.auditor.forget(self.config.audit.keep_days)
        if removed:
            self.ledger.note("audit files removed by age", {"files": removed})
        oldest = time.time() - self.config.limits.keep_days * DAY
        for series in self.ledger.find([State.DELIVERED, State.REFUSED]):
            if series.changed < oldest:
                self.ledger.remove(series)
                self.spool.forget(series.key, series.edition)

    def _attempt(self, action: Callable[[], Any]) -> None:
        """Do something whose failure must not end the service."""
        try:
            action()
        except Exception as error:  # disk full, database gone: the next round tries again
            text = str(error) if isinstance(error, GrataError) else type(error).__name__
            logger.error("Something due could not be done, and is tried again: %s", text)
            logger.debug("it failed", exc_info=True)


class _Due:
    """When something was last done."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def is_due(self, name: str, seconds: float) -> bool:
        """Whether it is time again; the first time at once."""
        now = time.monotonic()
        if now - self._last.get(name, -seconds) < seconds:
            return False
        self._last[name] = now
        return True


def _version() -> str:
    try:
        return version("grata-monai")
    except PackageNotFoundError:
        return "unknown"
