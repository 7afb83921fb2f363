"""The guard: what it selects and which quality flag it sets, at and around its limits."""

from dataclasses import replace

import pytest
import torch

from grata_monai.adapt.guard import NOTHING_FOUND, decide_after, decide_before
from grata_monai.adapt.multiscale import MultiscalePrediction
from grata_monai.adapt.scores import GUARD_SCORES, Evidence, GuardScore, Selected
from grata_monai.adapt.settings import GuardSettings

LIMITS = GuardSettings(source_below=0.4, red_below=0.5, amber_below=0.75)
OFF = replace(LIMITS, is_binding=False)


def predict(consistency: float, *, neighbours: float = 1.0, mirrored: float | None = None):
    """A prediction at one magnification with these scores."""
    scores = (2 * consistency - neighbours, neighbours)
    if mirrored is not None:
        scores = (mirrored, 2 * consistency - mirrored)
    maps = torch.zeros(1, 2, 1, 1)
    return MultiscalePrediction(maps, maps[:, :1], (scores,), (1.0,))


def test_nothing_found_is_red():
    found = (NOTHING_FOUND.quality, NOTHING_FOUND.selected, NOTHING_FOUND.consistency)
    assert found == ("red", "source", None)
    assert "found nothing" in NOTHING_FOUND.reason


@pytest.mark.parametrize(
    ("before", "quality", "selected"),
    [
        (0.39, "red", "source"),
        (0.4, "red", "views"),
        (0.49, "red", "views"),
        (0.5, "amber", "views"),
        (0.74, "amber", "views"),
        (0.75, "green", "views"),
    ],
)
def test_consistency_sets_the_quality_flag(before, quality, selected):
    decision = decide_after(Evidence(predict(before)), LIMITS)
    assert (decision.quality, decision.selected) == (quality, selected)
    assert decision.consistency == pytest.approx(before)
    assert ("low agreement" in decision.reason) == (quality == "amber")
    assert ("kept source" in decision.reason) == (selected == "source")
    assert ("to rely on" in decision.reason) == (quality == "red" and selected != "source")


@pytest.mark.parametrize(
    ("neighbours", "after", "quality", "selected", "consistency"),
    [
        ((0.6, 0.59), 0.9, "amber", "views", 0.7),  # they agree less: the frozen weights stay
        ((0.6, 0.6), 0.9, "green", "adapted", 0.9),
        ((0.6, 0.7), 0.3, "red", "source", 0.3),  # better among neighbours, too little in all
    ],
)
def test_adapted_weights_must_not_agree_less(neighbours, after, quality, selected, consistency):
    one, two = neighbours
    evidence = Evidence(predict(0.7, neighbours=one), predict(after, neighbours=two))
    decision = decide_after(evidence, LIMITS)
    assert (decision.quality, decision.selected) == (quality, selected)
    assert decision.consistency == pytest.approx(consistency)


def test_the_reason_has_both_numbers():
    evidence = Evidence(predict(0.9, neighbours=0.81), predict(0.9, neighbours=0.74))
    assert decide_after(evidence, LIMITS).reason == (
        "kept the views: they agree less after adaptation, 0.810 → 0.740"
    )


def test_numbers_that_differ_are_written_so_that_they_do():
    """A record once said "agree less after adaptation, 0.909 → 0.909"."""
    evidence = Evidence(predict(0.9, neighbours=0.9091), predict(0.9, neighbours=0.9089))
    assert decide_after(evidence, LIMITS).reason.endswith("adaptation, 0.9091 → 0.9089")
    same = Evidence(predict(0.9, neighbours=0.9091), predict(0.9, neighbours=0.9091))
    assert (
        "agree at least as well after adaptation, 0.909 → 0.909"
        in decide_after(same, LIMITS).reason
    )


def test_every_score_is_recorded_with_its_threshold():
    evidence = Evidence(predict(0.9, neighbours=0.75), predict(0.8, neighbours=0.875), 0.5)
    settings = replace(LIMITS, mirror_margin=0.25)
    found = decide_after(evidence, settings).scores
    assert [(score.name, score.threshold) for score in found] == [
        ("mirror_gain", 0.25),
        ("neighbour_gain", 0.0),
        ("consistency", 0.4),
    ]
    assert [score.value for score in found] == pytest.approx([0.55, 0.125, 0.8])


