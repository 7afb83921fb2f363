"""What calibration chooses from: a small, named grid about a base recipe."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from grata_monai.adapt.recipe import Recipe, resolve_recipe
from grata_monai.methods.ablations import DYNAMIC_STEP
from grata_monai.methods.common import batch_norm_layers

__all__ = ["CANDIDATES", "MIRRORED", "default_candidates", "make_candidates"]

MIRRORED = "flip"
"""Mirrored predictions of the whole image averaged: kept where no other is."""

_FOUR = ["scale:0.75:0,1", "identity", "scale:1.33:0,1", "scale:2:0,1"]
_NARROW = ["scale:0.87:0,1", "identity", "scale:1.15:0,1", "scale:1.33:0,1"]
_FROZEN: Mapping[str, Any] = {"steps": 0}
_FIXED: Mapping[str, Any] = {"is_dynamic": False, "min_cosine": None}
_SHARES = {"mixed": 0.3, "image": 1.0}
_ON_STATISTICS = ("flip", "steps", "views", "views-and-fixed-steps")

CANDIDATES: Mapping[str, Mapping[str, Any]] = {
    MIRRORED: {"focus_views": [], **_FROZEN},
    "views": {"focus_views": _FOUR, **_FROZEN},
    "views-equal": {"focus_views": _FOUR, "focus_sharpness": 0.0, **_FROZEN},
    "narrow-views": {"focus_views": _NARROW, **_FROZEN},
    "steps": {"focus_views": [], **DYNAMIC_STEP},
    "views-and-steps": {"focus_views": _FOUR, **DYNAMIC_STEP},
    "views-and-fixed-steps": {"focus_views": _FOUR, **_FIXED},
}
"""Settings on top of the base. All average the base's prediction views."""


def default_candidates(network: nn.Module) -> dict[str, dict[str, Any]]:
    """List the candidates that suit a network.

    Args:
        network: Asked whether it normalises batches with statistics of its training.

    Returns:
        `CANDIDATES`; if there are such statistics, also some of them on statistics mixed with the
        image's, and on the image's alone.
    """
    found = {name: dict(settings) for name, settings in CANDIDATES.items()}
    if batch_norm_layers(network):
        for suffix, share in _SHARES.items():
            for name in _ON_STATISTICS:
                found[f"{name}, {suffix}"] = {**CANDIDATES[name], "image_share": share}
    return found


def make_candidates(
    given: Mapping[str, Any], base: str = "clinical", *, precision: str = "fp32"
) -> dict[str, Recipe]:
    """Build the candidates.

    Args:
        given: Names to settings.
        base: Recipe whose other settings are kept.
        precision: Of adaptation.

    Returns:
        Name to recipe.

    Raises:
        RecipeError: If a setting is wrong.
    """
    return {
        name: resolve_recipe({"base": base, "precision": precision, **settings, "name": name})
        for name, settings in given.items()
    }
