"""Predicted quality of a mask, and what may be promised about it.

Signs that need no label (how foreign the case is, how sure the network is, whether the mask can be
the organ, how well magnified views agree) are turned into a predicted Dice. How far the prediction
may be too high is bounded by cases that had no part in it: conformal prediction (Vovk 2005; Lei et
al., JASA 2018). The bound holds for cases exchangeable with those of the calibration; a foreign
hospital is not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

__all__ = ["SIGNS", "QualityModel", "QualityPrediction", "fit_quality"]

SIGNS: Mapping[str, str] = {
    "shift": "the case is foreign to the network",
    "entropy": "the network is unsure inside the mask",
    "organ": "the mask is unlike the organ in source cases",
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
    """Dice = intercept − Σ weight · sign, cut to [0, 1].

    Attributes:
        intercept: Dice without any sign.
        weights: Sign to weight, at least 0.
        slack: What is taken off the prediction for the lower bound; infinite if there are too few
            cases for the confidence.
        confidence: Of the lower bound, for a whole case under all shifts of the calibration.
        cases: Number of source cases.
    """

    intercept: float
    weights: Mapping[str, float]
    slack: float
    confidence: float
    cases: int

    def predict(self, signs: Mapping[str, float]) -> QualityPrediction:
        """Predict the Dice of a mask from its signs."""
        costs = {name: weight * signs[name] for name, weight in self.weights.items()}
        dice = min(max(self.intercept - sum(costs.values()), 0.0), 1.0)
        return QualityPrediction(
            dice, max(dice - self.slack, 0.0), max(costs, key=lambda name: costs[name])
        )


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
    names = list(signs[0])
    table = np.array([[row[name] for name in names] for row in signs])
    values, groups = np.asarray(dice, dtype=float), np.asarray(cases)
    known = sorted(set(groups))
    excess = []
    for case in known:
        is_out = groups == case
        others = _fit(table[~is_out], values[~is_out])
        excess.append(float((_predict(others, table[is_out]) - values[is_out]).max()))
    rank = math.ceil((len(known) + 1) * confidence)
    slack = sorted(excess)[rank - 1] if rank <= len(known) else math.inf
    found = [float(f"{value:.4g}") for value in _fit(table, values)]
    return QualityModel(
        intercept=found[0],
        weights=dict(zip(names, found[1:], strict=True)),
        slack=max(round(slack, 4), 0.0) if math.isfinite(slack) else slack,
        confidence=confidence,
        cases=len(known),
    )


def _fit(table: NDArray[np.float64], dice: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares with an intercept in [0, 1] and weights of at least 0."""
    design = np.column_stack([np.ones(len(table)), -table])
    bounds = np.zeros(design.shape[1]), np.r_[1.0, np.full(table.shape[1], np.inf)]
    return np.asarray(lsq_linear(design, dice, bounds).x)


def _predict(found: NDArray[np.float64], table: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.clip(found[0] - table @ found[1:], 0, 1))
