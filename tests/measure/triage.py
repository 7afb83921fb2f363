"""What triage of a folder tree costs: time and peak memory beside plain pydicom loops, in one run.

``python tests/measure/triage.py [--instances N] [--repeats N] [--folder DIR]``

Classic MR series of 50 slices are written once (to DIR, or to a temporary folder). Each way of
looking through them runs in a process of its own, in turn. A way's time holds no import of its own,
but the start of a subprocess: triage reads headers in a sandbox. Files are in the cache. Memory is
the process's peak above what it held before, and the subprocess's whole peak. Linux only: what
getrusage says of a new process holds the peak of the one that started it.
"""

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pydicom

from grata_monai.phantom.dicom import SeriesOptions, write_series
from grata_monai.read.dicom.triage import triage

SLICES = 50
SHAPE = (64, 64, SLICES)
SPACING = (1.0, 1.0, 3.0)


@dataclass(frozen=True)
class Found:
    """What one way found, and what its subprocess took.

    Attributes:
        instances: How many were read.
        child_bytes: Peak of the subprocess; 0 without one.
    """

    instances: int
    child_bytes: int = 0


def read_and_forget(folder: Path) -> Found:
    """Read every header with pydicom and keep none; values are converted when asked for."""
    return Found(
        sum(pydicom.dcmread(path, stop_before_pixels=True).Rows > 0 for path in list_files(folder))
    )


def read_and_keep(folder: Path) -> Found:
    """Read every header with pydicom and keep all, as a program does that groups them."""
    return Found(
        len([pydicom.dcmread(path, stop_before_pixels=True) for path in list_files(folder)])
    )


def read_and_judge(folder: Path) -> Found:
    """Triage; every instance must be in an accepted volume."""
    peaks = []

    def look(done: int, count: int) -> None:
        if done == count:  # the sandbox still lives
            peaks.extend(read_status(child, "VmHWM") for child in list_children())

    found = triage(folder, progress=look)
    if found.rejections or found.skipped:
        raise RuntimeError(f"good series must be accepted, {len(found.rejections)} are refused.")
    return Found(sum(len(volume.frames) for volume in found.volumes), max(peaks))


WAYS: dict[str, Callable[[Path], Found]] = {
    "dcmread, forgotten": read_and_forget,
    "dcmread, kept": read_and_keep,
    "triage": read_and_judge,
}


def list_files(folder: Path) -> list[Path]:
    """Every file of the tree."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def write_tree(folder: Path, instances: int) -> None:
    """Write series of 50 slices, each a study of its own, under names that say nothing."""
    image = np.random.default_rng(0).integers(0, 4096, SHAPE).astype(np.float64)
    affine_ras = np.diag([*SPACING, 1.0])
    for number in range(instances // SLICES):
        options = SeriesOptions(seed=number, is_shuffled=True)
        write_series(folder / f"{number:04d}", image, affine_ras, options=options)


def run_way(way: str, folder: Path, instances: int) -> dict[str, float]:
    """Look through the tree once; seconds, and peak bytes."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = read_status("self", "VmRSS")
    start = time.perf_counter()
    found = WAYS[way](folder)
    seconds = time.perf_counter() - start
    if found.instances != instances:
        raise RuntimeError(f"{way} must find {instances} instances, found {found.instances}.")
    own = read_status("self", "VmHWM") - before
    return {"seconds": seconds, "own": own, "child": found.child_bytes}


def read_status(process: str, name: str) -> int:
    """Bytes that Linux tells of a process under this name."""
    lines = Path("/proc", process, "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def list_children() -> Iterator[str]:
    """Identifiers of this process's subprocesses."""
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            yield from (task / "children").read_text().split()


def measure(folder: Path, instances: int, repeats: int) -> dict[str, dict[str, float]]:
    """Run every way in turn, so that a drift of the machine's speed meets all alike."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way, runs in found.items():
            command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
            command += ["--instances", str(instances)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    return {
        way: {name: median(run[name] for run in runs) for name in runs[0]}
        for way, runs in found.items()
    }


def describe(results: dict[str, dict[str, float]], instances: int) -> str:
    """Format time and memory as a Markdown table."""
    forgetting, keeping = list(results.values())[:2]
    kept = keeping["own"] + keeping["child"]
    lines = [
        f"{instances} instances, {os.cpu_count()} CPUs, {describe_processor()}, "
        f"Python {platform.python_version()}, pydicom {pydicom.__version__}",
        "",
        "| way | seconds | time ÷ forgotten | peak MiB, own + subprocess | peak ÷ kept |",
        "|---|---|---|---|---|",
    ]
    for way, found in results.items():
        total = found["own"] + found["child"]
        lines.append(
            f"| {way} | {found['seconds']:.1f} | {found['seconds'] / forgetting['seconds']:.1f} "
            f"| {found['own'] / 2**20:.0f} + {found['child'] / 2**20:.0f} "
            f"| {total / kept:.2f} |"
        )
    return "\n".join(lines)


def describe_processor() -> str:
    """The processor's name, where Linux tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Run every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=5000, help=f"a multiple of {SLICES}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="of the tree; written if it is empty")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.instances < SLICES or arguments.instances % SLICES:
        parser.error(f"--instances must be a multiple of {SLICES}, got {arguments.instances}")
    if arguments.way:
        print(json.dumps(run_way(arguments.way, arguments.folder, arguments.instances)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        if not list_files(folder):
            write_tree(folder, arguments.instances)
        read_and_forget(folder)  # into the cache
        results = measure(folder, arguments.instances, arguments.repeats)
        print(describe(results, arguments.instances))


if __name__ == "__main__":
    main()
