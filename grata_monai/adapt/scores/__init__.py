"""Guard scores, one file each. The guard asks them in this order; a new one is one more line."""

from importlib import import_module

from grata_monai.adapt.scores.score import Evidence, GuardScore, Quality, Score, Selected

__all__ = ["GUARD_SCORES", "Evidence", "GuardScore", "Quality", "Score", "Selected"]

_MODULES = (
    "mirror_gain",
    "neighbour_gain",
    "consistency",
)

GUARD_SCORES: tuple[GuardScore, ...] = tuple(
    import_module(f"{__name__}.{module}").SCORE for module in _MODULES
)
"""Every score that the guard asks."""
