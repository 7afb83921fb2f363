"""The bundle on a coarse grid, in a module that other processes can import too."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from grata_monai.adapt.method import State, Step
from grata_monai.adapt.patches import Patches
from grata_monai.experiments.harness.bench import Bench
from grata_monai.experiments.harness.opening import open_bench
from grata_monai.methods.source import Source

BUNDLE = Path(__file__).parents[2] / "bundle"
TINY = {"spacing": [2.4, 2.4, 6.0], "roi_size": [48, 48, 8]}


def open_tiny(device: str = "cpu") -> Bench:
    """Open the bundle on a device."""
    return open_bench(BUNDLE, settings={**TINY, "device#name": device})


@dataclass(frozen=True)
class Ending(Source):
    """Ends its process, as the system does when memory runs out."""

    name: ClassVar[str] = "ending"

    @property
    def is_source(self) -> bool:
        return False

    def adapt(self, state: State, patches: Patches) -> Iterator[Step]:
        os._exit(9)
