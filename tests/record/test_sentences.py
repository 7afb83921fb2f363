"""One plain sentence says what was done, as full as there is room for."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import ADAPTED, KEPT, STEP

from grata_monai.adapt.scores import Quality
from grata_monai.record.sentences import (
    COLUMNS,
    describe_record,
    describe_trust,
    summarise_record,
    tabulate_record,
)
from grata_monai.record.types import (
    Focus,
    OutcomeName,
    PredictedQuality,
    ShiftEntry,
    Statistics,
    StepEntry,
    Verdict,
)


def test_an_adapted_case_says_how_far_it_went():
    assert describe_record(ADAPTED) == (
        "Adapted to this case in 5 steps; the result agrees with the source prediction to a Dice "
        "of 0.971, its volume is 1.030 times."
    )
    assert describe_record(ADAPTED, max_length=64) == "Adapted in 5 steps, Dice with source 0.971."
    assert describe_record(ADAPTED, max_length=24) == "Adapted in 5 steps."


def test_only_steps_that_were_taken_count():
    steps = (replace(STEP, is_taken=False), STEP)
    sentence = describe_record(replace(ADAPTED, steps=steps), max_length=30)
    assert sentence == "Adapted in 1 step."


def test_a_case_on_its_own_statistics_took_no_step():
    record = replace(ADAPTED, steps=(), statistics=Statistics(1.0, ("norm",)))
    assert describe_record(record).startswith(
        "Normalised with the image's own statistics; the result agrees with the source"
    )
    assert describe_record(record, max_length=50) == "Own statistics, Dice with source 0.971."
    assert describe_record(record, max_length=20) == "Own statistics."
    assert describe_record(replace(record, steps=(STEP,)), max_length=30) == "Adapted in 1 step."


def test_an_empty_source_prediction_leaves_out_the_ratio():
    change = replace(ADAPTED.change, volume_ratio=None)
    assert describe_record(replace(ADAPTED, change=change)).endswith("to a Dice of 0.971.")


def test_a_kept_source_prediction_says_why():
    assert describe_record(KEPT) == (
        "Source prediction kept, because adapted prediction must be finite."
    )
    assert describe_record(KEPT, max_length=64) == (
        "Source prediction kept: adapted prediction must be finite."
    )
    long = replace(KEPT, reason="long " * 20)
    assert describe_record(long, max_length=64) == "Source prediction kept; the record says why."


@pytest.mark.parametrize("outcome", [OutcomeName.VIEWS, OutcomeName.UNADAPTED])
def test_a_case_that_was_looked_at_again_is_no_failure(outcome):
    views = replace(ADAPTED, outcome=outcome, steps=())
    assert describe_record(views) == (
        "Looked again, weights unchanged; the result agrees with the source prediction to a Dice "
        "of 0.971."
    )
    assert describe_record(views, max_length=64) == "Looked again, weights unchanged."


@pytest.mark.parametrize("outcome", [OutcomeName.VIEWS, OutcomeName.ADAPTED])
@pytest.mark.parametrize("light", Quality)
@pytest.mark.parametrize("max_length", [30, 64, 168, None])
def test_no_sentence_leaves_out_that_the_organ_was_found_anew(outcome, light, max_length):
    focus = Focus(found_by="scale:0.6:0,1")
    found = replace(ADAPTED, outcome=outcome, verdict=Verdict(light), focus=focus)
    assert "rgan found anew" in describe_record(found, max_length=max_length)


def test_where_the_organ_was_found_does_not_matter_if_the_source_was_kept():
    kept = replace(KEPT, focus=Focus(found_by="scale:0.6:0,1"))
    assert "anew" not in describe_record(kept)


def test_the_light_comes_first_and_red_says_what_it_means():
    red = replace(KEPT, verdict=Verdict(Quality.RED), reason="views agree too little")
    assert describe_record(red) == (
        "RED, do not rely on this mask. Source prediction kept, because views agree too little."
    )
    assert describe_record(red, max_length=64) == (
        "RED, do not rely on this mask. Source prediction kept."
    )
    amber = replace(ADAPTED, verdict=Verdict(Quality.AMBER))
    assert describe_record(amber, max_length=64) == (
        "AMBER, look closely. Adapted in 5 steps, Dice with source 0.971."
    )
    assert describe_record(amber, max_length=30) == "AMBER. Adapted in 5 steps."


def test_a_refused_step_is_told_in_the_guards_words():
    verdict = Verdict(Quality.GREEN, reason="kept the views: they agree less")
    refused = replace(ADAPTED, outcome=OutcomeName.VIEWS, verdict=verdict)
    assert describe_record(refused) == (
        "GREEN. Looked again, weights unchanged: kept the views: they agree less."
    )


@given(
    length=st.integers(30, 200),
    outcome=st.sampled_from(OutcomeName),
    light=st.sampled_from(Quality),
)
def test_every_verdict_fits(length, outcome, light):
    verdict = Verdict(light, reason="r")
    told = replace(ADAPTED, outcome=outcome, reason="r", verdict=verdict)
    sentence = describe_record(told, max_length=length)
    assert len(sentence) <= length
    assert sentence.endswith(".")


def test_too_little_room_is_refused():
    with pytest.raises(ValueError, match="room for a sentence, got 5"):
        describe_record(ADAPTED, max_length=5)


# ------------------------------------------------------------------------------- log and table


def test_a_line_of_the_log_adds_cosines_and_time():
    steps = (STEP, replace(STEP, cosine=-0.25))
    assert summarise_record(replace(ADAPTED, steps=steps)) == (
        "Adapted to this case in 2 steps; the result agrees with the source prediction to a Dice "
        "of 0.971, its volume is 1.030 times. Cosine +0.50, -0.25. 1.5 s."
    )


def test_a_line_without_steps_has_no_cosines():
    expected = "Source prediction kept, because adapted prediction must be finite. 1.5 s."
    assert summarise_record(KEPT) == expected


def test_a_row_has_a_cell_per_column():
    row = dict(zip(COLUMNS, tabulate_record(ADAPTED), strict=True))
    assert row == {
        "outcome": "adapted",
        "light": "none",
        "shift": "-",
        "steps": "5",
        "Dice to source": "0.971",
        "volume": "×1.03",
        "s": "1.5",
    }


def test_what_does_not_exist_is_a_dash():
    change = replace(ADAPTED.change, volume_ratio=None)
    row = tabulate_record(replace(ADAPTED, change=change, steps=(StepEntry(0.1, 0.2, loss=1.0),)))
    assert row[5] == "-"


def test_trust_is_said_as_far_as_it_is_known():
    assert describe_trust(ADAPTED) == ""
    foreign = replace(ADAPTED, shift=ShiftEntry(90.0, 1.4))
    assert describe_trust(foreign) == "90 % of the network's source cases are less foreign."
    verdict = replace(ADAPTED.verdict, predicted=PredictedQuality(0.851, 0.702, "organ"))
    said = describe_trust(replace(foreign, verdict=verdict))
    assert said.endswith("less foreign. Predicted Dice 0.85, at least 0.70.")


def test_a_row_tells_how_foreign_the_case_is():
    row = tabulate_record(replace(ADAPTED, shift=ShiftEntry(97.5, 2.0)))
    assert row[2] == "98 %"
