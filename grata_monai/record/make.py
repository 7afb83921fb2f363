"""Make a case's record from what its episode gathered."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from grata_monai.adapt.method import Episode, Method
from grata_monai.adapt.recipe import Recipe
from grata_monai.adapt.result import EpisodeResult, dice_of_marks, mark
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
    OrganEntry,
    Organs,
    OutcomeName,
    Precision,
    PredictedQuality,
    Record,
    ShiftEntry,
    Statistics,
    StepEntry,
    Verdict,
    Views,
    WeightHashes,
    Windows,
)

__all__ = ["make_record"]

_UNMOVED = "no step changed the network"


def make_record(
    result: EpisodeResult,
    episode: Episode,
    *,
    device: torch.device,
    precision: str,
    bundle: Mapping[str, Any] | None = None,
) -> Record:
    """Make the record of a finished episode.

    Args:
        result: What the episode did.
        episode: What it was asked to do.
        device: Where it ran.
        precision: Of the prediction.
        bundle: What `grata_monai.bundle.verify.verify_bundle` said; None without a bundle.

    Returns:
        The record.
    """
    recipe, asked, patches = result.recipe, episode.recipe, result.patches
    settings, given = recipe.to_dict(), asked.to_dict()
    return Record(
        schema_version=SCHEMA_VERSION,
        outcome=_name_outcome(result, episode.method),
        reason=result.reason or (_UNMOVED if _is_source(result) else ""),
        method=MethodEntry(result.method, _list_settings(episode.method)),
        recipe=settings,
        recipe_sha256=recipe.digest,
        asked={name: value for name, value in given.items() if value != settings[name]},
        asked_sha256=asked.digest,
        weights=WeightHashes(result.source.weights, result.weights_after, result.weights_restored),
        parameters=MovingParameters(result.groups, result.parameter_count, result.parameters),
        statistics=Statistics(result.image_share, result.image_statistics),
        views=Views(
            weak=recipe.steps.weak_views,
            prediction=recipe.prediction_views,
            focus=recipe.multiscale.views,
            dropped=dict(result.dropped_views),
        ),
        windows=Windows() if patches is None else Windows(patches.roi_size, patches.starts),
        steps=tuple(StepEntry(**asdict(step)) for step in result.steps),
        verdict=_describe_verdict(result, asked),
        focus=_describe_focus(result),
        change=_describe_change(result),
        organs=_describe_organs(result),
        shift=None if result.source.shift is None else ShiftEntry(**asdict(result.source.shift)),
        environment=Environment(
            device=name_device(device),
            precision=Precision(recipe.steps.precision, precision),
            seed=recipe.seed,
            threads=torch.get_num_threads(),
            versions=versions(),
            bundle=None if bundle is None else BundleVerification(**bundle),
        ),
        seconds={
            key: round(value, 3)
            for key, value in {"source": result.source.seconds, **result.seconds}.items()
        },
    )


def _list_settings(method: Method) -> dict[str, Any]:
    """Settings of a method as JSON holds them."""
    return dict(json.loads(json.dumps(dict(method.settings), default=vars)))


def _name_outcome(result: EpisodeResult, method: Method) -> OutcomeName:
    if result.reason or _is_source(result):
        return OutcomeName.SOURCE
    is_adapted = result.is_adapted and not method.keeps_network
    return OutcomeName.ADAPTED if is_adapted else OutcomeName.VIEWS


def _is_source(result: EpisodeResult) -> bool:
    """Whether the very prediction of the source network is handed on."""
    return result.logits is result.source.logits


def _describe_verdict(result: EpisodeResult, asked: Recipe) -> Verdict:
    decision, predicted = result.decision, result.predicted
    return Verdict(
        light=decision.quality,
        kept=decision.selected,
        reason=decision.reason,
        agreement=decision.consistency,
        is_calibrated=asked.is_calibrated(result.source.weights),
        scores=decision.scores,
        predicted=None if predicted is None else PredictedQuality(**asdict(predicted)),
        signs=result.signs,
    )


def _describe_focus(result: EpisodeResult) -> Focus:
    organ = result.organ
    if organ is None or organ.prediction is None:
        return Focus()
    prediction = organ.prediction
    rows = zip(organ.rois, prediction.scores, prediction.weights, strict=True)
    return Focus(
        found_by=organ.found_by,
        centre=organ.rois[0].centre,
        windows=tuple(FocusWindow(roi.name, *pair, weight) for roi, pair, weight in rows),
    )


def _describe_organs(result: EpisodeResult) -> Organs:
    entries = tuple(
        OrganEntry(
            channel=organ.channel,
            centre=organ.centre,
            voxels=organ.voxels,
            light=organ.decision.quality,
            kept=organ.decision.selected,
            reason=organ.decision.reason,
            agreement=organ.decision.consistency,
        )
        for organ in result.organs
    )
    if result.footprint is None:
        return Organs()
    footprint = result.footprint
    return Organs(entries, result.organs_left_out, footprint.way, footprint.needed)


def _describe_change(result: EpisodeResult) -> Change:
    activation = result.source.activation
    before, after = result.source.marks, mark(result.logits, activation)
    source, final = (int((marks > 0).any(1).sum()) for marks in (before, after))
    return Change(
        dice=dice_of_marks(before, after, activation),
        source_voxels=source,
        final_voxels=final,
        volume_ratio=final / source if source else None,
    )
