"""The durable queue of jobs, on DBOS; no other module knows it.

A job names the series to segment or to deliver by its hash: nothing else is in the queue. A job is
done at least once; the ledger makes sure that it counts once. Which jobs there must be follows from
the ledger, so that a lost queue is filled again by `Jobs.reconcile`.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions
from dbos import run_dbos_database_migrations as migrate

from grata_monai.service.config import ServiceConfig
from grata_monai.service.intake import deadline
from grata_monai.service.ledger import Ledger, Series, State

__all__ = ["DELIVER", "SEGMENT", "Follow", "Jobs", "Worker", "deliverer", "list_names", "segmenter"]

SEGMENT, DELIVER = "segment", "deliver"
NAME = "grata_monai"
VERSION = "1"
"""Of what a job says. Pinned: with one per release, the jobs of the last would wait for ever."""

SENDS_AT_ONCE = 4
POLL_SECONDS = 0.5
MOST_FORGOTTEN = 5000
ENDED = ("SUCCESS", "ERROR", "CANCELLED")
ACTIVE = ("ENQUEUED", "PENDING", "DELAYED")


def segmenter(config: ServiceConfig, slot: int) -> str:
    """Name of the process that segments in a slot; the same after every restart."""
    return f"{config.node}/slot{slot}"


def deliverer(config: ServiceConfig) -> str:
    """Name of the process that delivers."""
    return f"{config.node}/deliver"


def list_names(config: ServiceConfig) -> list[str]:
    """Names of all processes of this node that run jobs."""
    return [*(segmenter(config, slot) for slot in range(config.slots)), deliverer(config)]


@dataclass(frozen=True)
class Follow:
    """A job to be put into the queue.

    Attributes:
        kind: `SEGMENT` or `DELIVER`.
        key: Of the series.
        edition: Of the series.
        job: Number of the job; one of an older number does nothing.
        priority: The lower, the sooner.
        partition: Jobs of one partition wait for each other; empty for those that do not.
        delay_seconds: To wait before.
    """

    kind: str
    key: str
    edition: int
    job: int
    priority: int
    partition: str = ""
    delay_seconds: int | float = 0.0

    @classmethod
    def of(cls, series: Series, *, delay_seconds: int | float = 0.0) -> "Follow | None":
        """The job that a row asks for; None if it asks for none."""
        if series.state not in (State.QUEUED, State.SEGMENTED):
            return None
        kind = SEGMENT if series.state == State.QUEUED else DELIVER
        partition = "" if kind == SEGMENT else str(series.route["destination"])
        return cls(
            kind, series.key, series.edition, series.job, deadline(series), partition, delay_seconds
        )

    @property
    def id(self) -> str:
        """Name in the queue; a second job of this name is not added."""
        return f"{self.kind}-{self.key}-{self.edition}-{self.job}"

    def options(self) -> EnqueueOptions:
        """As DBOS takes it."""
        options = EnqueueOptions(
            workflow_name=self.kind,
            queue_name=self.kind,
            workflow_id=self.id,
            app_version=VERSION,
            priority=self.priority,
        )
        if self.partition:
            options["queue_partition_key"] = self.partition
        if self.delay_seconds > 0:
            options["delay_seconds"] = self.delay_seconds
        return options


class Jobs:
    """Puts jobs into the queue and looks into it; runs none.

    Args:
        config: Says where the database is; its tables are made if they are missing.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        migrate(system_database_url=_url(config))
        self._client = DBOSClient(
            system_database_url=_url(config),
            serializer=DBOSPortableJSONSerializer(),
            application_name=NAME,
        )

    def close(self) -> None:
        """Close its connections."""
        self._client.destroy()

    def put(self, series: Iterable[Series]) -> None:
        """Put the jobs that rows ask for into the queue; those that are there stay."""
        for row in series:
            follow = Follow.of(row)
            if follow is not None:
                self._client.enqueue(follow.options(), follow.key, follow.edition, follow.job)

    def cancel(self, series: Series) -> None:
        """Take the job of a row out of the queue."""
        follow = Follow.of(series)
        if follow is not None:
            self._client.cancel_workflow(follow.id)

    def reconcile(self, ledger: Ledger) -> int:
        """Put into the queue what the ledger asks for and the queue has not.

        Jobs that a clock's step would keep waiting come sooner.

        Returns:
            How many jobs were missing.
        """
        self._shorten_waits()
        active = self._list_active()
        wanted = ledger.find([State.QUEUED, State.SEGMENTED])
        missing = [row for row in wanted if getattr(Follow.of(row), "id", "") not in active]
        fresh = [ledger.move(row, row.state, job=row.job + 1) for row in missing]
        self.put(row for row in fresh if row is not None)
        return len(missing)

    def release(self, names: Sequence[str]) -> int:
        """Take from processes of this node that are no more what they have begun.

        Args:
            names: Of the processes that there are.

        Returns:
            How many jobs there were.
        """
        begun = self._client.list_workflows(status="PENDING", load_input=False, load_output=False)
        lost = [
            job.workflow_id
            for job in begun
            if str(job.executor_id).startswith(f"{self._config.node}/")
            and job.executor_id not in names
        ]
        self._client.cancel_workflows(lost)
        return len(lost)

    def restart(self, ledger: Ledger) -> int:
        """Begin every open case anew, so that no step of an older version is taken over.

        Returns:
            How many cases there were.
        """
        self._client.cancel_workflows(list(self._list_active()))
        return self.reconcile(ledger)

    def forget(self) -> int:
        """Remove jobs that ended more than a day ago, some at a time; return how many."""
        yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        ended = self._client.list_workflows(
            status=list(ENDED),
            completed_before=yesterday,
            limit=MOST_FORGOTTEN,
            load_input=False,
            load_output=False,
        )
        self._client.delete_workflows([job.workflow_id for job in ended])
        return len(ended)

    def _shorten_waits(self) -> None:
        """Let no job wait longer than the largest wait, as after a clock that was ahead."""
        longest = self._config.limits.largest_seconds
        latest = 1000 * (time.time() + longest)
        for job in self._client.list_workflows(status="DELAYED", load_input=False):
            if (job.delay_until_epoch_ms or 0) > latest:
                self._client.set_workflow_delay(job.workflow_id, delay_seconds=longest)

    def _list_active(self) -> set[str]:
        found = self._client.list_workflows(
            status=list(ACTIVE), load_input=False, load_output=False
        )
        return {job.workflow_id for job in found}


