"""Time and peak memory of a block of code."""

import ctypes
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["Cost", "measured"]

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"  # proc(5)


@dataclass
class Cost:
    """What a block took; filled when it ends.

    Attributes:
        seconds: Wall time.
        peak_bytes: Most memory above what was in use before: of the CUDA device, or else of this
            process (Linux); NaN where it cannot be known.
    """

    seconds: float = math.nan
    peak_bytes: float = math.nan


@contextmanager
def measured(device: torch.device) -> Iterator[Cost]:
    """Measure the block.

    Args:
        device: Where it computes.

    Yields:
        The cost.
    """
    cost = Cost()
    before = _start(device)
    clock = time.perf_counter()
    yield cost
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    cost.seconds = time.perf_counter() - clock
    cost.peak_bytes = _peak(device) - before


def _start(device: torch.device) -> float:
    """Forget the peak so far; say what is in use."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return float(torch.cuda.memory_allocated(device))
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed, glibc gives back to the system
        CLEAR.write_text(FORGET_PEAK)
    except (AttributeError, OSError):
        return math.nan
    return _status("VmRSS")


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return _status("VmHWM")


def _status(name: str) -> float:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.M)
    except OSError:
        found = None
    return float(found.group(1)) * 1024 if found else math.nan
