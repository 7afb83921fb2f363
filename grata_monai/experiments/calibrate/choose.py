"""Choose among candidates, and say honestly what the choice is worth: by leaving cases out.

A candidate that looks at magnified views also gets its guard's limits here: below which agreement
the source is kept, by how much its mirrored predictions must agree better than those of the whole
image, and below which agreement the light is amber.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from grata_monai.experiments.compare.statistics import HARM

__all__ = ["Choice", "Scores", "Standing", "choose"]

_TOLERANCE = 1e-9
_MARGINS = (math.nan, -0.02, -0.01, 0.0, 0.01, 0.02)  # NaN does not compare
_ALIKE = 0.001  # mean gain
_LIMITS = tuple(float(limit) for limit in np.arange(0, 100) / 100)
_USELESS = 0.7  # Dice
_AMBER_SHARE = 0.1  # of the unshifted cases agree less than the amber limit


@dataclass(frozen=True)
class Scores:
    """Dice of every candidate on every case under every shift.

    Attributes:
        cases: Names.
        shifts: Names, ``none`` among them.
        source: (cases, shifts).
        candidates: Name to (cases, shifts); without the guard's limit.
        agreements: Name to (cases, shifts): what the guard read; NaN where it read nothing. A
            candidate that is missing here has no guard.
        mirror_gains: Name to (cases, shifts): how much better mirrored predictions agree in the
            magnified views than in the whole image; NaN where nobody looked.
    """

    cases: Sequence[str]
    shifts: Sequence[str]
    source: NDArray[np.float64]
    candidates: Mapping[str, NDArray[np.float64]]
    agreements: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    mirror_gains: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """How a candidate stands, with the best limit for its guard.

    Attributes:
        name: Of the candidate.
        source_below: Agreement below which the source is kept; NaN without a guard.
        mirror_margin: How much better mirrored predictions must agree in the magnified views, or
            the source is kept; NaN if they are not compared.
        gain: Mean over cases and shifts of its Dice minus the source's.
        gain_unshifted: The same without a shift.
        harm: Share of all cases and shifts that lose more than .02.
        harm_unshifted: Share of the cases without a shift that do.
        worst: The largest loss, as a gain.
        kept: Share of all cases and shifts that keep the source.
    """

    name: str
    source_below: float
    mirror_margin: float
    gain: float
    gain_unshifted: float
    harm: float
    harm_unshifted: float
    worst: float
    kept: float

    def is_allowed(self, most_harm: float) -> bool:
        """Whether it gains, and does little harm."""
        return (
            self.gain > 0
            and self.harm <= most_harm + _TOLERANCE
            and self.harm_unshifted == 0
            and self.gain_unshifted >= -0.002
        )


@dataclass(frozen=True)
class Choice:
    """What was chosen and what it is worth.

    Attributes:
        name: The candidate; ``source`` if none is allowed and better.
        source_below: Its guard's limit; NaN without a guard.
        mirror_margin: Its guard's margin; NaN without one.
        red_below: Agreement that best tells masks below a Dice of .7 from better ones; NaN if there
            are none of either kind, or no guard.
        amber_below: Agreement that nine of ten unshifted cases reach; NaN without a guard.
        standings: Of every candidate, on all cases.
        left_out: What was chosen without each case, by the case.
        left_out_gain: Mean gain on cases that had no part in the choice.
        left_out_harm: Their harm rate.
        left_out_harmed: How many of these cases lose more than .02 under at least one shift.
    """

    name: str
    source_below: float
    mirror_margin: float
    red_below: float
    amber_below: float
    standings: tuple[Standing, ...]
    left_out: Mapping[str, str]
    left_out_gain: float
    left_out_harm: float
    left_out_harmed: int

    @property
    def harm_bound(self) -> float:
        """Share of cases harmed under some shift: upper end of its 95 % interval, one-sided.

        Exact for cases drawn at random (Clopper and Pearson, Biometrika 1934).
        """
        trials = stats.binomtest(self.left_out_harmed, len(self.left_out))
        return float(trials.proportion_ci(0.9, method="exact").high)


def choose(scores: Scores, *, most_harm: float = 0.02) -> Choice:
    """Choose the candidate and limit with the largest mean gain among those that do little harm.

    Allowed is what harms no case without a shift, whose mean change there is at least -.002, and
    what harms at most `most_harm` of all cases and shifts. Limits that give the same gain lie in
    a row; the middle one is taken, which leaves most room on both sides. Of margins whose mean
    gains differ by less than .001, the one whose worst case loses least is taken. Then the choice
    is repeated without each case in turn and measured on it.

    Args:
        scores: At least two cases.
        most_harm: Largest allowed harm rate.

    Returns:
        The choice.

    Raises:
        ValueError: If there are fewer than two cases, or no shift ``none``.
    """
    if len(scores.cases) < 2 or "none" not in scores.shifts:
        raise ValueError(
            "calibration must have at least two cases and the shift 'none', got "
            f"{len(scores.cases)} case(s) and {', '.join(scores.shifts)}. Add what is missing."
        )
    every = np.arange(len(scores.cases))
    standings = _stand_all(scores, every, most_harm)
    best = _best(standings, most_harm)
    left_out, gains = {}, []
    for index, case in enumerate(scores.cases):
        others = _best(_stand_all(scores, np.delete(every, index), most_harm), most_harm)
        left_out[case] = "source" if others is None else others.name
        unchanged = np.zeros_like(scores.source)
        gains.append((_gains(others, scores) if others else unchanged)[index])
    is_harm = _is_harm(np.stack(gains))
    return Choice(
        name="source" if best is None else best.name,
        source_below=math.nan if best is None else best.source_below,
        mirror_margin=math.nan if best is None else best.mirror_margin,
        red_below=math.nan if best is None else _red(best, scores),
        amber_below=math.nan if best is None else _amber(best, scores),
        standings=standings,
        left_out=left_out,
        left_out_gain=float(np.mean(gains)),
        left_out_harm=float(is_harm.mean()),
        left_out_harmed=int(is_harm.any(1).sum()),
    )


def _gains(standing: Standing, scores: Scores) -> NDArray[np.float64]:
    """Gains over the source; none where the guard keeps it."""
    is_kept = _is_kept(standing.name, standing.source_below, standing.mirror_margin, scores)
    return _guard(standing.name, is_kept, scores)


def _guard(name: str, is_kept: NDArray[np.bool_], scores: Scores) -> NDArray[np.float64]:
    return np.where(is_kept, 0.0, scores.candidates[name] - scores.source)


def _is_kept(name: str, limit: float, margin: float, scores: Scores) -> NDArray[np.bool_]:
    is_kept = np.zeros(scores.source.shape, dtype=bool)
    if name in scores.agreements:
        is_kept |= ~(scores.agreements[name] >= limit)  # NaN: there was nothing to look at
    if not math.isnan(margin):
        is_kept |= scores.mirror_gains[name] < margin
    return is_kept


def _is_harm(gains: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(gains < -HARM - _TOLERANCE)


def _stand_all(scores: Scores, cases: NDArray[np.intp], most_harm: float) -> tuple[Standing, ...]:
    return tuple(_stand_best(name, scores, cases, most_harm) for name in scores.candidates)


def _stand_best(name: str, scores: Scores, cases: NDArray[np.intp], most_harm: float) -> Standing:
    """Try every limit beside every margin."""
    is_mirrored = name in scores.mirror_gains and np.isfinite(scores.mirror_gains[name]).any()
    margins = _MARGINS if is_mirrored else (math.nan,)
    found = [_stand_limited(name, margin, scores, cases, most_harm) for margin in margins]
    allowed = [s for s in found if s.is_allowed(most_harm)] or found
    most = max(s.gain for s in allowed)
    return max((s for s in allowed if s.gain > most - _ALIKE), key=lambda s: s.worst)


def _stand_limited(
    name: str, margin: float, scores: Scores, cases: NDArray[np.intp], most_harm: float
) -> Standing:
    """Try every limit; take the middle of the best ones."""
    limits = _LIMITS if name in scores.agreements else (math.nan,)
    tried = [_stand(name, limit, margin, scores, cases) for limit in limits]
    allowed = [s for s in tried if s.is_allowed(most_harm)] or tried
    most = max(s.gain for s in allowed)
    alike = [s for s in allowed if s.gain >= most - _TOLERANCE]
    return alike[len(alike) // 2]


def _stand(
    name: str, limit: float, margin: float, scores: Scores, cases: NDArray[np.intp]
) -> Standing:
    is_kept = _is_kept(name, limit, margin, scores)
    gains = _guard(name, is_kept, scores)[cases]
    unshifted = gains[:, list(scores.shifts).index("none")]
    return Standing(
        name=name,
        source_below=limit,
        mirror_margin=margin,
        gain=float(gains.mean()),
        gain_unshifted=float(unshifted.mean()),
        harm=float(_is_harm(gains).mean()),
        harm_unshifted=float(_is_harm(unshifted).mean()),
        worst=float(gains.min()),
        kept=float(is_kept[cases].mean()),
    )


def _best(standings: Sequence[Standing], most_harm: float) -> Standing | None:
    allowed = [s for s in standings if s.is_allowed(most_harm)]
    return max(allowed, key=lambda s: s.gain) if allowed else None


def _red(best: Standing, scores: Scores) -> float:
    """The middle of the limits that make the fewest mistakes about useless masks."""
    if best.name not in scores.agreements:
        return math.nan
    is_read = np.isfinite(scores.agreements[best.name])
    agreement = scores.agreements[best.name][is_read]
    is_useless = scores.candidates[best.name][is_read] < _USELESS
    if is_useless.all() or not is_useless.any():
        return math.nan
    mistakes = [int(((agreement < limit) != is_useless).sum()) for limit in _LIMITS]
    alike = [limit for limit, m in zip(_LIMITS, mistakes, strict=True) if m == min(mistakes)]
    return max(alike[len(alike) // 2], best.source_below)


def _amber(best: Standing, scores: Scores) -> float:
    if best.name not in scores.agreements:
        return math.nan
    unshifted = scores.agreements[best.name][:, list(scores.shifts).index("none")]
    found = unshifted[np.isfinite(unshifted)]
    low = float(np.quantile(found, _AMBER_SHARE)) if len(found) else best.source_below
    return max(round(low, 2), best.source_below)
