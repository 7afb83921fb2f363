"""Predicted quality of a mask, and what may be promised about it.

Signs that need no label (how foreign the case is, how sure the network is, whether the mask can be
the organ, how well magnified views agree) are turned into a predicted Dice. How far the prediction
may be too high is bounded by cases that had no part in it: normalised conformal prediction
(Papadopoulos et al., ECML 2002; Lei et al., JASA 2018). The bound holds for cases exchangeable with
those of the calibration; a foreign hospital is not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import expit

__all__ = [
    "SIGNS",
    "QualityModel",
    "QualityPrediction",
    "doubt_source",
    "fit_quality",
    "predict_left_out",
]

_ROOM = 1.1  # no prediction is so high that it could not be too high
_STEEPEST = 5.0  # logit of .993

SIGNS: Mapping[str, str] = {
    "shift": "the case is foreign to the network",
    "entropy": "the network is unsure inside the mask",
    "organ": "the mask is unlike the organ in source cases",
    "shape": "the mask has another form than the organ in source cases",
    "disagreement": "magnified views disagree",
    "change": "the mask differs much from the source's",
}
"""Sign to what a large value says; all are at least 0, and speak against the mask."""


@dataclass(frozen=True)
class QualityPrediction:
    """What is predicted of one mask.

    Attributes:
        dice: In [0, 1].
        lower: The Dice is at least that, as often as the model promises.
        because: The sign that takes most from the prediction.
    """

    dice: float
    lower: float
    because: str


@dataclass(frozen=True)
class QualityModel:
    """Dice = best · logistic function of intercept − Σ weight · sign.

    Attributes:
        best: Dice that no mask is predicted to exceed.
        intercept: Of the logistic function.
        weights: Sign to weight, at least 0.
        slack: So many times the room that a prediction leaves to a Dice of 1.1 are taken off for
            the lower bound: a middling prediction errs by more than a high one. None if there are
            too few cases for the confidence: then the lower bound is 0.
        confidence: Of the lower bound, for a whole case under all shifts of the calibration.
        cases: Number of source cases.
    """

    best: float
    intercept: float
    weights: Mapping[str, float]
    slack: float | None
    confidence: float
    cases: int

    @property
    def compares_views(self) -> bool:
        """Whether it was fitted to predictions of magnified views."""
        return "disagreement" in self.weights

    def predict(self, signs: Mapping[str, float]) -> QualityPrediction:
        """Predict the Dice of a mask from its signs."""
        costs = {name: weight * signs[name] for name, weight in self.weights.items()}
        dice = self.best * float(expit(self.intercept - sum(costs.values())))
        lower = 0.0 if self.slack is None else max(dice - self.slack * (_ROOM - dice), 0.0)
        return QualityPrediction(dice, lower, max(costs, key=lambda name: costs[name]))


def doubt_source(source: float, kept: float, overlap: float) -> float:
    """Predict the source mask's Dice once another mask has been made.

    As likely as the other mask is right, the source's Dice is what the two masks have in common;
    else it is as predicted before. So two masks that differ make a high prediction of both
    impossible.

    Args:
        source: Predicted Dice of the source's mask by its own signs.
        kept: Predicted Dice of the other mask; also taken for the chance that it is right.
        overlap: Dice of the two masks.

    Returns:
        At most `source`.
    """
    return (1 - kept) * source + kept * min(source, kept * overlap)


def fit_quality(
    signs: Sequence[Mapping[str, float]],
    dice: Sequence[float],
    cases: Sequence[str],
    *,
    confidence: float = 0.9,
) -> QualityModel:
    """Fit a model, and bound it by leaving every case out in turn.

    Args:
        signs: Per row, the same names.
        dice: Per row.
        cases: Per row the case's name: rows of one case under several shifts are left out together,
            and count by the worst.
        confidence: Of the bound.

    Returns:
        The model of all rows.
    """
    names, table = _tabulate(signs)
    values, groups = np.asarray(dice, dtype=float), np.asarray(cases)
    known = sorted(set(groups))
    found = predict_left_out(signs, dice, cases)
    excess = [float(((found - values) / (_ROOM - found))[groups == case].max()) for case in known]
    rank = math.ceil((len(known) + 1) * confidence)
    slack = max(round(sorted(excess)[rank - 1], 4), 0.0) if rank <= len(known) else None
    best, intercept, *weights = (round(float(value), 4) for value in _fit(table, values))
    return QualityModel(
        best=best,
        intercept=intercept,
        weights=dict(zip(names, weights, strict=True)),
        slack=slack,
        confidence=confidence,
        cases=len(known),
    )


def predict_left_out(
    signs: Sequence[Mapping[str, float]],
    dice: Sequence[float],
    cases: Sequence[str],
    *,
    teaches: Sequence[bool] | None = None,
) -> NDArray[np.float64]:
    """Predict the Dice of every row by a model of the other cases.

    Args:
        signs: Per row, the same names.
        dice: Per row.
        cases: Per row the case's name.
        teaches: Per row whether a model may be fitted to it; all if None.

    Returns:
        Per row.
    """
    _, table = _tabulate(signs)
    values, groups = np.asarray(dice, dtype=float), np.asarray(cases)
    may_teach = np.full(len(values), True) if teaches is None else np.asarray(teaches)
    found = np.empty(len(values))
    for case in sorted(set(groups)):
        is_out = groups == case
        known = may_teach & ~is_out
        found[is_out] = _predict(_fit(table[known], values[known]), table[is_out])
    return found


def _tabulate(signs: Sequence[Mapping[str, float]]) -> tuple[list[str], NDArray[np.float64]]:
    names = list(signs[0])
    return names, np.array([[row[name] for name in names] for row in signs])


def _fit(table: NDArray[np.float64], dice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of the Dice, with weights of at least 0."""
    columns = table.shape[1]

    def miss(found: NDArray[np.float64]) -> NDArray[np.float64]:
        return _predict(found, table) - dice

    least = np.r_[0.0, -_STEEPEST, np.zeros(columns)]
    most = np.r_[1.0, _STEEPEST, np.full(columns, np.inf)]
    start = np.r_[0.9, 2.0, np.ones(columns)]
    return np.asarray(least_squares(miss, start, bounds=(least, most)).x)


def _predict(found: NDArray[np.float64], table: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(found[0] * expit(found[1] - table @ found[2:]))
