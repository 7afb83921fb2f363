"""Measure masks against labels: one row per case, one table per centre, source beside adapted."""

import csv
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
)
from rich.console import Console
from torch import Tensor

from grata_monai.core.errors import CaseError, GeometryError
from grata_monai.core.failures import CaseFailure, report_failure
from grata_monai.core.files import Typed, atomic_path, ensure_writable

__all__ = [
    "ODD_NAMES",
    "CaseScore",
    "EvaluationHandler",
    "MaskScore",
    "score_case",
    "score_mask",
    "summarise_scores",
]

ODD_NAMES = "backslashreplace"  # a file's name may hold bytes that are no text


@dataclass(frozen=True)
class CaseScore:
    """How well one case was segmented.

    Attributes:
        case: Its name.
        centre: Where it comes from.
        source_dice: Of the source network's mask, in [0, 1], on the label's own grid.
        adapted_dice: Of the final mask.
        source_hd95: 95th percentile of the surface distances, in mm of the image's header; NaN if
            mask or label is empty.
        adapted_hd95: Of the final mask.
    """

    case: str
    centre: str
    source_dice: float
    adapted_dice: float
    source_hd95: float
    adapted_hd95: float


@dataclass(frozen=True)
class MaskScore:
    """How well one mask agrees with a label; means over the foreground values of both.

    Attributes:
        dice: In [0, 1]; 1 if both are empty.
        hd95: 95th percentile of the surface distances, in mm; NaN if either is empty.
        assd: Average symmetric surface distance, in mm; NaN if either is empty.
    """

    dice: float
    hd95: float
    assd: float


def score_case(
    *,
    case: str,
    centre: str,
    source: Tensor,
    adapted: Tensor,
    label: Tensor,
    spacing: Sequence[float],
) -> CaseScore:
    """Score two masks of one case against its label.

    Args:
        case: Its name.
        centre: Where it comes from.
        source: Source network's label map (1, *s).
        adapted: Final label map (1, *s).
        label: Reference label map (1, *s).
        spacing: Voxel size in mm, per axis.

    Returns:
        Mean over the label values above 0 that occur in label or mask.

    Raises:
        GeometryError: If label and masks have different shapes.
    """
    if not source.shape == adapted.shape == label.shape:
        raise GeometryError(
            f"label must lie on its image's grid, label of {case!r} has {tuple(label.shape[1:])}, "
            f"its image {tuple(adapted.shape[1:])}. Resample the label to the image."
        )
    one, two = (score_mask(mask, label, spacing) for mask in (source, adapted))
    return CaseScore(case, centre, one.dice, two.dice, one.hd95, two.hd95)


def score_mask(mask: Tensor, label: Tensor, spacing: Sequence[float]) -> MaskScore:
    """Score a mask against a label on the same grid.

    Args:
        mask: Label map (1, *s).
        label: Reference label map (1, *s).
        spacing: Voxel size in mm, per axis.

    Returns:
        The scores, by MONAI's metrics.
    """
    with warnings.catch_warnings():
        # MONAI 1.6.1 calls its own helper with an argument that it has deprecated
        warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges", FutureWarning)
        return _score(torch.as_tensor(mask).cpu(), torch.as_tensor(label).cpu(), spacing)


def _score(mask: Tensor, label: Tensor, spacing: Sequence[float]) -> MaskScore:
    values = sorted({int(v) for v in torch.cat([mask.unique(), label.unique()]) if v > 0})
    dice, hd95, assd = [], [], []
    for value in values:
        pair = ((mask == value)[None].float(), (label == value)[None].float())
        dice.append(float(compute_dice(*pair, ignore_empty=False)))
        is_empty = not all(bool(one.any()) for one in pair)
        hd95.append(math.nan if is_empty else _hausdorff(*pair, spacing))
        assd.append(math.nan if is_empty else _average(*pair, spacing))
    return MaskScore(fmean(dice), fmean(hd95), fmean(assd)) if values else MaskScore(1.0, 0.0, 0.0)


def _hausdorff(mask: Tensor, label: Tensor, spacing: Sequence[float]) -> float:
    value = compute_hausdorff_distance(
        mask, label, include_background=True, percentile=95, spacing=list(spacing)
    )
    return float(value)


def _average(mask: Tensor, label: Tensor, spacing: Sequence[float]) -> float:
    value = compute_average_surface_distance(
        mask, label, include_background=True, symmetric=True, spacing=list(spacing)
    )
    return float(value)


