"""With a profile of source cases a case at home is left alone, and the light keeps its bound."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DynUNet
from scipy.special import expit
from torch import softmax

from grata_monai import resolve_recipe
from grata_monai.adapt.episode import run_episode
from grata_monai.adapt.guard import (
    Decision,
    can_pay,
    choose_kept,
    hold_in_place,
    keep_home,
    keep_mirrored,
    promise,
)
from grata_monai.adapt.localise import LocalisedOrgan, is_plausible
from grata_monai.adapt.method import Episode
from grata_monai.adapt.multiscale import MultiscalePrediction
from grata_monai.adapt.network import hash_weights
from grata_monai.adapt.organ import describe_organ, profile_organ
from grata_monai.adapt.profile import Shift, SourceProfile, probe, profile_layers
from grata_monai.adapt.quality import QualityModel
from grata_monai.adapt.scores import Quality, Selected
from grata_monai.adapt.shape import describe_outline, profile_outlines
from grata_monai.adapt.signs import measure_entropy
from grata_monai.methods.registry import resolve_method

INFERER = SlidingWindowInferer((16, 16, 8), overlap=0.25)
VIEWS = {"base": "clinical", "steps": 0, "search_views": []}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    kernels = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
    network = DynUNet(3, 1, 2, **kernels, filters=[4, 8, 8], norm_name="batch").eval()
    with torch.no_grad():
        network.output_block.conv.conv.bias.copy_(torch.tensor([0.02, -0.02]))
    return network


def make_images(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.rand(1, 1, 24, 20, 10, generator=generator)


@pytest.fixture(scope="module")
def profile(network):
    cases = []
    for seed in range(6):
        with torch.no_grad(), probe(network) as statistics:
            INFERER(make_images(seed), network)
        cases.append(statistics)
    layers, distances = profile_layers(cases)
    known = tuple(sorted(distances))
    return SourceProfile(hash_weights(network), 6, layers, known, home_below=2 * known[-1])


def run(network, images, profile, recipe=VIEWS, **fields):
    resolved = resolve_recipe(recipe)
    return run_episode(
        network,
        Episode(
            images=images,
            method=resolve_method("grata", resolved),
            recipe=resolved,
            predict=fields.pop("predict", INFERER),
            inferer=INFERER,
            profile=profile,
            **fields,
        ),
    )


def test_a_case_at_home_costs_one_pass_and_keeps_its_source_mask(network, profile):
    passes = []

    def predict(images, moved):
        passes.append(moved)
        return INFERER(images, moved)

    found = run(network, make_images(2), profile, "clinical", predict=predict)
    assert len(passes) == 1
    assert found.decision.selected is Selected.SOURCE
    assert "the case is like source cases" in found.reason
    assert torch.equal(found.logits, found.source.logits)
    assert found.weights_after == found.source.weights
    assert found.steps == ()


def test_the_pass_is_the_same_with_and_without_a_profile(network, profile):
    with_it = run(network, make_images(2), profile, "source")
    assert torch.equal(with_it.logits, run(network, make_images(2), None, "source").logits)
    assert not any(layer._forward_pre_hooks for layer in network.modules())


def test_a_foreign_case_is_looked_at_again_and_is_told(network, profile):
    found = run(network, make_images(2, 20.0), profile)
    assert found.source.shift.percentile == 100
    assert found.organ is not None
    assert set(found.signs["kept" if "kept" in found.signs else "source"]) >= {"shift", "entropy"}


def test_statistics_that_came_with_the_source_prediction_are_used(network, profile):
    images = make_images(2)
    with torch.no_grad(), probe(network) as statistics:
        source = INFERER(images, network)
    given = run(network, images, profile, "source", source=source, statistics=statistics)
    assert given.source.shift == run(network, images, profile, "source").source.shift


def test_a_profile_of_other_weights_counts_as_none(network, profile):
    found = run(network, make_images(2), replace(profile, weights="1" * 64))
    assert found.source.shift is None
    assert found.signs == {}
    assert found.organ is not None


def test_no_mask_is_green_on_a_network_that_nobody_calibrated(network):
    recipe = {**VIEWS, "amber_below": 0.0, "red_below": 0.0, "source_below": 0.0}
    sure = make_sure(network)
    found = run(sure, make_images(2), None, recipe)
    assert found.decision.quality is Quality.AMBER
    assert "nobody has calibrated" in found.decision.reason
    calibrated = {**recipe, "calibrated_for": hash_weights(sure)}
    assert run(sure, make_images(2), None, calibrated).decision.quality is Quality.GREEN


def make_sure(network):
    """A network whose probabilities are 0 and 1."""
    sure = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in sure.output_block.parameters():
            parameter.mul_(1e4)
    return sure


@pytest.mark.parametrize(
    ("entropy", "is_calibrated", "light"),
    [
        (0.44, False, Quality.AMBER),
        (0.45, False, Quality.RED),
        (0.9, True, Quality.GREEN),  # calibrated limits are for this network
    ],
)
def test_a_mask_of_which_an_unknown_network_is_unsure_is_red(entropy, is_calibrated, light):
    found = promise(VIEWED, None, None, is_calibrated=is_calibrated, entropy=entropy)
    assert found.quality is light
    assert ("unsure inside the mask" in found.reason) == (light is Quality.RED)


def test_the_entropy_is_that_of_the_mask_handed_on(network, monkeypatch):
    monkeypatch.setattr("grata_monai.adapt.own_statistics._SURER_BY", 2.0)  # never
    recipe = {**VIEWS, "amber_below": 0.0, "red_below": 0.0, "source_below": 0.0}
    found = run(network, make_images(2), None, recipe)
    assert measure_entropy(softmax(found.logits, 1), "softmax") > 0.9  # nobody trained it
    assert found.decision.quality is Quality.RED
    assert "unsure inside the mask, 1.00 of the most" in found.decision.reason


FITTED = SourceProfile(
    "0" * 64,
    10,
    {},
    (1.0,),
    home_below=1.5,
    models={
        "plain": QualityModel(
            1.0, 2.2, {"shift": 0.5, "entropy": 3.0}, 0.2, 0.9, 10
        ),  # at best .90
        "kept": QualityModel(1.0, 2.9, {"shift": 0.5, "entropy": 3.0}, 0.2, 0.9, 10),  # at best .95
    },
    home_quality=0.8,
    home_lower=0.75,
    gain_above=0.03,
)
VIEWED = Decision(Quality.GREEN, Selected.VIEWS, "averaged magnified views", 0.95)


def hold(source, kept):
    signs = {"source": source} | ({} if kept is None else {"kept": {"change": 0.0, **kept}})
    decision, predicted = choose_kept(VIEWED, signs, FITTED)
    return promise(decision, predicted, FITTED, is_calibrated=True), predicted


@pytest.mark.parametrize(
    ("shift", "entropy", "is_home"), [(1.4, 0.0, True), (1.6, 0.0, False), (1.4, 0.4, False)]
)
def test_home_is_near_and_of_good_predicted_quality(shift, entropy, is_home):
    signs = {"shift": 0.0, "entropy": entropy}
    found = keep_home(Shift(50.0, shift), signs, FITTED)
    assert (found is not None) == is_home


@pytest.mark.parametrize(
    ("entropy", "light"),
    [(0.1, Quality.GREEN), (0.6, Quality.AMBER), (0.7, Quality.RED)],
)
def test_the_light_is_the_lower_bound_beside_what_counts_as_useful(entropy, light):
    decision, predicted = hold({"shift": 0.0, "entropy": 2.0}, {"shift": 0.0, "entropy": entropy})
    assert decision.quality is light
    assert decision.selected is Selected.VIEWS
    assert predicted.dice == pytest.approx(expit(2.9 - 3 * entropy))
    named = "the network is unsure inside the mask"
    assert (named in decision.reason) == (light is not Quality.GREEN)


@pytest.mark.parametrize("light", [Quality.AMBER, Quality.RED])
def test_no_prediction_makes_a_light_better_than_agreement_does(light):
    doubted = replace(VIEWED, quality=light, consistency=0.83)
    signs = {"shift": 0.0, "entropy": 0.0, "change": 0.0}
    decision, predicted = choose_kept(doubted, {"source": signs, "kept": signs}, FITTED)
    assert predicted.lower > FITTED.useful_above
    assert promise(decision, predicted, FITTED, is_calibrated=True).quality is light
    kept, _ = choose_kept(doubted, {"source": signs, "kept": {**signs, "entropy": 0.5}}, FITTED)
    assert kept.reason.endswith("is below 0.030; magnified views agree to 0.83 only")


def test_the_source_is_kept_where_too_little_would_be_gained():
    signs = {"shift": 0.0, "entropy": 0.1}
    decision, predicted = hold(signs, {"shift": 0.0, "entropy": 0.3})
    assert decision.selected is Selected.SOURCE
    source, kept = expit(2.2 - 0.3), expit(2.9 - 0.9)
    doubted = (1 - kept) * source + kept * min(source, kept)
    assert f"predicted gain {kept - doubted:+.3f} is below 0.030" in decision.reason
    assert predicted.dice == pytest.approx(doubted)


def test_a_good_mask_that_differs_makes_a_good_source_impossible():
    signs = {"shift": 0.0, "entropy": 0.1}
    decision, predicted = hold(signs, {"shift": 0.0, "entropy": 0.3, "change": 0.25})
    assert decision.selected is Selected.VIEWS
    assert predicted.dice == pytest.approx(expit(2.9 - 0.9))


@pytest.mark.parametrize(("short", "pays"), [(0.049, True), (0.051, False)])
def test_steps_must_be_able_to_make_up_what_the_views_lack(short, pays):
    signs = {"shift": 0.0, "entropy": 0.1}
    both = {"source": signs, "kept": {**signs, "change": 0.0}}
    source, kept = expit(2.2 - 0.3), expit(2.9 - 0.3)
    gain = kept - ((1 - kept) * source + kept * min(source, kept))
    assert can_pay(both, replace(FITTED, gain_above=float(gain + short))) is pays
    assert can_pay(both, None)
    assert can_pay(both, replace(FITTED, models={}, gain_above=1.0))


@pytest.mark.parametrize(("gain_above", "steps"), [(1.0, 0), (-1.0, 5)])
def test_no_step_is_taken_that_could_not_be_kept(network, profile, gain_above, steps):
    models = {
        name: QualityModel(1.0, 2.2, {"shift": 0.1}, 0.2, 0.9, 10) for name in ("plain", "kept")
    }
    fitted = replace(profile, models=models, home_below=0.0, gain_above=gain_above)
    recipe = {"base": "clinical", "search_views": [], "source_below": 0.0, "mirror_margin": None}
    found = run(network, make_images(2), fitted, recipe)
    assert len(found.steps) == steps
    assert (found.decision.selected is Selected.SOURCE) == (steps == 0)
    if not steps:
        assert "predicted gain" in found.reason
        assert "is below 1.000" in found.reason
        assert torch.equal(found.logits, found.source.logits)
        assert found.weights_after == found.weights_restored == found.source.weights


def fit(profile, sign="shift", **fields):
    weights = {"shift": 0.1, sign: 0.1}
    models = {name: QualityModel(1.0, 2.2, weights, 0.2, 0.9, 10) for name in ("plain", "kept")}
    return replace(profile, models=models, **fields)


def whole(network, **fields):
    settings = {"focus_views": [], "search_views": [], "image_share": 1.0, "steps": 0}
    return {"base": "clinical", "calibrated_for": hash_weights(network), **settings, **fields}


@pytest.mark.parametrize(
    ("gain_above", "selected"), [(-1.0, Selected.ADAPTED), (0.5, Selected.SOURCE)]
)
def test_a_recipe_without_magnified_views_is_judged_by_its_predicted_quality(
    network, profile, gain_above, selected
):
    fitted = fit(profile, home_below=0.0, gain_above=gain_above)
    found = run(network, make_images(2), fitted, whole(network))
    assert found.decision.selected is selected
    best = expit(2.2 - 0.1 * found.signs["source"]["shift"])
    assert found.decision.quality is Quality.GREEN  # .9 and a slack of .2: above .7
    assert torch.equal(found.logits, found.source.logits) == (selected is Selected.SOURCE)
    assert found.is_adapted == (selected is Selected.ADAPTED)
    if selected is Selected.SOURCE:
        assert "predicted gain" in found.reason
        assert found.predicted.dice < best  # doubted, since the other mask differs
        assert found.weights_after == found.source.weights
    else:
        assert found.predicted.dice == pytest.approx(best)
        assert found.decision.reason == "adapted: the whole image, without magnified views"


def test_a_recipe_without_magnified_views_costs_a_case_at_home_one_pass(network, profile):
    passes = []

    def predict(images, moved):
        passes.append(moved)
        return INFERER(images, moved)

    found = run(network, make_images(2), fit(profile), whole(network), predict=predict)
    assert len(passes) == 1
    assert found.decision.selected is Selected.SOURCE
    assert "like source cases" in found.decision.reason


@pytest.mark.parametrize(
    ("change", "sign"),
    [
        ({"calibrated_for": None}, "shift"),  # as `paper` is: published, and judged by nobody
        ({"calibrated_for": "1" * 64}, "shift"),
        ({"guard": False}, "shift"),
        ({}, "disagreement"),  # fitted to a recipe with magnified views
    ],
)
def test_only_the_recipe_that_a_profile_was_fitted_to_is_judged_without_views(
    network, profile, change, sign
):
    fitted = fit(profile, sign, gain_above=1.0)
    found = run(network, make_images(2), fitted, whole(network, **change))
    assert found.decision.selected is Selected.NOTHING
    assert found.decision.quality is Quality.NONE
    assert found.is_adapted


@pytest.mark.parametrize(
    ("overlap", "consistency", "is_held"),
    [(0.0, 0.87, True), (0.64, 0.92, True), (0.66, 0.87, False), (0.0, 0.93, False)],
)
def test_another_place_is_taken_only_where_views_agree_on_it(overlap, consistency, is_held):
    before = replace(VIEWED, consistency=consistency)
    found = hold_in_place(before, overlap, 0.93)
    if not is_held:
        assert found == before
        return
    assert found.quality is Quality.RED
    assert found.selected is Selected.SOURCE
    assert f"a Dice of {overlap:.2f} with the source's, and they agree to 0." in found.reason


@pytest.mark.parametrize(("known", "is_held"), [("1" * 64, True), (None, False), ("own", False)])
def test_only_a_network_that_nobody_calibrated_is_held_in_place(
    network, known, is_held, monkeypatch
):
    monkeypatch.setattr("grata_monai.adapt.settle.mean_dice", lambda *_: 0.2)
    monkeypatch.setattr("grata_monai.adapt.own_statistics._SURER_BY", 2.0)  # never
    limits = {"source_below": 0.0, "mirror_margin": None, "amber_below": 1.0}
    weights = hash_weights(network) if known == "own" else known
    recipe = {**VIEWS, **limits, "calibrated_for": weights}
    monkeypatch.setattr("grata_monai.adapt.recipe._SAFETY_MARGIN", -1.0)
    found = run(network, make_images(2), None, recipe)
    assert (found.decision.selected is Selected.SOURCE) == is_held
    assert ("a Dice of 0.20 with the source's" in found.decision.reason) == is_held
    if is_held:
        assert found.decision.quality is Quality.RED
        assert torch.equal(found.logits, found.source.logits)


def test_a_case_at_home_is_promised_what_cases_at_home_reach():
    kept = Decision(Quality.GREEN, Selected.SOURCE, "kept source: the case is like source cases")
    signs = {"source": {"shift": 0.0, "entropy": 0.1}}
    decision, predicted = choose_kept(kept, signs, FITTED, is_home=True)
    assert decision == kept
    assert (predicted.dice, predicted.lower) == (pytest.approx(expit(1.9)), 0.75)


def test_without_a_guard_nothing_is_promised():
    assert choose_kept(Decision(), {}, FITTED) == (Decision(), None)
    assert promise(Decision(), None, FITTED, is_calibrated=False) == Decision()


KEPT = Decision(Quality.RED, Selected.SOURCE, "kept source: magnified views agree too little")


@pytest.mark.parametrize(("overlap", "selected"), [(0.85, "mirrored"), (0.75, "source")])
def test_without_a_profile_the_mirrored_average_is_kept_if_it_is_like_the_source(overlap, selected):
    decision, predicted = keep_mirrored(KEPT, {}, overlap, None)
    assert decision.selected == selected
    assert decision.quality is Quality.RED
    assert predicted is None
    mirrored = "averaged mirrored predictions of the whole image; magnified views agree too little"
    assert decision.reason == (mirrored if selected == "mirrored" else KEPT.reason)


@pytest.mark.parametrize(("overlap", "selected"), [(0.93, "mirrored"), (0.9, "source")])
def test_a_fitted_profile_says_how_like_the_source_it_must_be(overlap, selected):
    signs = {
        "source": {"shift": 0.0, "entropy": 0.3},
        "mirrored": {"shift": 0.0, "entropy": 0.2, "change": 0.1},
    }
    models = {**FITTED.models, "mirrored": FITTED.models["plain"]}
    profile = replace(FITTED, models=models, mirrored_from=0.92)
    decision, predicted = keep_mirrored(KEPT, signs, overlap, profile)
    assert decision.selected == selected
    entropy = 0.2 if selected == "mirrored" else 0.3
    assert predicted.dice == pytest.approx(expit(2.2 - 3 * entropy))
    never = keep_mirrored(KEPT, signs, 1.0, replace(profile, mirrored_from=None))
    assert never[0] == KEPT


def test_the_organ_is_sought_only_where_it_can_be():
    image = np.zeros((20, 20, 20), np.float32)
    labels = []
    balls = [np.sum((np.indices((9, 9, 9)) - 4.0) ** 2, 0) < r**2 for r in (3.9, 4.2, 4.4, 4.6)]
    for grow in range(4):
        mask = np.zeros(image.shape, bool)
        mask[6 : 13 + grow, 6:14, 6:14] = True
        labels.append(describe_organ(mask, image, (1.0, 1.0, 1.0)))
    known = FITTED.__class__("0" * 64, 4, {}, (1.0,), organ=profile_organ(labels))

    def found_at(start, size):
        maps = torch.zeros(1, 2, 20, 20, 20)
        maps[:, 0] = 1
        box = (0, slice(None), *(slice(start, start + size),) * 3)
        maps[box] = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
        prediction = MultiscalePrediction(maps, torch.ones(1, 1, 20, 20, 20), (), ())
        return LocalisedOrgan(maps, "scale:0.6:0,1", True, (), prediction)

    resolved = resolve_recipe("clinical")
    episode = Episode(
        images=torch.zeros(1, 1, 20, 20, 20),
        method=resolve_method("grata", resolved),
        recipe=resolved,
        predict=INFERER,
        activation="softmax",
        spacing=(1.0, 1.0, 1.0),
        profile=known,
    )
    assert is_plausible(found_at(6, 8), episode)
    assert not is_plausible(found_at(0, 2), episode)
    assert is_plausible(found_at(0, 2), replace(episode, profile=None))
    outlines = [describe_outline(ball) for ball in balls]
    shaped = replace(episode, profile=replace(known, shape=profile_outlines(outlines)))
    assert not is_plausible(found_at(6, 8), shaped)  # a box is no ball
