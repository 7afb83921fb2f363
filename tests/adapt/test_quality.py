"""A predicted Dice falls with every sign, and its lower bound holds for cases left out."""

import numpy as np
import pytest
from scipy.special import expit, logit

from grata_monai.adapt.quality import QualityModel, doubt_source, fit_quality


def make_rows(cases, *, noise=0.02, seed=0):
    rng = np.random.default_rng(seed)
    signs, dice, names = [], [], []
    for case in range(cases):
        for _ in range(3):
            row = {"shift": float(rng.uniform(0, 2)), "entropy": float(rng.uniform(0, 1))}
            signs.append(row)
            true = 0.9 * expit(2.5 - 0.5 * row["shift"] - 3 * row["entropy"])
            dice.append(float(np.clip(true + rng.normal(0, noise), 0, 1)))
            names.append(f"case{case}")
    return signs, dice, names


def test_weights_are_found_again():
    model = fit_quality(*make_rows(30))
    assert model.best == pytest.approx(0.9, abs=0.05)
    assert model.intercept == pytest.approx(2.5, abs=0.4)
    assert model.weights["shift"] == pytest.approx(0.5, abs=0.1)
    assert model.weights["entropy"] == pytest.approx(3, abs=0.3)
    assert model.cases == 30


def test_no_sign_may_speak_for_a_mask():
    signs, dice, names = make_rows(20)
    model = fit_quality(
        [{**row, "change": value} for row, value in zip(signs, dice, strict=True)], dice, names
    )
    assert min(model.weights.values()) >= 0


def test_the_bound_holds_for_nine_of_ten_new_cases():
    missed = []
    for seed in range(8):
        model = fit_quality(*make_rows(20, seed=seed), confidence=0.9)
        signs, dice, names = make_rows(100, seed=100 + seed)
        rows = zip(signs, dice, names, strict=True)
        missed.append(len({n for row, true, n in rows if true < model.predict(row).lower}))
    # each calibration by itself varies; their mean does not
    assert 4 < np.mean(missed) < 16


def test_too_few_cases_bound_nothing():
    model = fit_quality(*make_rows(8), confidence=0.9)
    assert model.slack is None
    assert model.predict({"shift": 0.0, "entropy": 0.0}).lower == 0
    assert fit_quality(*make_rows(9), confidence=0.9).slack >= 0


def test_a_prediction_is_a_logistic_function_and_names_what_costs_most():
    model = QualityModel(0.95, float(logit(0.9)), {"shift": 1.0, "entropy": 2.0}, 0.5, 0.9, 10)
    sure = model.predict({"shift": 0.0, "entropy": 0.0})
    assert (sure.dice, sure.lower) == pytest.approx((0.855, 0.855 - 0.5 * (1.1 - 0.855)))
    found = model.predict({"shift": 1.5, "entropy": 0.1})
    assert found.dice == pytest.approx(0.95 * expit(logit(0.9) - 1.7))
    assert found.lower == pytest.approx(found.dice - 0.5 * (1.1 - found.dice))
    assert found.because == "shift"
    assert model.predict({"shift": 0.0, "entropy": 9.0}).lower == 0


@pytest.mark.parametrize(
    ("source", "kept", "overlap", "expected"),
    [
        (0.9, 1.0, 0.7, 0.7),  # the other mask is right: what they have in common
        (0.9, 0.0, 0.7, 0.9),  # it is wrong, and says nothing
        (0.5, 0.9, 1.0, 0.5),  # never better than before
        (0.8, 0.5, 0.6, 0.4 + 0.15),
    ],
)
def test_another_mask_makes_the_source_doubtful(source, kept, overlap, expected):
    assert doubt_source(source, kept, overlap) == pytest.approx(expected)
