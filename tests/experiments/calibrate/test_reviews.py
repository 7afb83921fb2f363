"""What readers did not accept may raise the amber limit, and nothing lowers it."""

import math

import pytest

from grata_monai.experiments.calibrate.choose import Choice
from grata_monai.experiments.calibrate.reviews import heed_reviews
from grata_monai.report.reviews import Review


def review(number, agreement, decision):
    return Review(
        time="2026-01-01T00:00:00+00:00",
        case=f"case_{number}",
        decision=decision,
        reader="A",
        remark="",
        digest="0" * 64,
        light="green",
        kept="views",
        agreement=agreement,
        volume=None,
        group="",
    )


@pytest.fixture
def choice():
    return Choice("views", 0.7, math.nan, 0.8, 0.85, (), {}, 0.0, 0.0, 0)


def test_the_limit_rises_until_nine_of_ten_masks_above_it_were_accepted(choice):
    accepted = [review(k, 0.95, "accept") for k in range(18)]
    edited = [review(20 + k, 0.90, "edit") for k in range(3)]
    raised, told = heed_reviews(choice, [*accepted, *edited])
    assert raised.amber_below == 0.91  # at .90, 18 of 21 were accepted, fewer than nine in ten
    assert told == ("18 of 21 masks were accepted; the amber limit was raised from 0.85 to 0.91")
    assert heed_reviews(choice, [*accepted, *edited[:2]])[0] == choice


def test_the_last_review_of_a_case_counts(choice):
    first = [review(k, 0.90, "reject") for k in range(12)]
    last = [review(k, 0.90, "accept") for k in range(12)]
    same, told = heed_reviews(choice, [*first, *last])
    assert same == choice
    assert told == "12 of 12 masks were accepted; the amber limit stays at 0.85"


def test_few_reviews_change_nothing(choice):
    same, told = heed_reviews(choice, [review(k, 0.99, "reject") for k in range(9)])
    assert same == choice
    assert told == "0 of 9 masks were accepted; fewer than 10 change nothing"
