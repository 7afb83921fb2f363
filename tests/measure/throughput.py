"""Measure the service's throughput against a run of the bundle over the same cases.

The same small phantoms are segmented by `grata-monai segment`'s pipeline, in one run and in two at
once, and by the service with one worker and with two, a torch thread each. What two runs at once
reach is what the machine gives: two cores that share caches and clocks are less than twice one.
Starting up is left out on both sides: what counts is the time from the first case that is done (of
two at once, from the second one) to the last one. Images are resampled coarsely, so that a case
takes a second; with ``--own`` as the bundle says, as in a hospital::

    python tests/measure/throughput.py --cases 40 --out throughput/
    python tests/measure/throughput.py --cases 12 --own --out throughput/
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
os.environ["OMP_NUM_THREADS"] = "1"

from hospital import Sent, make_phantoms
from replay import SETTINGS, Replay

from grata_monai.service.ledger import Series, State

LONGEST_SECONDS = 3600.0


def pace(ends: Sequence[float], at_once: int = 1) -> float:
    """Cases an hour, from the moments at which they were done, ``at_once`` at a time."""
    return 3600 * (len(ends) - at_once) / (max(ends) - sorted(ends)[at_once - 1])


def run_bundle(
    sent: Sequence[Sent], folder: Path, recipe: str, given: Mapping[str, Any]
) -> list[float]:
    """Segment all series in one process; return when each was done."""
    import torch

    from grata_monai.bundle.shipped import find_shipped_bundle
    from grata_monai.hosts.python_dicom import open_dicom, run_dicom

    torch.set_num_threads(1)
    source, out = folder / "in", folder / "out"
    source.mkdir(parents=True)
    for number, instance in enumerate(each for series in sent for each in series.instances):
        instance.save_as(source / f"{number}.dcm", enforce_file_format=True)
    settings = {"recipe": recipe, "again": True, **given}
    bundle = open_dicom(source, out, bundle_dir=find_shipped_bundle(), settings=settings)
    run_dicom(bundle, out)
    return [record.stat().st_mtime for record in out.glob("*/record.json")]


def run_twice(
    sent: Sequence[Sent], folder: Path, recipe: str, given: Mapping[str, Any]
) -> list[float]:
    """Segment half of the series each in two processes at once; return when each was done."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        halves = [
            pool.submit(run_bundle, sent[number::2], folder / str(number), recipe, given)
            for number in range(2)
        ]
        return [end for half in halves for end in half.result()]


def run_service(
    sent: Sequence[Sent], folder: Path, recipe: str, workers: int, given: Mapping[str, Any]
) -> list[float]:
    """Let the service receive all series while it is paused, then segment and deliver them."""
    root = f"slots = {workers}"
    replay = Replay(folder, stub=False, root=root, recipe=recipe, settings=given)
    try:
        replay.ledger.write_setting("mode", "pause")
        replay.start()
        replay.send(*sent)
        replay.ledger.write_setting("mode", "run")
        end = time.monotonic() + LONGEST_SECONDS
        while not replay.is_done() and time.monotonic() < end:
            time.sleep(0.5)
        rows = replay.ledger.find()
        assert replay.stop() == 0
    finally:
        replay.close()
    return [check(row) for row in rows]


def check(row: Series) -> float:
    """When a series was delivered.

    Raises:
        RuntimeError: If it was not.
    """
    if row.state != State.DELIVERED:
        raise RuntimeError(f"every series must be delivered, one is {row.state}: {row.reason}")
    return row.changed


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder")
    parser.add_argument("--cases", type=int, default=40, metavar="N")
    parser.add_argument("--recipe", default="clinical", metavar="NAME")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="medians of so many")
    parser.add_argument("--own", action="store_true", help="spacing and window of the bundle")
    asked = parser.parse_args()
    given = {"report": False} if asked.own else SETTINGS
    names = ("1 run", "1 worker", "2 runs at once", "2 workers")
    paces: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(asked.repeats):
        out = asked.out.absolute() / str(repeat)
        sent = make_phantoms(asked.cases)
        for at_once, run, worker in ((1, *names[:2]), (2, *names[2:])):
            segment = run_bundle if at_once == 1 else run_twice
            paces[run].append(pace(segment(sent, out / run, asked.recipe, given), at_once))
            ends = run_service(sent, out / worker, asked.recipe, at_once, given)
            paces[worker].append(pace(ends, at_once))
    alone = statistics.median(paces[names[0]])
    load, cores = os.getloadavg()[1], os.cpu_count()
    print(f"{platform.machine()}, {cores} cores, load {load:.1f}; {asked.cases} x {asked.recipe}")
    for name, found in paces.items():
        middle = statistics.median(found)
        print(f"| {name} | {middle:.0f} / h | {middle / alone:.2f} |")
    (asked.out / "paces.json").write_text(json.dumps(paces, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
