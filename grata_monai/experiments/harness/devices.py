"""Spread a comparison over workers and devices: a process for each, one folder of rows for all."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.run import Row, run_methods
from grata_monai.methods.registry import System
from grata_monai.spread import Task, Workers, spread

__all__ = ["divide", "open_in_turn", "run_on_devices"]

Cases = Sequence[Mapping[str, str]]


def run_on_devices(
    methods: Mapping[str, System],
    cases: Cases,
    open_on: Callable[[str], Bench],
    devices: Sequence[str],
    out: str | Path,
    *,
    workers: Workers,
    seed: int = 0,
) -> Iterator[Row]:
    """Run every method on every case, as `run_methods` does, by several workers at once.

    Args:
        methods: Name to system.
        cases: Of `list_cases`, with labels.
        open_on: Opens the bundle on a device; must be picklable.
        devices: Such as ``cuda:0`` and ``cuda:1``; workers take them in turn. Processes on one
            CPU share its threads.
        out: As of `run_methods`.
        workers: Who does it.
        seed: As of `run_methods`.

    Yields:
        Every row, as its part of the work ends.

    Raises:
        NetworkError: If a worker ended before its work, again and again.
        OutputError: If the folder cannot be written.
    """
    task = Task(
        partial(open_in_turn, open_on, devices),
        partial(_run, out=out, seed=seed),
        list(divide(methods, cases)),
    )
    for rows in spread(task, Path(out), workers):
        yield from rows


def divide(
    methods: Mapping[str, System], cases: Cases
) -> Iterator[tuple[dict[str, System], Cases]]:
    """Divide a comparison into parts.

    A case goes to a worker with all its episodic methods, so that its source pass is made once; a
    method that learns from case to case meets all of them in one part, in order.

    Yields:
        Methods and cases of a part: online methods first, for they take longest.
    """
    for name, system in methods.items():
        if system.method.is_online:
            yield {name: system}, cases
    episodic = {name: system for name, system in methods.items() if not system.method.is_online}
    for case in cases if episodic else ():
        yield episodic, [case]


def open_in_turn(open_on: Callable[[str], Bench], devices: Sequence[str], number: int) -> Bench:
    """Open the bundle on the device of a worker's number."""
    return open_on(devices[number % len(devices)])


def _run(
    bench: Bench, part: tuple[Mapping[str, System], Cases], *, out: str | Path, seed: int
) -> list[Row]:
    methods, cases = part
    return list(run_methods(methods, cases, bench, out, seed=seed))
