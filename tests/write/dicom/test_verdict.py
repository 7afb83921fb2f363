"""One plain sentence says what was done, as full as there is room for."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grata_monai.write.pictures.verdict import describe_verdict


def test_an_adapted_case_says_how_far_it_went(record):
    assert describe_verdict(record) == (
        "Adapted to this case in 5 steps; the result agrees with the source prediction to a Dice "
        "of 0.971, its volume is 1.030 times."
    )
    assert describe_verdict(record, max_length=64) == "Adapted in 5 steps, Dice with source 0.971."
    assert describe_verdict(record, max_length=24) == "Adapted in 5 steps."


def test_only_steps_that_were_taken_count(record):
    steps = ({**record.steps[0], "is_taken": False}, record.steps[0])
    sentence = describe_verdict(replace(record, steps=steps), max_length=30)
    assert sentence == "Adapted in 1 step."


def test_an_empty_source_prediction_leaves_out_the_ratio(record):
    change = {**record.change, "volume_ratio": None}
    assert describe_verdict(replace(record, change=change)).endswith("to a Dice of 0.971.")


def test_a_kept_source_prediction_says_why(source_record):
    assert describe_verdict(source_record) == (
        "Source prediction kept, because adapted prediction must be finite."
    )
    assert describe_verdict(source_record, max_length=64) == (
        "Source prediction kept: adapted prediction must be finite."
    )
    long = replace(source_record, reason="long " * 20)
    assert describe_verdict(long, max_length=64) == "Source prediction kept; the record says why."


def test_an_unadapted_case_says_whether_views_were_averaged(record):
    unadapted = replace(record, outcome="unadapted", steps=())
    assert describe_verdict(unadapted) == (
        "Not adapted: the source network's predictions of several views, averaged."
    )
    plain = replace(unadapted, views={"prediction": []})
    assert describe_verdict(plain) == "Not adapted: the source network's prediction."


def test_the_light_comes_first_and_red_says_what_it_means(record, source_record):
    red = replace(source_record, verdict={"light": "red"}, reason="views agree too little")
    assert describe_verdict(red) == (
        "RED, do not rely on this mask. Source prediction kept, because views agree too little."
    )
    assert describe_verdict(red, max_length=64) == (
        "RED, do not rely on this mask. Source prediction kept."
    )
    amber = replace(record, verdict={"light": "amber"})
    assert describe_verdict(amber, max_length=64) == (
        "AMBER, low agreement: look closely. Adapted in 5 steps."
    )
    assert describe_verdict(amber, max_length=30) == "AMBER. Adapted in 5 steps."


def test_a_refused_step_is_told_in_the_guards_words(record):
    verdict = {"light": "green", "reason": "kept unadapted weights: views agree less"}
    refused = replace(record, outcome="unadapted", verdict=verdict)
    assert describe_verdict(refused) == (
        "GREEN. Not adapted: kept unadapted weights: views agree less."
    )


@given(
    length=st.integers(30, 200),
    outcome=st.sampled_from(["adapted", "source", "unadapted"]),
    light=st.sampled_from(["green", "amber", "red", "none"]),
)
def test_every_verdict_fits(record, length, outcome, light):
    verdict = {"light": light, "reason": "r"}
    told = replace(record, outcome=outcome, reason="r", verdict=verdict)
    sentence = describe_verdict(told, max_length=length)
    assert len(sentence) <= length
    assert sentence.endswith(".")


def test_too_little_room_is_refused(record):
    with pytest.raises(ValueError, match="room for a sentence, got 5"):
        describe_verdict(record, max_length=5)
