"""A reader is told what was decided, why, and what to do, for every light."""

from dataclasses import replace

import pytest
from records import ADAPTED
from reported import AMBER, GREEN, RED

from grata_monai.adapt.scores import GUARD_SCORES, Score
from grata_monai.record.types import Change
from grata_monai.report.words import describe_score, explain


@pytest.mark.parametrize(
    ("record", "headline", "decided", "why", "advice"),
    [
        (GREEN, "Usable after a normal check", "adapted mask", "at least as well", "Check the"),
        (AMBER, "Look closely before use", "was not adapted", "agreed less", "every slice"),
        (RED, "Do not rely on this mask", "original network's mask", "too little", "by hand"),
        (ADAPTED, "Not judged", "adapted mask", "asks for no guard", "Nothing has judged"),
    ],
)
def test_every_light_says_what_why_and_what_to_do(record, headline, decided, why, advice):
    words = explain(record)
    assert words.headline == headline
    assert decided in words.decided
    assert why in words.why
    assert advice in words.advice


def test_a_mask_without_a_voxel_is_named_first():
    nothing = Change(dice=0.0, source_voxels=9, final_voxels=0, volume_ratio=0.0)
    assert explain(replace(RED, change=nothing)).headline == "Nothing was found"


def test_a_failure_is_told_with_its_own_reason():
    record = replace(RED, reason="out of memory.", verdict=replace(RED.verdict, scores=()))
    assert explain(record).why == "Because out of memory."


def test_every_score_of_the_guard_is_put_as_a_question():
    questions = {describe_score(Score(score.name, 0.5)) for score in GUARD_SCORES}
    assert len(questions) == len(GUARD_SCORES)
    assert all(question.endswith("?") for question in questions)
    assert describe_score(Score("some_new_score", 0.5)) == "some new score"
