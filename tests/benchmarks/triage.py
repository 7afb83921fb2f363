"""What triage costs: time and peak memory on many instances, beside a loop over headers.

``python tests/benchmarks/triage.py [--instances 5000] [--repeats 3]``

The loop is ``pydicom.dcmread(path, stop_before_pixels=True)``, which groups and checks nothing.
Each way runs in a process of its own, in turn. Memory is the largest sum of the proportional set
sizes of the process and its children, above that of an idle process with the same imports.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from grata_monai.phantom import make_case
from grata_monai.phantom.dicom import SeriesOptions, write_series

SLICES = 25
WAYS = ("idle", "plain loop", "triage")


def make_tree(folder: Path, instances: int) -> int:
    """Write series of phantoms until there are enough instances."""
    case = make_case(0, spacing=(2.0, 2.0, 4.0), spatial_shape=(128, 128, SLICES))
    count = -(-instances // SLICES)
    for seed in range(count):
        options = SeriesOptions(seed=seed)
        write_series(folder / f"{seed:04d}", case.image, case.affine_ras, options=options)
    return count * SLICES


def run_way(way: str, folder: Path) -> dict[str, float]:
    """Run one way in this process."""
    import pydicom

    from grata_monai.read.dicom.triage import triage

    watch = MemoryWatch()
    start = time.perf_counter()
    if way == "plain loop":
        headers = [
            pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.rglob("*.dcm"))
        ]
        assert headers
    elif way == "triage":
        found = triage(folder)
        assert not found.refusals
        assert len(found.volumes) == len(list(folder.iterdir()))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "bytes": watch.stop()}


class MemoryWatch:
    """Watch the memory of this process and its children (Linux)."""

    def __init__(self) -> None:
        self.most = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        self._end.set()
        self._thread.join()
        return self.most

    def _watch(self) -> None:
        while True:
            self.most = max(self.most, sum(map(proportional_size, family(os.getpid()))))
            if self._end.wait(0.02):
                return


def family(process: int) -> list[int]:
    """List a process and its children."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return [process]
    return [process, *(pid for child in text.split() for pid in family(int(child)))]


def proportional_size(process: int) -> int:
    """Bytes of a process in memory, shared pages divided among those who share them."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(run_way(arguments.way, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        count = make_tree(Path(name), arguments.instances)
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(arguments.repeats):
            for way in WAYS:
                command = [sys.executable, __file__, "--way", way, "--folder", name]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
    seconds = {way: median(run["seconds"] for run in runs) for way, runs in found.items()}
    idle = median(run["bytes"] for run in found["idle"])
    print(
        f"{count} instances, {platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    )
    print("| way | time | ÷ plain loop | instances/s | memory above idle |\n|---|---|---|---|---|")
    for way in WAYS[1:]:
        memory = (median(run["bytes"] for run in found[way]) - idle) / 2**20
        print(
            f"| {way} | {seconds[way]:.1f} s | {seconds[way] / seconds['plain loop']:.2f} "
            f"| {count / seconds[way]:.0f} | {memory:.0f} MiB |"
        )


if __name__ == "__main__":
    main()
