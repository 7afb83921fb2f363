"""Estimate, before anything is adapted, what memory a case needs, and choose the way by its size.

The way depends on the size alone, never on what is free, so that a case gives the same bytes on
every machine; where too little is free, the source's prediction is kept.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["Footprint", "free_bytes", "plan_footprint"]

LARGEST_WHOLE = 512 * 2**20
"""Bytes of logits; larger ones are made anew at the end instead of being kept."""

_COPIES = 12  # of a prediction, at the peak of an episode that runs on it


@dataclass(frozen=True)
class Footprint:
    """What a case needs.

    Attributes:
        way: ``whole``: predictions of the whole image are kept; ``parts``: only those of parts.
        needed: Bytes at the peak, estimated.
    """

    way: str
    needed: int


def plan_footprint(logits: Tensor, part_voxels: int) -> Footprint:
    """Choose the way.

    Args:
        logits: Of the whole image, (1, k, *s), float32.
        part_voxels: Of the largest part of it that runs by itself.
    """
    part = 4 * logits.shape[1] * part_voxels
    if logits.nbytes <= LARGEST_WHOLE:
        return Footprint("whole", 3 * logits.nbytes + _COPIES * part)
    return Footprint("parts", max(2 * logits.nbytes, _COPIES * part))


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device; None where it cannot be known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(found[0]) if found else None
