import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from grata_monai.experiments.compare.statistics import adjust_holm, summarise
from grata_monai.experiments.harness.run import Row

SOURCE = [0.80, 0.70, 0.60, 0.90, 0.50, 0.75]
BETTER = [0.85, 0.72, 0.57, 0.91, 0.60, 0.80]  # gains .05 .02 -.03 .01 .10 .05


@pytest.fixture
def summaries(make_rows):
    rows = [*make_rows("source", SOURCE), *make_rows("better", BETTER, seconds=6.0)]
    return {(s.centre, s.method): s for s in summarise(rows)}


def test_means_gains_and_harm_are_those_of_the_cases(summaries):
    found = summaries["all", "better"]
    assert found.cases == 6
    assert found.dice == pytest.approx(4.45 / 6)
    assert found.gain == pytest.approx(0.2 / 6)
    assert found.harm_rate == pytest.approx(1 / 6)
    assert found.worst == pytest.approx(-0.03)
    assert found.hd95 == pytest.approx(10 * (1 - 4.45 / 6))
    assert (found.time_ratio, found.memory_ratio) == (3.0, 3.0)


def test_a_loss_of_exactly_the_threshold_is_no_harm(make_rows):
    rows = [*make_rows("source", [0.5, 0.75]), *make_rows("worse", [0.48, 0.7])]
    (_, worse) = (s for s in summarise(rows) if s.centre == "all")
    assert worse.harm_rate == 0.5


def test_the_p_value_is_that_of_scipy_and_alone_it_is_not_corrected(summaries):
    gains = np.array(BETTER) - np.array(SOURCE)
    expected = stats.wilcoxon(gains, zero_method="zsplit").pvalue
    assert summaries["all", "better"].p_value == pytest.approx(expected)
    assert math.isnan(summaries["all", "source"].p_value)


def test_the_interval_holds_the_mean_and_repeats_for_a_seed(make_rows, summaries):
    found = summaries["all", "better"]
    assert found.gain_low < found.gain < found.gain_high
    rows = [*make_rows("source", SOURCE), *make_rows("better", BETTER, seconds=6.0)]
    again = {(s.centre, s.method): s for s in summarise(rows)}["all", "better"]
    assert (again.gain_low, again.gain_high) == (found.gain_low, found.gain_high)


def test_centres_have_tables_of_their_own(summaries):
    assert summaries["north", "better"].gain == pytest.approx((0.05 - 0.03 + 0.10) / 3)
    assert summaries["south", "better"].cases == 3


def test_one_centre_is_not_shown_twice(make_rows):
    rows = make_rows("source", SOURCE, centres=("north",))
    assert [s.centre for s in summarise(rows)] == ["all"]


def test_holm_multiplies_by_what_is_left_and_never_falls():
    # Holm 1979: sorted p times 3, 2, 1, and not below the one before
    assert adjust_holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert adjust_holm([0.5, 0.9]) == [1.0, 1.0]
    corrected = adjust_holm([math.nan, 0.02])
    assert math.isnan(corrected[0])
    assert corrected[1] == 0.02


def test_refused_cases_are_counted_and_not_averaged(make_rows):
    rows = [*make_rows("source", SOURCE), *make_rows("half", BETTER[:2])]
    rows += [Row("half", f"case{i}", "north", refusal="no head") for i in range(2, 6)]
    found = {(s.centre, s.method): s for s in summarise(rows)}["all", "half"]
    assert (found.cases, found.refused) == (2, 4)
    assert found.gain == pytest.approx(0.035)


SAME = {"change": 0.0, "relabelled": 0.0}


@pytest.mark.parametrize(
    ("notes", "why"),
    [
        ([{"reason": "why"}] * 4, "the source's masks: why"),
        ([{"reason": "why"}] * 2 + [{"reason": "how"}] * 2, ": why, and 1 more reasons"),
        (
            [{"reason": "why", **SAME}, {"change": 2e-4, "relabelled": 3.0}, SAME, SAME],
            "no probability moves by more than 0.0002, at most 3 voxels of a case change their",
        ),
        ([{}] * 4, "not known: rows of an earlier version"),
    ],
)
def test_a_gain_that_shows_as_0_has_a_reason(make_rows, notes, why):
    source = make_rows("source", SOURCE[:4])
    still = [
        replace(row, method="still", dice=row.dice + 4e-4, **note)
        for row, note in zip(source, notes, strict=True)
    ]
    found = {s.method: s.unchanged for s in summarise([*source, *still]) if s.centre == "all"}
    assert found["source"] == "the reference"
    assert why in found["still"]
    moved = [replace(row, dice=row.dice + 1e-4 * i) for i, row in enumerate(still)]
    found = {s.method: s.unchanged for s in summarise([*source, *moved]) if s.centre == "all"}
    assert found["still"] == ""


def test_without_the_source_there_is_nothing_to_compare_with(make_rows):
    with pytest.raises(ValueError, match="must hold the method 'source'"):
        summarise(make_rows("better", BETTER))


def test_another_method_can_be_the_reference(make_rows):
    rows = [*make_rows("source", SOURCE), *make_rows("better", BETTER, seconds=6.0)]
    found = {s.method: s for s in summarise(rows, reference="better") if s.centre == "all"}
    assert found["source"].gain == pytest.approx(-0.2 / 6)
    assert found["source"].harm_rate == pytest.approx(3 / 6)  # loses .05, .10 and .05
    assert found["source"].time_ratio == pytest.approx(1 / 3)
    assert found["better"].gain == 0
    assert {s.reference for s in found.values()} == {"better"}


def test_centres_can_be_pooled(make_rows):
    centres = ("north", "south", "home")
    rows = [*make_rows("source", SOURCE, centres=centres), *make_rows("m", BETTER, centres=centres)]
    found = summarise(rows, groups={"foreign": ["north", "south"]})
    assert list(dict.fromkeys(s.centre for s in found)) == ["all", "foreign", *centres]
    pooled = next(s for s in found if (s.centre, s.method) == ("foreign", "m"))
    assert (pooled.cases, pooled.gain) == (4, pytest.approx((0.05 + 0.02 + 0.01 + 0.10) / 4))
