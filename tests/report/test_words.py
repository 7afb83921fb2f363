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


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        (
            "averaged magnified views; low agreement, 0.91 < 0.93",
            "The views of this image agree to 0.91 of 1; green asks for 0.93.",
        ),
        (
            "averaged magnified views; organ found anew in the whole image at scale:0.6:0,1; "
            "too little agreement to rely on, 0.50 < 0.73",
            "The first look had not found the organ well; it was found anew in the whole image. "
            "The views of this image agree to 0.50 of 1 only; 0.73 is the least to rely on.",
        ),
        ("averaged magnified views; kept without asking the guard", "The guard was not asked"),
        ("averaged magnified views; something new.", "Something new."),
        (
            "averaged magnified views; predicted Dice 0.58, at least 0.34: some views disagree; "
            "the network was trained on another orientation, which is axial; it has coronal; "
            "the network was trained on another body_part, which is PROSTATE; it has another; "
            "the network was trained on another description, which is t2|tse; it has another",
            "Its signs speak against this mask: some views disagree. "
            "These slices are coronal; the network was trained on axial ones. "
            "The series names another body part than the network's, PROSTATE: check that it is "
            "right. The series is described as another sequence than the network's: check that it "
            "is right.",
        ),
        (
            "averaged magnified views; the steps moved it elsewhere; the network is unsure inside "
            "the mask, 0.62 of the most, red from 0.45 on",
            "Adaptation moved the mask to another place, so the mask from before it is shown. "
            "The network is unsure inside the mask, 0.62 of 1.",
        ),
        ("kept source: the case is like home", "Kept source: the case is like home."),
    ],
)
def test_every_clause_of_a_reason_is_told_in_a_reader_s_words(reason, why):
    verdict = replace(AMBER.verdict, reason=reason, scores=())
    assert explain(replace(AMBER, verdict=verdict)).why.startswith(why)


def test_every_score_of_the_guard_is_put_as_a_question():
    questions = {describe_score(Score(score.name, 0.5)) for score in GUARD_SCORES}
    assert len(questions) == len(GUARD_SCORES)
    assert all(question.endswith("?") for question in questions)
    assert describe_score(Score("some_new_score", 0.5)) == "some new score"
