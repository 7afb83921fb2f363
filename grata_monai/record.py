"""What was done to a case, as one immutable, hashable value."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grata_monai.adapt.case import Outcome
from grata_monai.adapt.episode import foreground_size
from grata_monai.adapt.recipe import Recipe

__all__ = ["SCHEMA_VERSION", "Record", "make_record"]

SCHEMA_VERSION = "1.5"


@dataclass(frozen=True)
class Record:
    """What was done to one case; described field by field in `docs/reference/record.schema.json`.

    Attributes:
        schema_version: Version of this layout.
        outcome: ``adapted``; ``source`` if the source prediction was kept; ``unadapted`` if nothing
            moved and the prediction views, if any, were averaged with the source's weights.
        reason: Why the source prediction was kept; else empty.
        recipe: Every setting of the recipe.
        recipe_sha256: Its digest.
        weights: SHA-256 of the network's weights ``before``, ``after`` (in the private copy) and
            ``restored``.
        parameters: What could move: groups, names, number of scalars.
        statistics: Share of the image in normalisation statistics, and the layers concerned.
        views: Weak and prediction views that the recipe asked for, and those dropped, with reasons.
        windows: Size and first voxels of the windows that adaptation saw.
        steps: Losses, cosine, rate and update norm of every step.
        change: Dice between source and adapted prediction, foreground voxels of both, their ratio.
        environment: Device, precision, versions, seed; whether the bundle was verified.
        seconds: Wall time of the source pass, adaptation, and prediction.
        verdict: The guard's ``light``, what it ``kept``, its ``reason`` and ``agreement``, and
            whether its limits were chosen for these weights.
        focus: On which view the organ was found, its centre in voxels, and per magnified window
            its view, the agreement of its mirrored predictions, that with its neighbours, and its
            weight; before adaptation.
    """

    schema_version: str
    outcome: str
    reason: str
    recipe: Mapping[str, Any]
    recipe_sha256: str
    weights: Mapping[str, str]
    parameters: Mapping[str, Any]
    statistics: Mapping[str, Any]
    views: Mapping[str, Any]
    windows: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]
    change: Mapping[str, Any]
    environment: Mapping[str, Any]
    seconds: Mapping[str, float]
    verdict: Mapping[str, Any] = field(default_factory=dict)
    focus: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        """Hash by content, times left out."""
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the times: equal for the same case done the same way."""
        content = asdict(self)
        del content["seconds"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Write as JSON text."""
        return json.dumps(asdict(self), sort_keys=True, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Read back what `to_json` wrote, also by 1.0; keys added by a writer are ignored."""
        content = json.loads(text)
        known = {f.name: content[f.name] for f in fields(cls) if f.name in content}
        return cls(**{**known, "steps": tuple(known["steps"])})


def make_record(
    outcome: Outcome,
    recipe: Recipe,
    *,
    device: torch.device,
    precision: str,
    bundle: Mapping[str, Any] | None = None,
) -> Record:
    """Make the record of a finished episode.

    Args:
        outcome: What the episode gathered.
        recipe: What it was told to do.
        device: Where it ran.
        precision: Of the prediction.
        bundle: What `grata_monai.bundle.lint.verify_bundle` said; None without a bundle.

    Returns:
        The record, made of plain JSON values.
    """
    return Record(
        schema_version=SCHEMA_VERSION,
        outcome=_name_outcome(outcome),
        reason=outcome.reason,
        recipe=recipe.to_dict(),
        recipe_sha256=recipe.digest,
        weights=dict(outcome.weights),
        parameters={
            "groups": list(outcome.groups),
            "count": outcome.parameter_count,
            "names": list(outcome.parameters),
        },
        statistics={
            "image_share": recipe.image_share,
            "layers": list(outcome.image_statistics),
        },
        views={
            "weak": list(recipe.weak_views),
            "prediction": list(recipe.prediction_views),
            "focus": list(recipe.focus_views),
            "dropped": dict(outcome.dropped_views),
        },
        windows={
            "roi_size": list(outcome.roi_size),
            "starts": [list(start) for start in outcome.windows],
        },
        steps=tuple(asdict(step) for step in outcome.steps),
        verdict={
            **asdict(outcome.verdict),
            "is_calibrated": recipe.is_calibrated(outcome.weights["before"]),
        },
        focus=_describe_focus(outcome),
        change=_describe_change(outcome),
        environment={
            "device": _name_device(device),
            "precision": {"adaptation": recipe.precision, "prediction": precision},
            "seed": recipe.seed,
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "bundle": None if bundle is None else dict(bundle),
        },
        seconds={key: round(value, 3) for key, value in outcome.seconds.items()},
    )


def _name_outcome(outcome: Outcome) -> str:
    if outcome.reason:
        return "source"
    return "adapted" if outcome.is_adapted else "unadapted"


def _describe_focus(outcome: Outcome) -> dict[str, Any]:
    if not outcome.look:
        return {"found_by": "", "centre": [], "windows": []}
    look = outcome.look[0]
    rows = zip(outcome.focus, look.scores, look.weights, strict=True)
    return {
        "found_by": outcome.found_by,
        "centre": list(outcome.focus[0].centre),
        "windows": [
            {"view": window.name, "mirrored": own, "neighbours": beside, "weight": weight}
            for window, (own, beside), weight in rows
        ],
    }


def _describe_change(outcome: Outcome) -> dict[str, Any]:
    source = foreground_size(outcome.source, outcome.activation)
    final = foreground_size(outcome.logits, outcome.activation)
    return {
        "dice": _agreement(outcome.source, outcome.logits, outcome.activation),
        "source_voxels": source,
        "final_voxels": final,
        "volume_ratio": final / source if source else None,
    }


def _agreement(source: Tensor, final: Tensor, activation: str) -> float:
    """Mean foreground Dice between two predictions; classes absent from both do not count."""
    if activation == "sigmoid":
        pairs = [(source[:, k] > 0, final[:, k] > 0) for k in range(source.shape[1])]
    else:
        one, two = source.argmax(1), final.argmax(1)
        pairs = [(one == k, two == k) for k in range(1, source.shape[1])]
    sizes = [(int((a & b).sum()), int(a.sum()) + int(b.sum())) for a, b in pairs]
    scores = [2 * both / total for both, total in sizes if total]
    return float(np.mean(scores)) if scores else 1.0


def _name_device(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    return f"{device} ({torch.cuda.get_device_name(device)})"


@cache
def versions() -> dict[str, str]:
    """Versions of what computes."""
    found = {"python": platform.python_version()}
    for name in ("grata-monai", "monai", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
