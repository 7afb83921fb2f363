"""Adapt a segmentation network to every case before it segments it (GraTa), around MONAI."""

from grata_monai.adapt.episode import OnlineMemory
from grata_monai.adapt.grata import GraTa, Step
from grata_monai.adapt.recipe import CLINICAL, PAPER, Recipe, resolve_recipe
from grata_monai.handlers import GraTaHandler
from grata_monai.inferer import GraTaInferer
from grata_monai.record import Record

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
]
