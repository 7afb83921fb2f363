"""A predicted Dice falls with every sign, and its lower bound holds for cases left out."""

import math

import numpy as np
import pytest

from grata_monai.adapt.quality import QualityModel, fit_quality


def make_rows(cases, *, noise=0.02, seed=0):
    rng = np.random.default_rng(seed)
    signs, dice, names = [], [], []
    for case in range(cases):
        for _ in range(3):
            row = {"shift": float(rng.uniform(0, 2)), "entropy": float(rng.uniform(0, 1))}
            signs.append(row)
            dice.append(
                float(
                    np.clip(
                        0.9 - 0.1 * row["shift"] - 0.4 * row["entropy"] + rng.normal(0, noise), 0, 1
                    )
                )
            )
            names.append(f"case{case}")
    return signs, dice, names


def test_weights_are_found_again():
    model = fit_quality(*make_rows(30))
    assert model.intercept == pytest.approx(0.9, abs=0.02)
    assert model.weights["shift"] == pytest.approx(0.1, abs=0.01)
    assert model.weights["entropy"] == pytest.approx(0.4, abs=0.02)
    assert model.cases == 30


def test_no_sign_may_speak_for_a_mask():
    signs, dice, names = make_rows(20)
    model = fit_quality(
        [{**row, "change": value} for row, value in zip(signs, dice, strict=True)], dice, names
    )
    assert min(model.weights.values()) >= 0


def test_the_bound_holds_for_most_new_cases():
    model = fit_quality(*make_rows(40), confidence=0.9)
    signs, dice, names = make_rows(200, seed=1)
    missed = {
        name
        for row, true, name in zip(signs, dice, names, strict=True)
        if true < model.predict(row).lower
    }
    assert len(missed) / 200 < 0.16
    assert 0 < model.slack < 0.1


def test_too_few_cases_bound_nothing():
    model = fit_quality(*make_rows(8), confidence=0.9)
    assert model.slack == math.inf
    assert model.predict({"shift": 0.0, "entropy": 0.0}).lower == 0
    assert math.isfinite(fit_quality(*make_rows(9), confidence=0.9).slack)


def test_a_prediction_stays_a_dice_and_names_what_costs_most():
    model = QualityModel(0.9, {"shift": 0.1, "entropy": 1.0}, 0.05, 0.9, 10)
    found = model.predict({"shift": 1.0, "entropy": 0.05})
    assert (found.dice, found.lower) == pytest.approx((0.75, 0.70))
    assert found.because == "shift"
    assert model.predict({"shift": 0.0, "entropy": 5.0}).dice == 0