class Worker:
    """Runs jobs of one kind in this process, one after the other or some at once.

    Args:
        config: Of the service.
        kind: `SEGMENT` or `DELIVER`.
        name: Of the process; what it had begun when it was killed is begun again.
        perform: Does a job of a series, an edition and a number; returns the one that follows.
    """

    def __init__(
        self,
        config: ServiceConfig,
        kind: str,
        name: str,
        perform: Callable[[str, int, int], Follow | None],
    ) -> None:
        DBOS(
            config=DBOSConfig(
                name=NAME,
                system_database_url=_url(config),
                executor_id=name,
                application_version=VERSION,
                serializer=DBOSPortableJSONSerializer(),
                log_level="WARNING",
                run_migrations=False,
            )
        )

        def step(key: str, edition: int, job: int) -> dict[str, Any] | None:
            follow = perform(key, edition, job)
            return None if follow is None else dict(follow.__dict__)

        def run(key: str, edition: int, job: int) -> None:
            found = DBOS.run_step({"name": kind}, step, key, edition, job)
            if found is not None:
                follow = Follow(**found)
                DBOS.enqueue_workflow_with_options(
                    follow.options(), follow.key, follow.edition, follow.job
                )

        DBOS.workflow(name=kind, max_recovery_attempts=None)(run)
        DBOS.listen_queues([kind])
        DBOS.launch()
        if kind == SEGMENT:
            DBOS.register_queue(
                kind,
                worker_concurrency=1,
                polling_interval_sec=POLL_SECONDS,
                on_conflict="always_update",
            )
        else:
            DBOS.register_queue(
                kind,
                worker_concurrency=SENDS_AT_ONCE,
                partition_worker_concurrency=1,
                polling_interval_sec=POLL_SECONDS,
                on_conflict="always_update",
            )

    def close(self, seconds: float) -> None:
        """Take no further job, and wait so long for those that run."""
        DBOS.destroy(workflow_completion_timeout_sec=max(1, int(seconds)))


def _url(config: ServiceConfig) -> str:
    return config.database or f"sqlite:///{config.folder / 'queue.sqlite'}"
