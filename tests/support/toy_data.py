"""Bright balls with their labels, which a small network learns in seconds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["SIZE", "blob"]

SIZE = (16, 16, 16)


def blob(shape: Sequence[int], rng: np.random.Generator) -> tuple[Any, Any]:
    """Draw a bright ball in noise, and its label."""
    centre = [n / 2 + rng.uniform(-1, 1) for n in shape]
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))
    label = (distance < min(shape) / 4).astype(np.uint8)
    return (100 * label + rng.uniform(0, 20, shape)).astype(np.float32), label
