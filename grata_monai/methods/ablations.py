"""Families of recipes, each of which answers a question about GraTa's parts.

``ablations``: the clinical recipe with one part changed at a time. ``objectives``: every loss of
the paper's study in both roles. ``rates``: large steps, scaled by the cosine or not, guarded or
not.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

from grata_monai.adapt.recipe import CLINICAL, PAPER, Recipe

__all__ = ["DYNAMIC_STEP", "FAMILIES"]

DYNAMIC_STEP: Mapping[str, Any] = {"is_dynamic": True, "min_cosine": -0.9}
"""Steps scaled by the cosine, as GraTa has them, that end where its objectives contradict."""

_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "no-alignment": {"perturbation": 0.0},
    "dynamic-step": DYNAMIC_STEP,
    "no-alignment-dynamic-step": {"perturbation": 0.0, **DYNAMIC_STEP},
    "cross-entropy": {"pseudo_loss": "consistency"},
    "soft-dice": {"pseudo_loss": "soft_dice"},
    "balanced-entropy": {"auxiliary_loss": "balanced_entropy"},
    "paper-strong-view": {"strong_view": "paper"},
    "all-weights": {"parameters": ("all",), "base_rate": 1e-4},
    "input-curve": {"parameters": ("input",), "focus_views": (), "base_rate": 2e-2},
    "no-focus": {"focus_views": ()},
    "no-focus-no-step": {"focus_views": (), "steps": 0},
    "equal-views": {"focus_sharpness": 0.0},
    "no-limit": {"source_below": 0.0},
}

_OBJECTIVES: Mapping[str, str] = {
    "entropy": PAPER.steps.auxiliary_loss,
    "consistency": PAPER.steps.pseudo_loss,
    "reconstruction": "reconstruction",
    "rotation": "flips_and_turns",
    "super_resolution": "super_resolution",
    "denoising": "denoising",
}
"""The losses of the paper's study, by the names that it uses."""

_WHOLE_IMAGE: Mapping[str, Any] = {
    "image_share": 0.0,
    "steps": 5,
    "prediction_views": ("identity", "flip:0"),
}


def _ablate() -> dict[str, Recipe]:
    return {
        f"clinical-{name}": CLINICAL.changed(name=f"clinical, {name}", **changes)
        for name, changes in _CHANGES.items()
    }


def _pair_objectives() -> dict[str, Recipe]:
    return {
        f"pseudo-{pseudo}-auxiliary-{auxiliary}": PAPER.changed(
            name=f"paper, pseudo {pseudo}, auxiliary {auxiliary}",
            pseudo_loss=_OBJECTIVES[pseudo],
            auxiliary_loss=_OBJECTIVES[auxiliary],
        )
        for pseudo, auxiliary in product(_OBJECTIVES, repeat=2)
    }


def _vary_rates() -> dict[str, Recipe]:
    made = {}
    for rate, is_dynamic, is_guarded in product((3e-3, 1e-2), (True, False), (True, False)):
        base = CLINICAL if is_guarded else PAPER.changed(**_WHOLE_IMAGE)
        kind = ("dynamic" if is_dynamic else "fixed") + ("-guarded" if is_guarded else "")
        name = f"rate-{rate:g}-{kind}"
        made[name] = base.changed(name=name, base_rate=rate, is_dynamic=is_dynamic)
    return made


FAMILIES: Mapping[str, Mapping[str, Recipe]] = {
    "ablations": _ablate(),
    "objectives": _pair_objectives(),
    "rates": _vary_rates(),
}
"""Family to its recipes by name; a family's name stands for all of them."""
