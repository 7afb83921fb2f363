"""The bundle on a coarse grid, in a module that other processes can import too."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from grata_monai.experiments.harness.bench import Bench, open_bench
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

    def segment(self, case: Any, state: Any) -> Any:
        os._exit(9)
