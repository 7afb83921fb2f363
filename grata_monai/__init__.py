"""Adapt a segmentation network to every case before it segments it (GraTa), around MONAI."""

from typing import TYPE_CHECKING, Any

from grata_monai.adapt.grata import GraTa
from grata_monai.adapt.method import OnlineMemory, Step
from grata_monai.adapt.recipe import CLINICAL, PAPER, Recipe, resolve_recipe
from grata_monai.handlers import GraTaHandler
from grata_monai.inferer import GraTaInferer
from grata_monai.record import Record

if TYPE_CHECKING:
    from grata_monai.hosts.python import segment
    from grata_monai.hosts.python_dicom import segment_dicom

__all__ = [
    "CLINICAL",
    "PAPER",
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


def __getattr__(name: str) -> Any:
    """Import what is heavy, or needs the ``dicom`` extra, only when it is asked for."""
    if name == "segment":
        from grata_monai.hosts.python import segment  # noqa: PLC0415

        return segment
    if name == "segment_dicom":
        from grata_monai.hosts.python_dicom import segment_dicom  # noqa: PLC0415

        return segment_dicom
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
