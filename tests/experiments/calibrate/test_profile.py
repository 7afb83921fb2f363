"""What a profile predicts is fitted on rows, and bounded on cases that were left out."""

from dataclasses import replace

import numpy as np
import pytest

from grata_monai.adapt.profile import SourceProfile
from grata_monai.core.errors import ProfileError
from grata_monai.experiments.calibrate.fit import fit_profile
from grata_monai.experiments.calibrate.profile import Observation, make_profile, observe
from grata_monai.experiments.calibrate.report import describe_fit
from grata_monai.experiments.harness.run import Row

PROFILE = SourceProfile("0" * 64, 12, {}, (1.0,), home_below=1.5)


def make_rows(cases, *, harmed=()):
    """Views gain where entropy is high; in harmed cases they lose much, and no sign tells."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(cases):
        for shift, low, high in (("none", 0.05, 0.15), ("hot_spot", 0.4, 0.8)):
            entropy = float(rng.uniform(low, high))
            signs = {"shift": 0.0, "entropy": entropy}
            plain = 0.95 - 0.5 * entropy
            gain = 0.3 * entropy - 0.05 - (0.5 if number in harmed and shift != "none" else 0.0)
            given = {"case": f"case{number}", "centre": "here"}
            rows.append((shift, Row("source", **given, dice=plain, signs={"source": signs})))
            kept = {**signs, "disagreement": 0.1, "change": 0.1}
            rows.append((shift, Row("views", **given, dice=plain + gain, signs={"kept": kept})))
    return rows


def test_gains_are_taken_where_they_are_predicted():
    fit = fit_profile(PROFILE, make_rows(12), "views")
    assert fit.harmed == 0
    assert fit.risk == pytest.approx(1 / 13)
    assert fit.oracle >= fit.gain > 0.7 * fit.oracle
    assert 0.3 <= fit.kept["source"] <= 0.7
    assert fit.kept["source"] + fit.kept["kept"] == pytest.approx(1)
    assert fit.by_shift["hot_spot"][0] > 10 * abs(fit.by_shift["none"][0])
    assert set(fit.profile.models) == {"plain", "kept"}
    assert 0.8 < fit.profile.home_quality < 0.95
    near = [row for _, row in make_rows(12) if row.method == "source" and row.dice > 0.87]
    assert fit.profile.home_lower == pytest.approx(min(row.dice for row in near), abs=0.02)
    assert "holds" in describe_fit(fit)
    assert "NOT" not in describe_fit(fit)


def test_where_nothing_tells_harm_the_bound_is_said_not_to_hold():
    fit = fit_profile(PROFILE, make_rows(12, harmed=range(0, 12, 2)), "views")
    assert not fit.holds or fit.kept["source"] == 1
    assert fit.gain >= -0.1


def test_what_a_shift_costs_that_nobody_had_seen():
    fit = fit_profile(PROFILE, make_rows(12), "views")
    assert list(fit.by_unseen) == ["hot_spot"]
    gain, harmed = fit.by_unseen["hot_spot"]
    assert harmed == 0
    assert gain <= fit.by_shift["hot_spot"][1] + 1e-9
    blind = fit_profile(PROFILE, make_trap(12), "views")
    assert blind.harmed == 0  # known, the shift is told by its entropy
    gain, harmed = blind.by_unseen["contrast"]
    assert harmed >= 10  # unseen, it looks like the one that gains
    assert gain < 0
    table = describe_fit(blind)
    assert f"| {gain:+.4f} | {harmed} |" in table
    assert "| none | " in table
    assert table.split("| none | ")[1].splitlines()[0].endswith("| – | – |")


def make_trap(cases):
    """A third shift with yet more entropy, under which the views lose what they gained before."""
    rows = make_rows(cases)
    trap = []
    for shift, row in rows:
        if shift == "hot_spot":
            signs = {n: {**s, "entropy": s["entropy"] + 0.4} for n, s in row.signs.items()}
            worse = 0.3 if row.method == "views" else 0.0
            trap.append(("contrast", replace(row, dice=row.dice - worse, signs=signs)))
    return [*rows, *trap]


def test_without_another_shift_nothing_is_said_of_unseen_ones():
    rows = [(shift, row) for shift, row in make_rows(12) if shift == "hot_spot"]
    assert fit_profile(PROFILE, rows, "views").by_unseen == {}


def test_mirrored_predictions_stand_in_where_views_are_not_kept():
    rows = make_rows(12)
    flips = [
        replace(
            row,
            method="flip",
            dice=row.dice + 0.01,
            signs={"kept": {**row.signs["source"], "change": 0.05}},
        )
        for _, row in rows
        if row.method == "source"
    ]
    shifts = [shift for shift, row in rows if row.method == "source"]
    both = [*rows, *zip(shifts, flips, strict=True)]
    fit = fit_profile(PROFILE, both, "views", mirrored="flip")
    assert set(fit.profile.models) == {"plain", "kept", "mirrored"}
    assert fit.profile.mirrored_from == pytest.approx(0.95, abs=1e-3)
    assert fit.kept["source"] == 0
    assert fit.gain > fit_profile(PROFILE, rows, "views").gain + 0.003
    assert "a Dice of at least 0.950 with the source" in describe_fit(fit)


def test_too_few_cases_promise_nothing():
    fit = fit_profile(PROFILE, make_rows(5), "views")
    assert fit.risk > fit.allowed
    assert "does NOT hold" in describe_fit(fit)
    assert fit.profile.models["plain"].predict({"shift": 0.0, "entropy": 0.0}).lower == 0


def observe_randomly(seed, organ):
    rng = np.random.default_rng(seed)
    features = {"volume": 3.0 + rng.normal(), "share": 1.0} if organ else None
    outline = rng.random(8) if organ else None
    statistics = {"layer": rng.normal(size=8)}
    image = {"intensities": rng.random(11)}
    return Observation(f"case{seed}", statistics, image, features, outline)


def test_a_profile_needs_no_labels_and_holds_no_names():
    made = make_profile([observe_randomly(seed, False) for seed in range(5)], "0" * 64)
    assert made.organ is None
    assert made.shape is None
    assert "case" not in made.to_json().replace('"cases"', "")
    assert len(made.distances) == made.cases == 5
    labelled = make_profile([observe_randomly(seed, True) for seed in range(5)], "0" * 64)
    assert set(labelled.organ.mean) == {"volume", "share"}
    assert len(labelled.shape.mean) == 8
    assert SourceProfile.from_json(labelled.to_json()) == labelled


def test_a_case_is_observed_in_one_pass(bench, cases):
    found = observe(cases[0], bench)
    assert found.organ["pieces"] == 0
    assert 0 < found.outline.mean() < 1
    assert all(np.isfinite(values).all() for values in found.statistics.values())
    assert list(found.image) == ["intensities", "field of view"]


def test_an_empty_label_is_refused(bench, cases, monkeypatch):
    monkeypatch.setattr("grata_monai.experiments.calibrate.profile.describe_organ", lambda *_: None)
    with pytest.raises(ProfileError, match="'case3' is empty"):
        observe(cases[0], bench)


def test_a_row_tells_shift_and_prediction(bench, cases):
    first = observe(cases[0], bench)
    others = [
        replace(
            first,
            case=f"x{i}",
            statistics={name: values + 0.01 * i for name, values in first.statistics.items()},
        )
        for i in range(4)
    ]
    profile = make_profile(others, "1" * 64)
    assert bench.prepare(cases[0], profile=profile).episode.profile is profile
