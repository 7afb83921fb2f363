"""The choice, on tables of Dice that are small enough to follow by hand."""

import numpy as np
import pytest

from grata_monai.experiments.calibrate.choose import Scores, choose


def table(source, **candidates) -> Scores:
    """Rows are cases, columns the shifts `none` and `blur`."""
    names = [f"case{i}" for i in range(len(source))]
    arrays = {name.replace("_", "-"): np.array(rows, float) for name, rows in candidates.items()}
    return Scores(names, ["none", "blur"], np.array(source, float), arrays)


def test_the_largest_mean_gain_wins():
    scores = table(
        [[0.8, 0.6], [0.8, 0.6]],
        small=[[0.8, 0.65], [0.8, 0.65]],
        large=[[0.81, 0.7], [0.8, 0.7]],
    )
    choice = choose(scores)
    assert choice.name == "large"
    (small, large) = choice.standings
    assert small.gain == pytest.approx(0.025)
    assert large.gain == pytest.approx((0.01 + 0.1 + 0 + 0.1) / 4)
    assert large.gain_unshifted == pytest.approx(0.005)
    assert large.worst == pytest.approx(0)


@pytest.mark.parametrize(
    "greedy",
    [
        [[0.77, 0.9], [0.80, 0.9]],  # harms a case without a shift
        [[0.795, 0.9], [0.80, 0.9]],  # loses .0025 on average without a shift
        [[0.80, 0.5], [0.80, 0.9]],  # harms a quarter of all
    ],
)
def test_who_does_harm_is_not_chosen(greedy):
    source = [[0.8, 0.6], [0.8, 0.6]]
    modest = [[0.8, 0.61], [0.8, 0.61]]
    assert choose(table(source, greedy=greedy, modest=modest)).name == "modest"
    assert choose(table(source, greedy=greedy)).name == "source"


def test_the_allowed_harm_is_an_option():
    scores = table([[0.8, 0.6], [0.8, 0.6]], bold=[[0.8, 0.5], [0.8, 0.9]])
    assert choose(scores, most_harm=0.24).name == "source"
    assert choose(scores, most_harm=0.25).name == "bold"
    (standing,) = choose(scores).standings
    assert standing.harm == pytest.approx(0.25)
    assert standing.harm_unshifted == 0


def test_the_gain_on_cases_left_out_is_that_of_what_the_others_chose():
    source = [[0.5, 0.5]] * 3
    scores = table(
        source,
        one=[[0.5, 0.9], [0.5, 0.5], [0.5, 0.5]],  # all of its gain comes from the first case
        other=[[0.5, 0.5], [0.5, 0.6], [0.5, 0.6]],
    )
    choice = choose(scores)
    assert choice.name == "one"
    assert choice.left_out == {"case0": "other", "case1": "one", "case2": "one"}
    assert choice.left_out_gain == pytest.approx(0.0)
    assert choice.left_out_harm == 0
    assert choice.left_out_harmed == 0
    assert choice.harm_bound == pytest.approx(1 - 0.05 ** (1 / 3))  # (1 - p)^3 = 0.05


def test_a_case_is_harmed_if_one_shift_harms_it():
    source = [[0.5, 0.5]] * 3
    scores = table(source, one=[[0.5, 0.9], [0.5, 0.9], [0.4, 0.4]])
    choice = choose(scores, most_harm=1.0)
    assert choice.left_out == {"case0": "source", "case1": "source", "case2": "one"}
    assert choice.left_out_harm == pytest.approx(2 / 6)
    assert choice.left_out_harmed == 1


@pytest.mark.parametrize("scores", [table([[0.5, 0.5]], one=[[0.6, 0.6]])])
def test_one_case_is_too_few(scores):
    with pytest.raises(ValueError, match="at least two cases"):
        choose(scores)


def test_the_unshifted_image_must_be_there():
    scores = Scores(["a", "b"], ["blur"], np.ones((2, 1)), {})
    with pytest.raises(ValueError, match="the shift 'none'"):
        choose(scores)


