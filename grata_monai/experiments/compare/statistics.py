"""Paired statistics of methods against the source network, or another reference, by scipy.

A case counts as harmed if it loses more than .02 Dice.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from grata_monai.experiments.harness.run import Row

__all__ = ["FEW", "HARM", "Summary", "adjust_holm", "summarise"]

HARM = 0.02
LEAST = 5e-4  # Dice; a table shows less as 0
ROUNDING = 1e-9  # 0.48 - 0.5 is a little below -0.02
RESAMPLES = 10_000
SMALLEST_SAMPLE = 2  # below, an interval means nothing
FEW = 6  # below, no result of the paired test could be under .05


@dataclass(frozen=True)
class Summary:
    """One method on one group of cases.

    Attributes:
        method: Its name.
        centre: The group; ``all`` for every case.
        reference: The method that gain, interval, p, harm, worst and ratios refer to.
        cases: How many have a score with the method and with the reference.
        dice: Mean.
        hd95: Mean in mm, over the cases where it is defined.
        assd: Mean in mm, over the cases where it is defined.
        gain: Mean gain in Dice over the reference.
        gain_low: Lower end of its 95 % interval (BCa bootstrap over cases).
        gain_high: Upper end.
        p_value: Of the paired Wilcoxon signed-rank test, two-sided, Holm-corrected over the methods
            of the group; NaN with fewer than `FEW` cases, or no difference at all.
        harm_rate: Share of the cases that lose more than `HARM`.
        worst: The largest loss, as a gain.
        time_ratio: Median over cases of the time, divided by the reference's.
        memory_ratio: Median over cases of the peak memory, divided by the reference's.
        refused: How many cases have no mask.
        unchanged: Why every gain is shown as 0; empty if one is not.
    """

    method: str
    centre: str
    reference: str
    cases: int
    dice: float
    hd95: float
    assd: float
    gain: float
    gain_low: float
    gain_high: float
    p_value: float
    harm_rate: float
    worst: float
    time_ratio: float
    memory_ratio: float
    refused: int
    unchanged: str


def summarise(
    rows: Iterable[Row],
    *,
    seed: int = 0,
    reference: str = "source",
    groups: Mapping[str, Sequence[str]] | None = None,
) -> list[Summary]:
    """Compare every method with one of them, over all cases, per group and per centre.

    Args:
        rows: With rows of the reference.
        seed: Of the bootstrap.
        reference: The method that all are compared with.
        groups: Further groups of cases: name to centres.

    Returns:
        One per method and group, in the order in which methods and centres come.

    Raises:
        ValueError: If the reference has no row.
    """
    rows = list(rows)
    base = {row.case: row for row in rows if row.method == reference and not row.refusal}
    if not base:
        raise ValueError(f"rows must hold the method {reference!r}, they do not. Run it too.")
    centres = list(dict.fromkeys(row.centre for row in rows))
    single = {c: [c] for c in centres} if len(centres) > 1 else {}
    summaries = []
    for name, members in ({"all": centres} | dict(groups or {}) | single).items():
        chosen = [row for row in rows if row.centre in members]
        methods = list(dict.fromkeys(row.method for row in chosen))
        made = [
            _summarise(m, (name, reference), [r for r in chosen if r.method == m], base, seed)
            for m in methods
        ]
        corrected = adjust_holm([summary.p_value for summary in made])
        summaries += [
            Summary(**{**vars(summary), "p_value": p})
            for summary, p in zip(made, corrected, strict=True)
        ]
    return summaries


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for testing several methods (Holm 1979); NaN stays, and does not count."""
    finite = sorted((p, i) for i, p in enumerate(p_values) if math.isfinite(p))
    adjusted, largest = list(p_values), 0.0
    for rank, (p, index) in enumerate(finite):
        largest = max(largest, min(1.0, (len(finite) - rank) * p))
        adjusted[index] = largest
    return adjusted


def _summarise(
    method: str, group: tuple[str, str], rows: Sequence[Row], base: Mapping[str, Row], seed: int
) -> Summary:
    done = [row for row in rows if not row.refusal and row.case in base]
    gains = np.array([row.dice - base[row.case].dice for row in done])
    low, high = _interval(gains, seed)
    return Summary(
        method=method,
        centre=group[0],
        reference=group[1],
        cases=len(done),
        dice=_mean([row.dice for row in done]),
        hd95=_mean([row.hd95 for row in done]),
        assd=_mean([row.assd for row in done]),
        gain=_mean(gains.tolist()),
        gain_low=low,
        gain_high=high,
        p_value=_wilcoxon(gains),
        harm_rate=float((gains < -HARM - ROUNDING).mean()) if len(gains) else math.nan,
        worst=float(gains.min()) if len(gains) else math.nan,
        time_ratio=_median([row.seconds / base[row.case].seconds for row in done]),
        memory_ratio=_median([row.peak_bytes / max(base[row.case].peak_bytes, 1) for row in done]),
        refused=len(rows) - len(done),
        unchanged="" if np.any(np.abs(gains) >= LEAST) else _explain(done, reference=group[1]),
    )


def _explain(rows: Sequence[Row], reference: str) -> str:
    """Say why no gain can be seen."""
    if not rows or rows[0].method == reference:
        return "the reference" if rows else ""
    if reference != "source":
        return f"the same scores as {reference}"
    kept = [row.reason for row in rows if row.reason]
    if len(kept) == len(rows):
        others = "" if len(set(kept)) == 1 else f", and {len(set(kept)) - 1} more reasons"
        return f"the source's masks: {kept[0]}{others}"
    if any(math.isnan(row.change) for row in rows):
        return "not known: rows of an earlier version; run it again in another folder"
    share, voxels = max(row.change for row in rows), max(row.relabelled for row in rows)
    return (
        f"no probability moves by more than {share:.1g}, at most {voxels:.0f} voxels of a case "
        "change their label"
    )


def _interval(gains: NDArray[np.float64], seed: int) -> tuple[float, float]:
    if len(gains) < SMALLEST_SAMPLE or np.ptp(gains) == 0:
        return (float(gains[0]),) * 2 if len(gains) and np.ptp(gains) == 0 else (math.nan, math.nan)
    found = stats.bootstrap(
        (gains,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=0.95,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _wilcoxon(gains: NDArray[np.float64]) -> float:
    if len(gains) < FEW or not gains.any():
        return math.nan
    return float(stats.wilcoxon(gains, zero_method="zsplit").pvalue)


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def _median(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.median(finite)) if finite else math.nan
