"""Make a case's record from what its episode gathered."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grata_monai.adapt.case import Outcome
from grata_monai.adapt.episode import foreground_size
from grata_monai.adapt.recipe import Recipe
from grata_monai.adapt.scores import Quality, Score, Selected
from grata_monai.record.environment import name_device, versions
from grata_monai.record.layout import SCHEMA_VERSION
from grata_monai.record.types import (
    BundleVerification,
    Change,
    Environment,
    Focus,
    FocusWindow,
    MethodEntry,
    MovingParameters,
    OutcomeName,
    Precision,
    Record,
    Statistics,
    StepEntry,
    Verdict,
    Views,
    WeightHashes,
    Windows,
)

__all__ = ["make_record"]


def make_record(
    outcome: Outcome,
    asked: Recipe,
    *,
    device: torch.device,
    precision: str,
    bundle: Mapping[str, Any] | None = None,
) -> Record:
    """Make the record of a finished episode.

    Args:
        outcome: What the episode gathered.
        asked: The recipe that it was given.
        device: Where it ran.
        precision: Of the prediction.
        bundle: What `grata_monai.bundle.verify.verify_bundle` said; None without a bundle.

    Returns:
        The record.
    """
    recipe = asked.suit(outcome.weights["before"])
    settings, given = recipe.to_dict(), asked.to_dict()
    return Record(
        schema_version=SCHEMA_VERSION,
        outcome=_name_outcome(outcome),
        reason=outcome.reason,
        method=MethodEntry("grata"),
        recipe=settings,
        recipe_sha256=recipe.digest,
        asked={name: value for name, value in given.items() if value != settings[name]},
        asked_sha256=asked.digest,
        weights=WeightHashes(**outcome.weights),
        parameters=MovingParameters(outcome.groups, outcome.parameter_count, outcome.parameters),
        statistics=Statistics(float(recipe.image_share), outcome.image_statistics),
        views=Views(
            weak=recipe.weak_views,
            prediction=recipe.prediction_views,
            focus=recipe.focus_views,
            dropped=dict(outcome.dropped_views),
        ),
        windows=Windows(outcome.roi_size, outcome.windows),
        steps=tuple(StepEntry(**asdict(step)) for step in outcome.steps),
        verdict=_describe_verdict(outcome, recipe),
        focus=_describe_focus(outcome),
        change=_describe_change(outcome),
        environment=Environment(
            device=name_device(device),
            precision=Precision(recipe.precision, precision),
            seed=recipe.seed,
            threads=torch.get_num_threads(),
            versions=versions(),
            bundle=None if bundle is None else BundleVerification(**bundle),
        ),
        seconds={key: round(value, 3) for key, value in outcome.seconds.items()},
    )


def _name_outcome(outcome: Outcome) -> OutcomeName:
    if outcome.reason:
        return OutcomeName.SOURCE
    return OutcomeName.ADAPTED if outcome.is_adapted else OutcomeName.UNADAPTED


def _describe_verdict(outcome: Outcome, recipe: Recipe) -> Verdict:
    verdict = outcome.verdict
    return Verdict(
        light=Quality(verdict.light),
        kept=Selected(verdict.kept),
        reason=verdict.reason,
        agreement=None if verdict.agreement is None else min(verdict.agreement, 1.0),
        is_calibrated=recipe.is_calibrated(outcome.weights["before"]),
        scores=tuple(_list_scores(outcome, recipe)),
    )


def _list_scores(outcome: Outcome, recipe: Recipe) -> Iterator[Score]:
    """Yield what decided whether the source is kept; nothing has a threshold without a guard."""
    if outcome.verdict.agreement is not None:
        yield Score(
            "agreement",
            min(outcome.verdict.agreement, 1.0),
            recipe.source_below if recipe.guard else None,
        )
    if outcome.mirrored is not None and recipe.mirror_margin is not None:
        whole, magnified = outcome.mirrored
        yield Score("mirrored, whole image", whole)
        yield Score("mirrored, magnified", magnified, whole + recipe.mirror_margin)


def _describe_focus(outcome: Outcome) -> Focus:
    if not outcome.look:
        return Focus()
    look = outcome.look[0]
    rows = zip(outcome.focus, look.scores, look.weights, strict=True)
    return Focus(
        found_by=outcome.found_by,
        centre=outcome.focus[0].centre,
        windows=tuple(FocusWindow(window.name, *pair, weight) for window, pair, weight in rows),
    )


def _describe_change(outcome: Outcome) -> Change:
    source = foreground_size(outcome.source, outcome.activation)
    final = foreground_size(outcome.logits, outcome.activation)
    return Change(
        dice=_mean_dice(outcome.source, outcome.logits, outcome.activation),
        source_voxels=source,
        final_voxels=final,
        volume_ratio=final / source if source else None,
    )


def _mean_dice(source: Tensor, final: Tensor, activation: str) -> float:
    """Mean foreground Dice between two predictions; classes absent from both do not count."""
    if activation == "sigmoid":
        pairs = [(source[:, k] > 0, final[:, k] > 0) for k in range(source.shape[1])]
    else:
        one, two = source.argmax(1), final.argmax(1)
        pairs = [(one == k, two == k) for k in range(1, source.shape[1])]
    sizes = [(int((a & b).sum()), int(a.sum()) + int(b.sum())) for a, b in pairs]
    scores = [2 * both / total for both, total in sizes if total]
    return float(np.mean(scores)) if scores else 1.0
