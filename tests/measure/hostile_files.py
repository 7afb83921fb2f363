"""Measure the slowest answer to a file that is odd or hostile, and the most memory that one takes.

``python tests/measure/hostile_files.py``

Every kind of image file and of DICOM folder that the tests know is read once, with the limits that
a run has. Memory is the peak of this process, and of the largest subprocess that parses, from
``/proc``. Linux only.
"""

import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import dicom_corpus
import image_corpus

from grata_monai.core.errors import GrataError
from grata_monai.read.dicom.load import read_volume
from grata_monai.read.dicom.selection import Selection
from grata_monai.read.dicom.triage import triage
from grata_monai.read.image import read_image


def main() -> None:
    """Print what was measured."""
    answers, peaks = [], [0]
    threading.Thread(target=watch, args=(peaks,), daemon=True).start()
    for name, read in list_kinds():
        with tempfile.TemporaryDirectory() as folder:
            action = read(Path(folder))
            clock = time.perf_counter()
            action()
            answers.append((time.perf_counter() - clock, name))
    print(f"{len(answers)} kinds; the slowest answers:")
    for seconds, name in sorted(answers, reverse=True)[:3]:
        print(f"{seconds:.1f} s: {name}")
    for who, peak in (("this process", peak_bytes(os.getpid())), ("a subprocess", max(peaks))):
        print(f"peak of {who}: {peak / 2**20:.0f} MiB")


def list_kinds() -> Iterator[tuple[str, Callable[[Path], Callable[[], None]]]]:
    """Name each kind; what stands beside it writes one and returns what reads it."""
    for image in image_corpus.KINDS:
        yield image.name, partial(prepare_image, image)
    for series in dicom_corpus.KINDS:
        yield series.name, partial(prepare_series, series)


def prepare_image(kind: image_corpus.Kind, folder: Path) -> Callable[[], None]:
    """Write an image file; what comes back reads it, or is refused."""
    path = kind.make(folder)

    def read() -> None:
        with suppress(GrataError):
            read_image(path)

    return read


def prepare_series(kind: dicom_corpus.Kind, folder: Path) -> Callable[[], None]:
    """Write a DICOM folder; what comes back looks through it and reads what it accepts."""
    kind.make(folder)

    def read() -> None:
        for volume in triage(folder, selection=Selection.from_dict(kind.selection)).volumes:
            with suppress(GrataError):
                read_volume(volume)

    return read


def watch(peaks: list[int]) -> None:
    """Note the peaks of subprocesses while they run, again and again."""
    while True:
        for task in Path("/proc/self/task").iterdir():
            with suppress(OSError):
                pids = (task / "children").read_text().split()
                peaks += [peak_bytes(int(pid)) for pid in pids if has_begun(pid)]
        time.sleep(0.02)


def has_begun(pid: str) -> bool:
    """Whether a subprocess is a program of its own: until then it has this one's memory."""
    return Path(f"/proc/{pid}/cmdline").read_bytes() != Path("/proc/self/cmdline").read_bytes()


def peak_bytes(pid: int) -> int:
    """Most memory that a process has held; nothing if it has just ended."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return 1024 * int(found[1]) if found else 0
    return 0


if __name__ == "__main__":
    main()
