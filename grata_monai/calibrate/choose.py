"""Choose among candidates, and say honestly what the choice is worth: by leaving cases out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grata_monai.compare.statistics import HARM

__all__ = ["Choice", "Scores", "Standing", "choose"]

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Scores:
    """Dice of every candidate on every case under every shift.

    Attributes:
        cases: Names.
        shifts: Names, ``none`` among them.
        source: (cases, shifts).
        candidates: Name to (cases, shifts).
    """

    cases: Sequence[str]
    shifts: Sequence[str]
    source: NDArray[np.float64]
    candidates: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Standing:
    """How a candidate stands.

    Attributes:
        name: Of the candidate.
        gain: Mean over cases and shifts of its Dice minus the source's.
        gain_unshifted: The same without a shift.
        harm: Share of all cases and shifts that lose more than .02.
        harm_unshifted: Share of the cases without a shift that do.
        worst: The largest loss, as a gain.
    """

    name: str
    gain: float
    gain_unshifted: float
    harm: float
    harm_unshifted: float
    worst: float


@dataclass(frozen=True)
class Choice:
    """What was chosen and what it is worth.

    Attributes:
        name: The candidate; ``source`` if none is allowed and better.
        standings: Of every candidate, on all cases.
        left_out: What was chosen without each case, by the case.
        left_out_gain: Mean gain on cases that had no part in the choice.
        left_out_harm: Their harm rate.
    """

    name: str
    standings: tuple[Standing, ...]
    left_out: Mapping[str, str]
    left_out_gain: float
    left_out_harm: float


def choose(scores: Scores, *, most_harm: float = 0.05) -> Choice:
    """Choose the candidate with the largest mean gain among those that do little harm.

    Allowed is a candidate that harms no case without a shift, whose mean change there is at least
    -.002, and that harms at most `most_harm` of all cases and shifts. Then the choice is repeated
    without each case in turn and measured on it.

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
    standings = tuple(_stand(name, scores, every) for name in scores.candidates)
    left_out, gains = {}, []
    for index, case in enumerate(scores.cases):
        others = [_stand(name, scores, np.delete(every, index)) for name in scores.candidates]
        left_out[case] = _best(others, most_harm)
        gains.append(_gains(left_out[case], scores)[index])
    found = np.stack(gains)
    return Choice(
        name=_best(standings, most_harm),
        standings=standings,
        left_out=left_out,
        left_out_gain=float(found.mean()),
        left_out_harm=float(_is_harm(found).mean()),
    )


def _gains(name: str, scores: Scores) -> NDArray[np.float64]:
    if name == "source":
        return np.zeros_like(scores.source)
    return scores.candidates[name] - scores.source


def _is_harm(gains: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(gains < -HARM - _TOLERANCE)


def _stand(name: str, scores: Scores, cases: NDArray[np.intp]) -> Standing:
    gains = _gains(name, scores)[cases]
    unshifted = gains[:, list(scores.shifts).index("none")]
    return Standing(
        name=name,
        gain=float(gains.mean()),
        gain_unshifted=float(unshifted.mean()),
        harm=float(_is_harm(gains).mean()),
        harm_unshifted=float(_is_harm(unshifted).mean()),
        worst=float(gains.min()),
    )


def _best(standings: Sequence[Standing], most_harm: float) -> str:
    allowed = [
        s
        for s in standings
        if s.gain > 0
        and s.harm <= most_harm + _TOLERANCE
        and s.harm_unshifted == 0
        and s.gain_unshifted >= -0.002
    ]
    return max(allowed, key=lambda s: s.gain).name if allowed else "source"
