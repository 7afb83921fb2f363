"""The program of one worker: it takes parts out of the queue until every part has a result.

Run as ``python -m grata_monai.spread.worker FOLDER NUMBER``. It ends when its standard input
closes, so that none outlives the run; SLURM's workers, which call `work`, when the folder is gone.
"""

import os
import pickle
import sys
import threading
import time
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer

from grata_monai.core.files import atomic_path

__all__ = ["APPLICATION", "NOT_OPENED", "TASK", "VERSION", "result_file", "work"]

APPLICATION, VERSION = "grata_monai_spread", "1"
TASK = "task"
NOT_OPENED = "not-opened"
POLL_SECONDS = 0.2


def result_file(folder: Path, part: int) -> Path:
    """Where the result of a part is, once it is done: a pickled pair of result and error."""
    return folder / f"{part}.result"


def work(folder: str, number: int) -> None:
    """Take parts until none is left, or the run is gone.

    Args:
        folder: Of the queue, with the pickled task that `spread` has put there.
        number: Of this worker; one that is started again has the same.
    """
    place = Path(folder)
    task, queue, url = pickle.loads((place / TASK).read_bytes())
    try:
        tool = task.open(number)
    except Exception as error:  # the run tells it
        _write(place / NOT_OPENED, None, error)
        return

    def do(part: int) -> None:
        try:
            result, problem = task.run(tool, task.parts[part]), None
        except Exception as error:  # likewise
            result, problem = None, error
        _write(result_file(place, part), result, problem)

    DBOS(
        config=DBOSConfig(
            name=APPLICATION,
            system_database_url=url,
            executor_id=f"{queue}/{number}",
            application_version=VERSION,
            serializer=DBOSPortableJSONSerializer(),
            log_level="WARNING",
            run_migrations=False,
        )
    )
    DBOS.workflow(name="part", max_recovery_attempts=None)(do)
    DBOS.listen_queues([queue])
    DBOS.launch()
    DBOS.register_queue(
        queue, worker_concurrency=1, polling_interval_sec=POLL_SECONDS, on_conflict="always_update"
    )
    parts = range(len(task.parts))
    while place.is_dir() and not all(result_file(place, part).exists() for part in parts):
        time.sleep(POLL_SECONDS)
    DBOS.destroy(workflow_completion_timeout_sec=1)


def _write(path: Path, result: Any, error: Exception | None) -> None:
    """Write a result whole; an error that cannot be pickled as its text."""
    try:
        content = pickle.dumps((result, error))
        pickle.loads(content)
    except Exception:  # whatever a class of another library does
        content = pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
    with atomic_path(path) as file:
        file.write_bytes(content)


def _end_with_the_run() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    work(sys.argv[1], int(sys.argv[2]))
