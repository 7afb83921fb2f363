"""The guard: what it keeps and which light it sets, at and around its limits."""

import pytest

from grata_monai.adapt.guard import Limits, judge

LIMITS = Limits(source_below=0.4, red_below=0.5, amber_below=0.75)


def test_nothing_found_is_red():
    verdict = judge(None, limits=LIMITS)
    assert (verdict.light, verdict.kept, verdict.agreement) == ("red", "source", None)
    assert "found nothing" in verdict.reason


@pytest.mark.parametrize(
    ("before", "light", "kept"),
    [
        (0.39, "red", "source"),
        (0.4, "red", "views"),
        (0.49, "red", "views"),
        (0.5, "amber", "views"),
        (0.74, "amber", "views"),
        (0.75, "green", "views"),
    ],
)
def test_agreement_sets_the_light(before, light, kept):
    verdict = judge(before, limits=LIMITS)
    assert (verdict.light, verdict.kept, verdict.agreement) == (light, kept, before)
    assert ("low agreement" in verdict.reason) == (light == "amber")
    assert ("kept source" in verdict.reason) == (kept == "source")
    assert ("to rely on" in verdict.reason) == (light == "red" and kept != "source")


@pytest.mark.parametrize(
    ("neighbours", "after", "light", "kept", "agreement"),
    [
        ((0.6, 0.59), 0.9, "amber", "views", 0.7),  # they agree less: the frozen weights stay
        ((0.6, 0.6), 0.9, "green", "adapted", 0.9),
        ((0.6, 0.7), 0.3, "red", "source", 0.3),  # better among neighbours, too little in all
    ],
)
def test_adapted_weights_must_not_agree_less(neighbours, after, light, kept, agreement):
    verdict = judge(0.7, after, neighbours=neighbours, limits=LIMITS)
    assert (verdict.light, verdict.kept, verdict.agreement) == (light, kept, agreement)


def test_the_reason_has_both_numbers():
    verdict = judge(0.9, 0.9, neighbours=(0.81, 0.74), limits=LIMITS)
    assert verdict.reason == (
        "kept unadapted weights: views agree less after adaptation, 0.810 → 0.740"
    )


def test_adaptation_may_lift_a_case_above_the_limit():
    assert judge(0.3, 0.8, neighbours=(0.3, 0.9), limits=LIMITS).kept == "adapted"


@pytest.mark.parametrize(
    ("neighbours", "after", "light", "kept"),
    [
        ((0.6, 0.59), 0.9, "green", "adapted"),  # the guard would have kept the views
        ((0.6, 0.7), 0.3, "red", "adapted"),  # it would have kept the source
        ((1.0, 1.0), None, "green", "views"),  # nothing was adapted
    ],
)
def test_a_guard_that_is_off_keeps_what_adaptation_made(neighbours, after, light, kept):
    verdict = judge(0.8, after, neighbours=neighbours, limits=LIMITS, is_binding=False)
    assert (verdict.light, verdict.kept) == (light, kept)
    assert verdict.agreement == (0.8 if after is None else after)
    assert "kept without asking the guard" in verdict.reason


def test_a_guard_that_is_off_still_finds_nothing():
    verdict = judge(None, limits=LIMITS, is_binding=False)
    assert (verdict.light, verdict.kept) == ("red", "source")


def test_without_the_guard_the_light_is_red_below_both_limits():
    limits = Limits(source_below=0.6, red_below=0.5, amber_below=0.75)
    assert judge(0.55, limits=limits, is_binding=False).light == "red"


@pytest.mark.parametrize(
    ("mirrored", "kept"),
    [
        ((0.9, 0.92), "views"),
        ((0.9, 0.91), "source"),
        ((0.9, 0.8), "source"),
    ],
)
def test_views_that_make_nothing_surer_are_not_kept(mirrored, kept):
    limits = Limits(0.4, 0.5, 0.75, mirror_margin=0.015)
    verdict = judge(0.7, mirrored=mirrored, limits=limits)
    assert (verdict.light, verdict.kept, verdict.agreement) == ("amber", kept, 0.7)
    assert judge(0.7, mirrored=mirrored, limits=LIMITS).kept == "views"
    assert judge(0.7, mirrored=mirrored, limits=limits, is_binding=False).kept == "views"
    if kept == "source":
        assert verdict.reason == (
            "kept source: magnified views did not make the network surer, agreement with its "
            f"mirror image {mirrored[0]:.3f} → {mirrored[1]:.3f}; low agreement, 0.70 < 0.75"
        )


def test_a_source_that_is_kept_was_not_found_anew():
    limits = Limits(0.4, 0.5, 0.75, mirror_margin=0.0)
    verdict = judge(0.9, mirrored=(0.9, 0.8), found_by="scale:0.6:0,1", limits=limits)
    assert "found anew" not in verdict.reason
