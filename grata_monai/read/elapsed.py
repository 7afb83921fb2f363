"""Note in an image how long it took to read: that time counts for its case, see `CASE_SECONDS`."""

import time

import torch
from monai.data import MetaTensor

__all__ = ["note_elapsed", "read_elapsed"]

KEY = "grata_read_seconds"


def note_elapsed(image: MetaTensor, start: float) -> MetaTensor:
    """Return the image with the seconds since `start`, of `time.monotonic`, in its meta data."""
    image.meta[KEY] = time.monotonic() - start
    return image


def read_elapsed(inputs: torch.Tensor) -> float:
    """Return how many seconds a case, or the slowest of a batch, took; 0 if nobody noted it."""
    seconds = inputs.meta.get(KEY, 0.0) if isinstance(inputs, MetaTensor) else 0.0
    return float(torch.as_tensor(seconds).max())