def test_adaptation_may_lift_a_case_above_the_limit():
    evidence = Evidence(predict(0.3, neighbours=0.3), predict(0.8, neighbours=0.9))
    assert decide_before(Evidence(evidence.before), LIMITS) is None
    assert decide_after(evidence, LIMITS).selected == "adapted"


@pytest.mark.parametrize(
    ("neighbours", "after", "quality", "selected"),
    [
        ((0.6, 0.59), 0.9, "green", "adapted"),  # the guard would have kept the views
        ((0.6, 0.7), 0.3, "red", "adapted"),  # it would have kept the source
        ((1.0, 1.0), None, "green", "views"),  # nothing was adapted
    ],
)
def test_a_guard_that_is_off_keeps_what_adaptation_made(neighbours, after, quality, selected):
    one, two = neighbours
    moved = None if after is None else predict(after, neighbours=two)
    decision = decide_after(Evidence(predict(0.8, neighbours=one), moved), OFF)
    assert (decision.quality, decision.selected) == (quality, selected)
    assert decision.consistency == pytest.approx(0.8 if after is None else after)
    assert "kept without asking the guard" in decision.reason


def test_without_the_guard_the_flag_is_red_below_both_limits():
    settings = replace(OFF, source_below=0.6)
    assert decide_after(Evidence(predict(0.55)), settings).quality == "red"


@pytest.mark.parametrize(
    ("whole", "mirrored", "is_kept"),
    [(0.9, 0.92, False), (0.9, 0.91, True), (0.9, 0.8, True)],
)
def test_views_that_make_nothing_surer_are_not_kept(whole, mirrored, is_kept):
    settings = replace(LIMITS, mirror_margin=0.015)
    evidence = Evidence(predict(0.7, mirrored=mirrored), mirrored_whole=whole)
    decision = decide_before(evidence, settings)
    assert decide_before(replace(evidence, mirrored_whole=None), settings) is None
    assert decide_before(evidence, LIMITS) is None  # no margin is asked for
    assert decide_before(evidence, replace(settings, is_binding=False)) is None
    assert (decision is not None) == is_kept
    if is_kept:
        assert (decision.quality, decision.selected) == ("amber", "source")
        assert decision.consistency == pytest.approx(0.7)
        assert decision.reason == (
            "kept source: magnified views did not make the network surer, agreement with its "
            f"mirror image {whole:.3f} → {mirrored:.3f}; low agreement, 0.70 < 0.75"
        )


def test_where_the_organ_was_found_anew_is_said_unless_the_source_is_kept():
    place = "scale:0.6:0,1"
    found = decide_after(Evidence(predict(0.9)), LIMITS, found_by=place)
    assert found.reason.endswith(f"; organ found anew in the whole image at {place}")
    lost = decide_after(Evidence(predict(0.3)), LIMITS, found_by=place)
    assert "found anew" not in lost.reason


@pytest.mark.parametrize("is_early", [True, False])
@pytest.mark.parametrize("selects", [Selected.SOURCE, Selected.VIEWS])
def test_a_new_score_decides_below_its_threshold(is_early, selects):
    toy = GuardScore(
        name="toy",
        measure=lambda evidence: 0.2,
        threshold=lambda settings: 0.3,
        selects=selects,
        explain=lambda score, evidence: f"toy: {score.value} < {score.threshold}",
        is_early=is_early,
    )
    evidence = Evidence(predict(0.9), predict(0.9))
    early = decide_before(Evidence(evidence.before), LIMITS, (*GUARD_SCORES, toy))
    assert (early is not None) == is_early
    decision = early or decide_after(evidence, LIMITS, (*GUARD_SCORES, toy))
    assert (decision.selected, decision.reason) == (selects, "toy: 0.2 < 0.3")
    assert decision.scores[-1].name == "toy"