def summarise_scores(scores: Iterable[CaseScore]) -> str:
    """Write a Markdown table: per centre the mean Dice and HD95 of source and final masks.

    Args:
        scores: Of every case.

    Returns:
        The table; means of HD95 leave out the cases where it is not defined, and say how many.
    """
    rows = sorted(scores, key=lambda score: (score.centre, score.case))
    lines = [
        "| centre | cases | Dice source | Dice final | lost / gained > .02 "
        "| HD95 source (mm) | HD95 final (mm) |",
        "|---|---|---|---|---|---|---|",
    ]
    for centre in dict.fromkeys(score.centre for score in rows):
        group = [score for score in rows if score.centre == centre]
        gains = [score.adapted_dice - score.source_dice for score in group]
        lines.append(
            f"| {centre or '-'} | {len(group)} "
            f"| {fmean(s.source_dice for s in group):.3f} "
            f"| {fmean(s.adapted_dice for s in group):.3f} "
            f"| {sum(g < -0.02 for g in gains)} / {sum(g > 0.02 for g in gains)} "
            f"| {_mean([s.source_hd95 for s in group])} "
            f"| {_mean([s.adapted_hd95 for s in group])} |"
        )
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    missing = len(values) - len(finite)
    text = f"{fmean(finite):.1f}" if finite else "-"
    return f"{text} ({missing} undefined)" if missing else text


class EvaluationHandler:
    """Score every case of an evaluator's run, then write and print the tables.

    Needs `label`, `source` and `pred` on the label's grid in the engine's output: the evaluate
    overlay of the bundle puts them there. Writes ``evaluation.csv``, a row per case, and
    ``evaluation.md``, a table per centre.

    Args:
        output_dir: Where to write.
        console: Where to print; standard output if None.
    """

    def __init__(self, output_dir: Typed, *, console: Console | None = None) -> None:
        self.output_dir = ensure_writable(output_dir)
        self.console = console or Console()

    def attach(self, engine: Engine) -> None:
        """Listen to an engine."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.score)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        """Begin an empty table."""
        state: Any = engine.state
        state.scores = []

    def score(self, engine: Engine) -> None:
        """Score the cases of an iteration; one whose label does not fit counts as failed."""
        state: Any = engine.state
        for batch, output in zip(state.batch, state.output, strict=True):
            item = {**batch, **output}
            try:
                state.scores.append(_score_item(item))
            except CaseError as error:
                report_failure(engine, CaseFailure.explain(str(item.get("case", "")), error))

    def write(self, engine: Engine) -> None:
        """Write both tables and print the one per centre."""
        state: Any = engine.state
        scores: list[CaseScore] = state.scores
        table = summarise_scores(scores)
        with (
            atomic_path(self.output_dir / "evaluation.csv") as path,
            path.open("w", newline="", encoding="utf-8", errors=ODD_NAMES) as file,
        ):
            writer = csv.DictWriter(file, [field.name for field in fields(CaseScore)])
            writer.writeheader()
            writer.writerows(asdict(score) for score in scores)
        with atomic_path(self.output_dir / "evaluation.md") as path:
            path.write_text(table, encoding="utf-8", errors=ODD_NAMES)
        shown = table.encode("utf-8", ODD_NAMES).decode("utf-8")
        self.console.print(shown, markup=False, soft_wrap=True)


def _score_item(item: Mapping[str, Any]) -> CaseScore:
    case, pred, label = str(item.get("case", "")), item["pred"], item["label"]
    spacing = [float(v) for v in pred.pixdim]
    if pred.shape == label.shape and _distance_of_grids(pred, label) > min(spacing) / 2:
        raise GeometryError(
            f"label must lie on its image's grid, label of {case!r} has another affine. "
            "Resample the label to the image."
        )
    return score_case(
        case=case,
        centre=str(item.get("centre", "")),
        source=item["source"],
        adapted=pred,
        label=label,
        spacing=spacing,
    )


def _distance_of_grids(one: Tensor, other: Tensor) -> float:
    """Largest distance in mm between the places of one voxel (1, *s) on two grids."""
    if not (isinstance(one, MetaTensor) and isinstance(other, MetaTensor)):
        return 0.0
    difference = one.affine.double().cpu() - other.affine.double().cpu()
    ends = [torch.tensor([0.0, extent - 1]).double() for extent in one.shape[1:]]
    corners = torch.cartesian_prod(*ends, torch.ones(1).double())
    return float((corners @ difference[:-1].T).norm(dim=1).max())
