"""Run parts of a task on several workers, each taking the next one from a durable queue.

DBOS keeps the queue: what a killed worker had begun waits for the worker of its number, which is
started again. Results come back as files, so that the queue holds nothing but numbers of parts.
"""

import pickle
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from grata_monai.core.errors import NetworkError, OutputError
from grata_monai.core.files import ensure_writable
from grata_monai.spread.starters import Handle, Local, Slurm, Starter

__all__ = ["Task", "Workers", "spread"]

FOLDER = ".workers"
LOOK_SECONDS = 0.2
DISMISS_SECONDS = 10.0
STARTS = 2  # of each worker; what ends it twice would end it for ever


@dataclass(frozen=True)
class Workers:
    """Who does the work.

    Attributes:
        count: How many workers.
        slurm: Settings of submitit, for jobs of SLURM; None for processes of this machine.
        queue: URL of PostgreSQL; empty for a file of SQLite beside the results.
    """

    count: int = 1
    slurm: Mapping[str, Any] | None = None
    queue: str = ""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"workers must be at least 1, got {self.count}.")
        if self.queue and not self.queue.startswith("postgresql"):
            raise ValueError("queue must begin with postgresql://, or be left out for SQLite.")

    @property
    def is_one(self) -> bool:
        """Whether the process itself can do all."""
        return self.count == 1 and self.slurm is None


@dataclass(frozen=True)
class Task:
    """What workers do; all of it is pickled.

    Attributes:
        open: Makes a worker's tool from its number, once.
        run: Does a part with the tool. May be called twice, if a worker is killed.
        parts: In the order in which they are begun.
    """

    open: Callable[[int], Any]
    run: Callable[[Any, Any], Any]
    parts: Sequence[Any] = field(default_factory=list)


def spread(task: Task, folder: Path, workers: Workers) -> Iterator[Any]:
    """Do all parts, and hand on their results as they come.

    Args:
        task: What is to be done.
        folder: Of the results; the queue lies in it meanwhile. SLURM's nodes must see it.
        workers: Who does it.

    Yields:
        What each part gave.

    Raises:
        Exception: What a part, or opening the tool, has raised.
        NetworkError: If a worker ended before its work, again and again.
        OutputError: If the folder cannot be written, or another run uses it.
        ValueError: If SLURM is not there, or does not take the settings.
    """
    place = ensure_writable(folder) / FOLDER
    with ExitStack() as stack:
        lock = FileLock(folder / f"{FOLDER}.lock")
        try:
            stack.enter_context(lock.acquire(timeout=1))
        except Timeout as error:
            raise OutputError(
                f"output folder must have one run at a time, another one works in {folder.name!r}. "
                "Wait until it has ended, or choose another folder."
            ) from error
        stack.callback(Path(lock.lock_file).unlink, missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)  # of a killed run
        place.mkdir(mode=0o700)
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        _fill(task, place, workers.queue, stack)
        starter: Starter = Local(place, workers.count)
        if workers.slurm is not None:
            starter = Slurm(place, workers.slurm)
        crew = _Crew(starter, min(workers.count, len(task.parts)))
        stack.callback(crew.end)
        yield from _gather(place, len(task.parts), crew)


def _fill(task: Task, place: Path, url: str, stack: ExitStack) -> None:
    """Put the task and the numbers of its parts where workers find them."""
    from dbos import DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions  # noqa: PLC0415
    from dbos import run_dbos_database_migrations as migrate  # noqa: PLC0415

    from grata_monai.spread.worker import APPLICATION, TASK, VERSION  # noqa: PLC0415

    url = url or f"sqlite:///{place.absolute() / 'queue.sqlite'}"
    queue = f"run-{uuid.uuid4().hex[:12]}"  # several runs may share a database
    (place / TASK).write_bytes(pickle.dumps((task, queue, url)))
    migrate(system_database_url=url)
    client = DBOSClient(
        system_database_url=url,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
    )
    stack.callback(client.destroy)
    names = [f"{queue}-{part}" for part in range(len(task.parts))]
    stack.callback(client.delete_workflows, names)
    for part, name in enumerate(names):
        options = EnqueueOptions(
            workflow_name="part", queue_name=queue, workflow_id=name, app_version=VERSION
        )
        client.enqueue(options, part)


class _Crew:
    """Workers that are started again when they end too early."""

    def __init__(self, starter: Starter, count: int) -> None:
        self._starter = starter
        self._handles: list[Handle] = [starter.start(number) for number in range(count)]
        self._starts = [1] * count

    def tend(self) -> None:
        """Start again who has ended.

        Raises:
            NetworkError: If it was started often enough.
        """
        for number, handle in enumerate(self._handles):
            if not handle.is_over():
                continue
            handle.end()
            if self._starts[number] == STARTS:
                raise NetworkError(
                    "a worker must not end before its work, one did again. Start again with the "
                    "same --out to go on; take fewer workers if memory ran out."
                )
            self._starts[number] += 1
            self._handles[number] = self._starter.start(number)

    def dismiss(self) -> None:
        """Let those end by themselves who see that nothing is left."""
        end = time.monotonic() + DISMISS_SECONDS
        while time.monotonic() < end and not all(handle.is_over() for handle in self._handles):
            time.sleep(LOOK_SECONDS)

    def end(self) -> None:
        """End all."""
        for handle in self._handles:
            handle.end()


def _gather(place: Path, count: int, crew: _Crew) -> Iterator[Any]:
    from grata_monai.spread.worker import NOT_OPENED, result_file  # noqa: PLC0415

    left = set(range(count))
    while left:
        for part in sorted(left):
            if result_file(place, part).exists():
                left.remove(part)
                yield _read(result_file(place, part))
        if (place / NOT_OPENED).exists():
            _read(place / NOT_OPENED)
        if left:
            crew.tend()
            time.sleep(LOOK_SECONDS)
    crew.dismiss()


def _read(path: Path) -> Any:
    result, error = pickle.loads(path.read_bytes())
    if error is not None:
        raise error
    return result
