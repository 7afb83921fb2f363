"""Hold how cases are predicted with an nnU-Net, and what became of one."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from grata_monai.adapt.method import Method
from grata_monai.adapt.recipe import Recipe
from grata_monai.core.errors import SettingError

__all__ = ["Options", "Segmented"]


@dataclass(frozen=True)
class Segmented:
    """A case with its mask. Arrays lie on the image's grid.

    Attributes:
        labels: (z, y, x), as nnU-Net's writers take it.
        properties: What the reader and preprocessing noted.
        record: JSON text.
        maps: uint8 (2, x, y, z): the source network's labels, and which magnification marks what.
    """

    labels: NDArray[Any]
    properties: dict[str, Any]
    record: str
    maps: NDArray[np.uint8]


@dataclass(frozen=True)
class Options:
    """How cases are predicted.

    Attributes:
        recipe: Its views go by the axes x, y, z of the image file.
        method: What adapts.
        device: Where.
        step_size: Of nnU-Net's window, as a share of the patch.
        is_mirrored: Whether the whole image is averaged over mirror images, as nnU-Net does.
        profile: File of the source profile that ``calibrate`` wrote, if there is one.
    """

    recipe: Recipe
    method: str | Method = "grata"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    step_size: float = 0.5
    is_mirrored: bool = True
    profile: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.step_size <= 1:
            raise SettingError(
                f"step_size must lie in (0, 1], got {self.step_size:g}. Use nnU-Net's own, 0.5."
            )
