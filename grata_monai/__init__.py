"""Adapt a segmentation network to every case before it segments it (GraTa), around MONAI."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grata_monai.adapt.grata import GraTa
    from grata_monai.adapt.method import OnlineMemory, Step
    from grata_monai.adapt.recipe import CLINICAL, PAPER, VIEWS, Recipe, resolve_recipe
    from grata_monai.handlers import GraTaHandler
    from grata_monai.hosts.python import segment
    from grata_monai.hosts.python_dicom import segment_dicom
    from grata_monai.inferer import GraTaInferer
    from grata_monai.record import Record

__all__ = [
    "CLINICAL",
    "PAPER",
    "VIEWS",
    "GraTa",
    "GraTaHandler",
    "GraTaInferer",
    "OnlineMemory",
    "Recipe",
    "Record",
    "Step",
    "resolve_recipe",
    "segment",
    "segment_dicom",
]

_HOMES = {
    "CLINICAL": "adapt.recipe",
    "PAPER": "adapt.recipe",
    "VIEWS": "adapt.recipe",
    "GraTa": "adapt.grata",
    "GraTaHandler": "handlers",
    "GraTaInferer": "inferer",
    "OnlineMemory": "adapt.method",
    "Recipe": "adapt.recipe",
    "Record": "record",
    "Step": "adapt.method",
    "resolve_recipe": "adapt.recipe",
    "segment": "hosts.python",
    "segment_dicom": "hosts.python_dicom",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: torch takes seconds, ``--help`` must not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
