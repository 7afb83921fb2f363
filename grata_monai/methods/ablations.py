"""The clinical recipe with one part changed at a time: what each part is worth."""

from collections.abc import Mapping
from typing import Any

from grata_monai.adapt.recipe import CLINICAL, Recipe

__all__ = ["ABLATIONS", "DYNAMIC_STEP"]

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

ABLATIONS: Mapping[str, Recipe] = {
    f"clinical-{name}": CLINICAL.changed(name=f"clinical, {name}", **changes)
    for name, changes in _CHANGES.items()
}
"""Name to recipe; ``ablations`` names all of them."""