def guarded(source, dice, agreement, mirror_gain=None) -> Scores:
    names = [f"case{i}" for i in range(len(source))]
    arrays = [np.array(rows, float) for rows in (source, dice, agreement)]
    gains = {} if mirror_gain is None else {"g": np.array(mirror_gain, float)}
    return Scores(names, ["none", "blur"], arrays[0], {"g": arrays[1]}, {"g": arrays[2]}, gains)


def test_the_limit_is_the_middle_of_those_that_keep_out_what_does_harm():
    scores = guarded(
        [[0.8, 0.6], [0.8, 0.6], [0.8, 0.6]],
        [[0.8, 0.7], [0.8, 0.1], [0.8, 0.7]],
        [[0.95, 0.90], [0.95, 0.70], [0.96, 0.90]],
    )
    choice = choose(scores)
    # limits from .71 to .90 keep the source where .5 was lost, and nowhere else
    assert choice.source_below == pytest.approx(0.81)
    (standing,) = choice.standings
    assert standing.gain == pytest.approx(0.2 / 6)
    assert standing.kept == pytest.approx(1 / 6)
    assert standing.harm == 0
    # one mask is useless, at .70, and the next agrees to .90
    assert choice.red_below == pytest.approx(0.81)
    # the tenth part of .95, .95, .96
    assert choice.amber_below == pytest.approx(0.95)


def test_a_case_in_which_nothing_was_found_keeps_the_source():
    scores = guarded(
        [[0.8, 0.0], [0.8, 0.6]], [[0.8, 0.0], [0.8, 0.9]], [[0.9, np.nan], [0.9, 0.9]]
    )
    (standing,) = choose(scores).standings
    assert standing.kept == pytest.approx(1 / 4)
    assert standing.gain == pytest.approx(0.3 / 4)


def test_without_a_guard_there_is_no_limit():
    choice = choose(table([[0.5, 0.5]] * 2, one=[[0.6, 0.6]] * 2))
    assert np.isnan(choice.source_below)
    assert np.isnan(choice.amber_below)


def test_where_all_gain_comes_from_one_case_the_others_choose_the_source():
    choice = choose(table([[0.5, 0.5]] * 2, one=[[0.5, 0.7], [0.5, 0.5]]))
    assert choice.left_out == {"case0": "source", "case1": "one"}
    assert choice.left_out_gain == 0


def test_the_margin_keeps_out_what_agreement_cannot():
    scores = guarded(
        [[0.8, 0.6]] * 3,
        [[0.8, 0.7], [0.7, 0.7], [0.8, 0.7]],
        [[0.9, 0.9]] * 3,
        [[0.00, 0.1], [-0.015, 0.1], [0.00, 0.1]],
    )
    choice = choose(scores)
    # margins from -.01 to .02 gain the same; the first of them is taken
    assert choice.mirror_margin == pytest.approx(-0.01)
    (standing,) = choice.standings
    assert standing.gain == pytest.approx(0.3 / 6)
    assert (standing.harm, standing.worst) == (0, 0)
    assert standing.kept == pytest.approx(1 / 6)
    assert choice.left_out_harm == pytest.approx(1 / 6)  # without it, nothing asks for a margin


def test_without_need_there_is_no_margin():
    scores = guarded([[0.8, 0.6]] * 2, [[0.8, 0.7]] * 2, [[0.9, 0.9]] * 2, [[0.1, 0.1]] * 2)
    assert np.isnan(choose(scores).mirror_margin)


def test_of_margins_that_gain_alike_the_one_with_the_best_worst_case_is_taken():
    source = [[0.8, 0.6]] * 2
    dice = [[0.79, 0.6106], [0.8, 0.9]]  # .0006 more than it loses
    scores = guarded(source, dice, [[0.9, 0.9]] * 2, [[-0.03, -0.03], [0.1, 0.1]])
    (standing,) = choose(scores).standings
    assert standing.mirror_margin == pytest.approx(-0.02)
    assert standing.worst == 0
