"""Fit what a source profile predicts, and bound what its choice may cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from grata_monai.adapt.profile import SourceProfile
from grata_monai.adapt.quality import doubt_source, fit_quality, predict_left_out
from grata_monai.adapt.signs import excess_distance
from grata_monai.experiments.calibrate.profile import HOME_SHARE
from grata_monai.experiments.compare.statistics import HARM
from grata_monai.experiments.harness.run import Row

__all__ = ["Fit", "can_fit", "fit_profile"]

_FEWEST = 3  # cases with a prediction


@dataclass(frozen=True)
class Fit:
    """How well a fitted profile does on cases that had no part in it.

    Attributes:
        name: Of the candidate.
        profile: With its models.
        risk: Bound of the share of cases harmed under some shift; above `allowed` if too few cases
            were given for it.
        allowed: The share that was asked for.
        harmed: Cases that the choice harms, each left out in turn.
        gain: Mean gain over the source, over all left-out cases and shifts.
        oracle: The same for a choice that knows the label.
        kept: Share of cases and shifts that hand on each prediction.
        by_shift: Shift to the mean gain and the oracle's.
        by_unseen: Shift to the mean gain and the cases harmed, of a fit that had seen neither
            this shift nor the case.
    """

    name: str
    profile: SourceProfile
    risk: float
    allowed: float
    harmed: int
    gain: float
    oracle: float
    kept: Mapping[str, float]
    by_shift: Mapping[str, tuple[float, float]]
    by_unseen: Mapping[str, tuple[float, int]]

    @property
    def holds(self) -> bool:
        """Whether the bound is what was asked for."""
        return self.risk <= self.allowed


_Key = tuple[str, str]  # case and shift


def fit_profile(
    profile: SourceProfile,
    rows: Sequence[tuple[str, Row]],
    candidate: str,
    *,
    mirrored: str = "",
    allowed: float = 0.1,
    confidence: float = 0.9,
) -> Fit:
    """Fit what predicts quality, and choose by conformal risk control how much gain it takes.

    Args:
        profile: Of all cases.
        rows: Shift and row, of ``source`` and of the candidate, with signs by left-out profiles.
        candidate: Its name.
        mirrored: Name of the rows that average mirrored predictions of the whole image, which stand
            in where the candidate is not kept; empty without.
        allowed: Largest share of cases that may be harmed under some shift.
        confidence: Of the lower bound of predicted quality.

    Returns:
        The fitted profile, and what it is worth on left-out cases.

    Source:
        Angelopoulos et al., Conformal Risk Control, ICLR 2024: the bound holds for cases that are
        exchangeable with these.
    """
    parts = _take_apart(rows, candidate, mirrored)
    plain, found = parts
    cases = sorted({case for case, _ in plain})
    before = _leave_out(plain)
    decides = _decide(parts, before, _leave_out(found["kept"]))
    margins, risk, chosen = _choose(parts, decides, cases, allowed)
    at_home = [before[case, "none"] for case in cases if (case, "none") in before]
    home_quality = float(np.quantile(at_home, 1 - HOME_SHARE)) if at_home else 0.0
    gain_above = margins["kept"]
    fitted = replace(
        profile,
        models={
            name: fit_quality(*_unzip(part), confidence=confidence)
            for name, part in {"plain": plain, **found}.items()
        },
        gain_above=1.0 if gain_above is None else round(gain_above, 4),
        mirrored_from=margins.get("mirrored"),
        home_quality=round(home_quality, 4),
        home_lower=_bound_home(profile, plain, before, home_quality, confidence),
    )
    true = _gains(parts)
    best = {key: max(0.0, *(gains.get(key, 0.0) for gains in true.values())) for key in plain}
    shifts = dict.fromkeys(shift for _, shift in plain)
    names = ["source", *found]
    return Fit(
        name=candidate,
        profile=fitted,
        risk=risk,
        allowed=allowed,
        harmed=_count_harmed(chosen, cases),
        gain=fmean(gain for _, gain in chosen.values()),
        oracle=fmean(best.values()),
        kept={name: fmean(n == name for n, _ in chosen.values()) for name in names},
        by_shift={
            shift: (
                fmean(gain for key, (_, gain) in chosen.items() if key[1] == shift),
                fmean(value for key, value in best.items() if key[1] == shift),
            )
            for shift in shifts
        },
        by_unseen={
            shift: _try_unseen(parts, shift, allowed)
            for shift in shifts
            if shift != "none" and _is_known_without(parts, shift)
        },
    )


_Part = Mapping[_Key, tuple[Mapping[str, float], float]]
_Parts = tuple[_Part, Mapping[str, _Part]]  # of the source, and of what may stand in for it


def _take_apart(rows: Sequence[tuple[str, Row]], candidate: str, mirrored: str) -> _Parts:
    found = {"kept": _collect(rows, candidate, "kept")}
    if mirrored and mirrored != candidate and can_fit(rows, mirrored):
        found["mirrored"] = _collect(rows, mirrored, "kept")
    return _collect(rows, "source", "source"), found


def _gains(parts: _Parts) -> dict[str, dict[_Key, float]]:
    plain, found = parts
    return {
        name: {key: part[key][1] - plain[key][1] for key in part if key in plain}
        for name, part in found.items()
    }


def _decide(
    parts: _Parts, before: Mapping[_Key, float], after: Mapping[_Key, float]
) -> dict[str, dict[_Key, float]]:
    """What decides whether a prediction stands in: its predicted gain, or likeness to the source.

    Args:
        parts: Of these cases and shifts.
        before: Predicted Dice of the source's mask.
        after: And of the candidate's.
    """
    plain, found = parts
    return {
        "kept": {
            key: after[key] - doubt_source(before[key], after[key], 1 - signs["change"])
            for key, (signs, _) in found["kept"].items()
            if key in plain
        },
        "mirrored": {
            key: 1 - signs["change"]
            for key, (signs, _) in found.get("mirrored", {}).items()
            if key in plain
        },
    }


def _choose(
    parts: _Parts, decides: Mapping[str, Mapping[_Key, float]], cases: Sequence[str], allowed: float
) -> tuple[dict[str, float | None], float, dict[_Key, tuple[str, float]]]:
    """Choose margins by bounded risk; also the bound, and what every case and shift is given."""
    chosen: dict[_Key, tuple[str, float]] = dict.fromkeys(parts[0], ("source", 0.0))
    margins: dict[str, float | None] = {}
    risk = 1 / (len(cases) + 1)
    for name, gains in _gains(parts).items():
        margin, risk, chosen = _control(name, chosen, decides[name], gains, cases, allowed)
        margins[name] = margin
    return margins, risk, chosen


def _is_known_without(parts: _Parts, shift: str) -> bool:
    """Whether enough cases have predictions under other shifts to fit without this one."""
    plain, found = parts
    rest = (_select(part, shift, False) for part in (plain, found["kept"]))
    return all(len({case for case, _ in part}) >= _FEWEST for part in rest)


def _try_unseen(parts: _Parts, shift: str, allowed: float) -> tuple[float, int]:
    """Choose on the other shifts, by models of the other cases, and look at this one.

    Returns:
        Mean gain, and how many cases are harmed.
    """
    plain, found = parts
    seen = _select(plain, shift, False), {n: _select(p, shift, False) for n, p in found.items()}
    cases = sorted({case for case, _ in plain})
    decides = _decide(seen, _leave_out(seen[0]), _leave_out(seen[1]["kept"]))
    margins, _, _ = _choose(seen, decides, cases, allowed)
    foreign = _select(plain, shift, True), {n: _select(p, shift, True) for n, p in found.items()}
    decides = _decide(
        foreign, _leave_out(plain, unseen=shift), _leave_out(found["kept"], unseen=shift)
    )
    chosen: dict[_Key, tuple[str, float]] = dict.fromkeys(foreign[0], ("source", 0.0))
    for name, gains in _gains(foreign).items():
        margin = margins[name]
        for key, value in decides[name].items():
            if margin is not None and value >= margin and chosen[key][0] == "source":
                chosen[key] = (name, gains[key])
    return fmean(gain for _, gain in chosen.values()), _count_harmed(chosen, cases)


def _select(part: _Part, shift: str, is_wanted: bool) -> _Part:
    return {key: value for key, value in part.items() if (key[1] == shift) == is_wanted}


def can_fit(rows: Sequence[tuple[str, Row]], candidate: str) -> bool:
    """Whether a candidate predicted enough cases: where it found nothing, a row has no signs."""
    return len({case for case, _ in _collect(rows, candidate, "kept")}) >= _FEWEST


def _collect(rows: Sequence[tuple[str, Row]], method: str, signs: str) -> _Part:
    """Case and shift to signs and Dice of a method; without rows that lack a sign of the others."""
    found = {
        (row.case, shift): (row.signs[signs], row.dice)
        for shift, row in rows
        if row.method == method and signs in row.signs
    }
    most = max((len(s) for s, _ in found.values()), default=0)
    return {key: value for key, value in found.items() if len(value[0]) == most}


def _unzip(part: _Part) -> tuple[list[Mapping[str, float]], list[float], list[str]]:
    return [s for s, _ in part.values()], [d for _, d in part.values()], [case for case, _ in part]


def _leave_out(part: _Part, *, unseen: str = "") -> dict[_Key, float]:
    """Predict the Dice of every row by a model of the other cases, under all shifts but one."""
    teaches = [shift != unseen for _, shift in part]
    found = predict_left_out(*_unzip(part), teaches=teaches)
    return dict(zip(part, map(float, found), strict=True))


def _control(
    name: str,
    chosen: Mapping[_Key, tuple[str, float]],
    decides: Mapping[_Key, float],
    true: Mapping[_Key, float],
    cases: Sequence[str],
    allowed: float,
) -> tuple[float | None, float, dict[_Key, tuple[str, float]]]:
    """Choose from which value of what decides a prediction stands in for the source.

    Returns:
        Of the values whose bounded risk is allowed the one that gains most, or None, which never
        takes the prediction, if that is the best; the bound; and what is chosen then.
    """
    rest = [key for key in decides if chosen[key][0] == "source"]
    tried: list[tuple[float, float, float | None, dict[_Key, tuple[str, float]]]] = []
    for margin in (None, *sorted(round(decides[key] - 5e-5, 4) for key in rest)):
        taken = [key for key in rest if margin is not None and decides[key] >= margin]
        found = {**chosen, **{key: (name, true[key]) for key in taken}}
        risk = (_count_harmed(found, cases) + 1) / (len(cases) + 1)
        tried.append((risk, sum(gain for _, gain in found.values()), margin, found))
    least = max(allowed, min(risk for risk, *_ in tried))
    risk, _, margin, found = max((t for t in tried if t[0] <= least), key=lambda t: t[1])
    return margin, risk, found


def _bound_home(
    profile: SourceProfile,
    plain: _Part,
    predicted: Mapping[_Key, float],
    home_quality: float,
    confidence: float,
) -> float:
    """Bound the Dice of cases that would be taken for those at home, each by its worst shift."""
    farthest = excess_distance(profile.home_below or 0.0, profile.distances)
    worst: dict[str, float] = {}
    for key, (signs, dice) in plain.items():
        if signs["shift"] <= farthest and predicted[key] >= home_quality:
            worst[key[0]] = min(dice, worst.get(key[0], 1.0))
    rank = math.floor((len(worst) + 1) * (1 - confidence) + 1e-9)
    return round(sorted(worst.values())[rank - 1], 4) if rank else 0.0


def _count_harmed(chosen: Mapping[_Key, tuple[str, float]], cases: Sequence[str]) -> int:
    harmed = {case for (case, _), (_, gain) in chosen.items() if gain < -HARM}
    return len(harmed & set(cases))
