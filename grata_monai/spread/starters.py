"""Start workers: as processes of this machine, or as jobs of SLURM by submitit."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

__all__ = ["Handle", "Local", "Slurm", "Starter"]


@runtime_checkable
class Handle(Protocol):
    """One started worker."""

    def is_over(self) -> bool:
        """Whether it has ended."""

    def end(self) -> None:
        """End it."""


@runtime_checkable
class Starter(Protocol):
    """Starts workers."""

    def start(self, number: int) -> Handle:
        """Start the worker of a number."""


class Local:
    """Processes of this machine, which share its threads.

    Args:
        folder: Of the queue.
        count: How many there will be.
    """

    def __init__(self, folder: Path, count: int) -> None:
        threads = max(1, int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)) // count)
        path = os.pathsep.join(filter(None, sys.path))  # modules that the task names
        self._folder = folder
        self._environment = {
            **os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path
        }  # fmt: skip

    def start(self, number: int) -> Handle:
        """Start a process; tables that it prints are not shown, what it logs is."""
        command = [sys.executable, "-m", "grata_monai.spread.worker", str(self._folder)]
        return _Process(
            subprocess.Popen(
                [*command, str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is the run's, which ends its workers
            )
        )


class _Process:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def is_over(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Slurm:
    """Jobs of SLURM.

    Args:
        folder: Of the queue, which every node must see.
        settings: Of submitit's `AutoExecutor`; ``cluster=local`` tries it without a cluster.

    Raises:
        ValueError: If there is no SLURM, or a setting is unknown.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        import submitit  # noqa: PLC0415  # an extra

        given = {"cluster": "slurm", "name": "grata", **settings}
        try:
            self._executor = submitit.AutoExecutor(folder / "jobs", cluster=given.pop("cluster"))
            self._executor.update_parameters(**given)
        except (NameError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"--slurm must name settings that submitit takes, on a machine that has SLURM: "
                f"{error}. Write for instance slurm_partition=gpu timeout_min=60 gpus_per_node=1."
            ) from error
        self._folder = folder

    def start(self, number: int) -> Handle:
        """Submit a job."""
        from grata_monai.spread.worker import work  # noqa: PLC0415  # needs an extra

        return _Job(self._executor.submit(work, str(self._folder), number))


class _Job:
    def __init__(self, job: Any) -> None:
        self._job = job

    def is_over(self) -> bool:
        return bool(self._job.done())

    def end(self) -> None:
        if not self.is_over():
            self._job.cancel(check=False)
