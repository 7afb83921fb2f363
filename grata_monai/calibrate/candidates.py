"""What calibration chooses from: a small, named grid about a base recipe."""

from collections.abc import Mapping
from typing import Any

from grata_monai.adapt.recipe import Recipe, resolve_recipe

__all__ = ["CANDIDATES", "make_candidates"]

_FOUR = ["scale:0.75:0,1", "identity", "scale:1.33:0,1", "scale:2:0,1"]
_NARROW = ["scale:0.87:0,1", "identity", "scale:1.15:0,1", "scale:1.33:0,1"]
_FROZEN: Mapping[str, Any] = {"steps": 0}

CANDIDATES: Mapping[str, Mapping[str, Any]] = {
    "flip": {"focus_views": [], **_FROZEN},
    "views": {"focus_views": _FOUR, **_FROZEN},
    "views-equal": {"focus_views": _FOUR, "focus_sharpness": 0.0, **_FROZEN},
    "narrow-views": {"focus_views": _NARROW, **_FROZEN},
    "steps": {"focus_views": []},
    "views-and-steps": {"focus_views": _FOUR},
}
"""Settings on top of the base. All average the base's prediction views."""


def make_candidates(
    base: str = "clinical", *, precision: str = "fp32", given: Mapping[str, Any] | None = None
) -> dict[str, Recipe]:
    """Build the candidates.

    Args:
        base: Recipe whose other settings are kept.
        precision: Of adaptation.
        given: Candidates in place of `CANDIDATES`: names to settings.

    Returns:
        Name to recipe.

    Raises:
        RecipeError: If a setting is wrong.
    """
    return {
        name: resolve_recipe({"base": base, "precision": precision, **settings, "name": name})
        for name, settings in (CANDIDATES if given is None else given).items()
    }
