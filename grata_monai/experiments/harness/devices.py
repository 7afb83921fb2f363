"""Spread a comparison over several devices: a process for each, one folder of rows for all."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from grata_monai.core.errors import NetworkError
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.run import Row, run_methods
from grata_monai.methods.registry import System

__all__ = ["run_on_devices"]

Cases = Sequence[Mapping[str, str]]

_bench: list[Bench] = []  # of this process, once `_begin` has run


def run_on_devices(
    methods: Mapping[str, System],
    cases: Cases,
    open_on: Callable[[str], Bench],
    devices: Sequence[str],
    out: str | Path,
    *,
    seed: int = 0,
) -> Iterator[Row]:
    """Run every method on every case, as `run_methods` does, on all devices at once.

    A case goes to the next free device with all its episodic methods, so that its source pass is
    made once; a method that learns from case to case meets all of them on one device, in order.

    Args:
        methods: Name to system.
        cases: Of `list_cases`, with labels.
        open_on: Opens the bundle on a device; must be picklable.
        devices: Such as ``cuda:0`` and ``cuda:1``; ``cpu`` twice is two processes, which share the
            threads.
        out: As of `run_methods`.
        seed: As of `run_methods`.

    Yields:
        Every row, as its part of the work ends.

    Raises:
        NetworkError: If a process ended before its work.
        OutputError: If the folder cannot be written.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    free = context.SimpleQueue()
    for device in devices:
        free.put(device)
    threads = max(1, torch.get_num_threads() // len(devices))
    pool = ProcessPoolExecutor(len(devices), context, _begin, (open_on, free, threads))
    try:
        parts = [pool.submit(_run, *part, out, seed) for part in _divide(methods, cases)]
        for part in as_completed(parts):
            yield from part.result()
    except BrokenProcessPool as error:
        raise NetworkError(
            "a process of the comparison must not end before its work, one did. Start again with "
            "the same --out to go on; take fewer devices if memory ran out."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _divide(
    methods: Mapping[str, System], cases: Cases
) -> Iterator[tuple[dict[str, System], Cases]]:
    """Online methods with all cases first, for they take longest; then case by case the others."""
    for name, system in methods.items():
        if system.method.is_online:
            yield {name: system}, cases
    episodic = {name: system for name, system in methods.items() if not system.method.is_online}
    for case in cases if episodic else ():
        yield episodic, [case]


def _begin(open_on: Callable[[str], Bench], free: Any, threads: int) -> None:
    torch.set_num_threads(threads)
    _bench.append(open_on(free.get()))


def _run(methods: Mapping[str, System], cases: Cases, out: str | Path, seed: int) -> list[Row]:
    return list(run_methods(methods, cases, _bench[0], out, seed=seed))
