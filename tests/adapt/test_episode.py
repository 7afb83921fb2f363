"""An episode leaves no trace, falls back where it must, and forgets unless told to remember."""

import copy
import re
import threading
from dataclasses import replace

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DynUNet, UNet

from grata_monai import OnlineMemory, resolve_recipe
from grata_monai.adapt.episode import run_episode
from grata_monai.adapt.method import Episode
from grata_monai.adapt.multiscale import MultiscalePrediction
from grata_monai.adapt.network import copy_network, hash_weights
from grata_monai.adapt.scores import Selected
from grata_monai.adapt.views import parse_view
from grata_monai.core.errors import AdaptationError, NetworkError, NothingToAdaptError, RecipeError
from grata_monai.methods.registry import METHODS, resolve_method
from grata_monai.methods.shape_moments import ShapeMoments, ShapePrior
from grata_monai.networks import add_heads

INFERER = SlidingWindowInferer((16, 16, 8), overlap=0.25)


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    kernels = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
    network = DynUNet(3, 1, 2, **kernels, filters=[4, 8, 8], norm_name="batch").eval()
    with torch.no_grad():
        network.output_block.conv.conv.bias.copy_(torch.tensor([0.02, -0.02]))
    return network


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(1, 1, 24, 20, 10, generator=torch.Generator().manual_seed(5))


WHOLE = {"base": "clinical", "focus_views": []}
"""Adaptation on parts of the image, and the whole image predicted."""


def make_episode(images, recipe=WHOLE, *, predict=None, memory=None, **fields) -> Episode:
    resolved = resolve_recipe(recipe)
    return Episode(
        images=images,
        method=resolve_method(fields.pop("method", "grata"), resolved),
        recipe=resolved,
        predict=predict or INFERER,
        inferer=INFERER,
        memory=memory,
        **fields,
    )


def test_adaptation_changes_the_prediction_and_not_the_network(network, images):
    before = hash_weights(network)
    outcome = run_episode(network, make_episode(images))
    assert not outcome.reason
    assert not torch.equal(outcome.logits, outcome.source.logits)
    assert outcome.source.weights == outcome.weights_restored == before
    assert outcome.weights_after != before
    assert hash_weights(network) == before


def test_the_same_case_gives_the_same_bytes_whatever_came_before(network, images):
    first = run_episode(network, make_episode(images)).logits
    run_episode(network, make_episode(torch.rand(1, 1, 20, 20, 12)))
    assert torch.equal(run_episode(network, make_episode(images)).logits, first)


def test_two_threads_on_one_network_get_what_one_gets(network, images):
    others = [images, images.flip(2), images.flip(3), images * 0.5]
    expected = [run_episode(network, make_episode(case)).logits for case in others]
    found: dict[int, torch.Tensor] = {}

    def work(index: int) -> None:
        found[index] = run_episode(network, make_episode(others[index])).logits

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(others))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], logits) for i, logits in enumerate(expected))


@pytest.mark.parametrize("error", [KeyboardInterrupt, torch.OutOfMemoryError, ValueError])
def test_the_network_is_untouched_when_prediction_breaks_off(network, images, error):
    before = copy.deepcopy(network.state_dict())

    def predict(x, net):
        if net is not network:
            raise error("stop")
        return INFERER(x, net)

    episode = make_episode(images, {**WHOLE, "on_failure": "raise"}, predict=predict)
    with pytest.raises((error, AdaptationError)):
        run_episode(network, episode)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not network.training


def test_out_of_memory_keeps_the_source_prediction_and_says_so(network, images):
    def predict(x, net):
        if net is not network:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return INFERER(x, net)

    recipe = {**WHOLE, "min_cosine": None}
    outcome = run_episode(network, make_episode(images, recipe, predict=predict))
    assert "out of memory" in outcome.reason
    assert torch.equal(outcome.logits, outcome.source.logits)
    assert len(outcome.steps) == 5


def test_a_loss_that_is_not_finite_keeps_the_source_prediction(network, images):
    recipe = {**WHOLE, "perturbation": 1e30}
    outcome = run_episode(network, make_episode(images, recipe))
    assert "must be finite" in outcome.reason
    assert torch.equal(outcome.logits, outcome.source.logits)
    assert outcome.weights_after == outcome.source.weights


def test_an_empty_adapted_prediction_keeps_the_source_prediction(network, images):
    def predict(x, net):
        logits = INFERER(x, net)
        if net is network:
            return logits
        return torch.cat([logits[:, :1] + 100, logits[:, 1:]], 1)

    outcome = run_episode(network, make_episode(images, predict=predict))
    assert "must not be empty" in outcome.reason


def test_on_failure_raise_raises(network, images):
    recipe = {**WHOLE, "perturbation": 1e30, "on_failure": "raise"}
    with pytest.raises(AdaptationError, match="must be finite"):
        run_episode(network, make_episode(images, recipe))


class Prompted(torch.nn.Module):
    """Segments through its inferer, but not from images alone, as networks with prompts do."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images, prompt):
        return self.network(images)


class WithoutGradients(torch.nn.Module):
    """Cuts the graph, as engines of other makers do."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images).detach()


@pytest.mark.parametrize(
    ("wrap", "predict", "reason"),
    [
        (Prompted, lambda x, net: INFERER(x, net, None), "TypeError.*prompt"),
        (WithoutGradients, INFERER, "RuntimeError.*does not require grad"),
    ],
)
def test_a_network_that_cannot_adapt_keeps_its_mask_with_a_reason(
    network, images, caplog, wrap, predict, reason
):
    outcome = run_episode(wrap(network), make_episode(images, predict=predict))
    assert torch.equal(outcome.logits, INFERER(images, network))
    assert re.match(f"adaptation broke off with {reason}", outcome.reason)
    assert "adaptation broke off" in caplog.text
    episode = make_episode(images, {**WHOLE, "on_failure": "raise"}, predict=predict)
    with pytest.raises(AdaptationError, match=reason):
        run_episode(wrap(network), episode)


def test_online_memory_carries_weights_and_moments_from_case_to_case(network, images):
    recipe = {"base": "paper", "memory": "online", "base_rate": 1e-2}
    memory = OnlineMemory()
    first = run_episode(network, make_episode(images, recipe, memory=memory))
    second = run_episode(network, make_episode(images, recipe, memory=memory))
    assert first.weights_after != second.weights_after
    moments = list(memory.state.adapter.optimizer.state.values())
    assert all(float(state["step"]) == 2 for state in moments)
    assert hash_weights(network) == first.source.weights == second.source.weights
    memory.reset()
    again = run_episode(network, make_episode(images, recipe, memory=memory))
    assert again.weights_after == first.weights_after


def test_a_failed_case_leaves_the_memory_as_it_was(network, images):
    recipe = {"base": "paper", "memory": "online"}
    memory = OnlineMemory()
    good = run_episode(network, make_episode(images, recipe, memory=memory))
    bad = run_episode(network, make_episode(images * float("inf"), recipe, memory=memory))
    assert bad.reason
    assert hash_weights(memory.state.network) == good.weights_after


def test_memory_refuses_another_network(network, images):
    recipe = {"base": "paper", "memory": "online"}
    memory = OnlineMemory()
    run_episode(network, make_episode(images, recipe, memory=memory))
    with torch.no_grad():
        network.output_block.conv.conv.bias.add_(1)
    with pytest.raises(NetworkError, match=r"reset\(\) first"):
        run_episode(network, make_episode(images, recipe, memory=memory))


def test_online_needs_a_memory_and_episodic_refuses_one():
    with pytest.raises(RecipeError, match="must be an OnlineMemory if and only if"):
        make_episode(torch.rand(1, 1, 4, 4, 4), {"base": "paper", "memory": "online"})
    with pytest.raises(RecipeError, match="must be an OnlineMemory if and only if"):
        make_episode(torch.rand(1, 1, 4, 4, 4), "paper", memory=OnlineMemory())


def test_a_recipe_without_a_step_is_the_source_prediction(network, images):
    outcome = run_episode(network, make_episode(images, "source"))
    assert outcome.reason == "the recipe takes no step"
    assert outcome.weights_after == outcome.weights_restored == outcome.source.weights
    assert torch.equal(outcome.logits, INFERER(images, network).detach())


@pytest.mark.parametrize("views", [["identity", "flip:0"], ["identity", "scale:1.25", "flip:0,1"]])
def test_prediction_views_are_averaged_as_probabilities_where_they_saw(network, images, views):
    recipe = {"base": "source", "prediction_views": views}
    outcome = run_episode(network, make_episode(images, recipe))
    total, seen = 0.0, 0.0
    for view in map(parse_view, views):
        with torch.no_grad():
            maps = INFERER(view.apply(images), network).softmax(1)
        coverage = view.coverage(images.shape[2:])
        total, seen = total + view.invert(maps) * coverage, seen + coverage
    torch.testing.assert_close(outcome.logits.softmax(1), total / seen)


def test_a_network_in_training_mode_predicts_in_evaluation_mode_and_stays_in_training(
    network, images
):
    expected = run_episode(network, make_episode(images)).source.logits
    network.train()
    outcome = run_episode(network, make_episode(images))
    assert torch.equal(outcome.source.logits, expected)
    assert all(module.training for module in network.modules())


def test_adaptation_sees_windows_not_the_volume(network):
    large = torch.rand(1, 1, 64, 64, 32)
    outcome = run_episode(network, make_episode(large))
    assert outcome.patches.roi_size == (16, 16, 8)
    assert 1 <= len(outcome.patches.starts) <= 2


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.* is deprecated:DeprecationWarning")
def test_torchscript_is_refused_with_a_remedy(network):
    with pytest.raises(NetworkError, match=r"model.pt into network_def instead of model.ts"):
        copy_network(torch.jit.trace(torch.nn.Conv3d(1, 1, 1), torch.rand(1, 1, 4, 4, 4)))


# ------------------------------------------------------------------------------- magnified views

LOOKS = {
    "base": "clinical",
    "focus_views": ["identity", "scale:1.3:0,1"],
    "source_below": 0.0,
    "calibrated_for": None,
}


def set_neighbours(monkeypatch, before, after):
    """Let the first multi-scale prediction that is asked have one value, every other the next."""
    asked = []

    def neighbours(prediction, weights):
        asked.append(id(prediction))
        return before if asked[0] == id(prediction) else after

    monkeypatch.setattr(MultiscalePrediction, "neighbours", neighbours)


def test_magnified_views_change_the_prediction_about_the_organ_alone(network, images):
    outcome = run_episode(network, make_episode(images, {**LOOKS, "steps": 0}))
    assert outcome.decision.selected == "views"
    assert not outcome.is_adapted
    assert outcome.source.weights == outcome.weights_after
    seen = outcome.organ.prediction.seen.expand_as(outcome.logits) > 0
    assert not torch.equal(outcome.logits[seen], outcome.source.logits[seen])
    expected = outcome.organ.prediction.maps
    torch.testing.assert_close(outcome.logits.softmax(1)[seen], expected[seen])


def test_a_single_piece_leaves_nothing_where_no_window_looked(network):
    images = torch.zeros(1, 1, 96, 64, 8)
    images[..., 20:32, 20:32, 2:6] = 1.0
    images[..., 84:88, 20:24, 2:6] = 1.0  # another piece, far away

    def predict(x, _):
        organ = bright(x, 0.5, 2)
        return torch.cat([torch.zeros_like(organ), 20 * organ - 10], 1)

    recipe = {**LOOKS, "focus_views": ["identity", "scale:0.9:0,1"], "steps": 0}
    episode = make_episode(images, recipe, predict=predict)
    usual = run_episode(network, episode)
    single = run_episode(network, replace(episode, single_piece=True))
    seen = usual.organ.prediction.seen[0, 0] > 0
    assert not bool(seen[80:].any())
    assert bool((usual.logits.argmax(1)[0, 80:] > 0).any())
    assert not bool((single.logits.argmax(1)[0] > 0)[~seen].any())
    assert torch.equal(single.logits[..., seen], usual.logits[..., seen])
    assert bool((single.logits.argmax(1)[0] > 0)[seen].any())


def test_too_little_agreement_keeps_the_average_of_mirrored_predictions(network, images):
    outcome = run_episode(network, make_episode(images, {**LOOKS, "source_below": 1.0}))
    with torch.no_grad():
        mirrored = INFERER(images.flip(2), network).flip(2).softmax(1)
    mean = (outcome.source.logits.softmax(1) + mirrored) / 2
    assert (outcome.decision.quality, outcome.decision.selected) == ("red", "mirrored")
    assert torch.allclose(outcome.logits.softmax(1), mean, atol=1e-6)
    assert outcome.reason == ""
    assert "magnified views agree too little" in outcome.decision.reason
    assert outcome.source.weights == outcome.weights_after
    assert not outcome.is_adapted


def test_where_mirrored_predictions_find_nothing_the_source_is_kept_to_the_byte(network, images):
    def predict(x, net):
        logits = INFERER(x, net)
        is_mirrored = torch.equal(x, images.flip(2))
        return torch.cat([logits[:, :1] + 100 * is_mirrored, logits[:, 1:]], 1)

    recipe = {**LOOKS, "source_below": 1.0}
    outcome = run_episode(network, make_episode(images, recipe, predict=predict))
    assert (outcome.decision.quality, outcome.decision.selected) == ("red", "source")
    assert torch.equal(outcome.logits, outcome.source.logits)
    assert outcome.reason.startswith("magnified views agree too little")
    assert outcome.source.weights == outcome.weights_after


def test_nothing_found_is_red_and_costs_no_step(network, images):
    def predict(x, net):
        logits = INFERER(x, net)
        return torch.cat([logits[:, :1] + 100, logits[:, 1:]], 1)

    outcome = run_episode(network, make_episode(images, LOOKS, predict=predict))
    assert outcome.decision.quality == "red"
    assert "found nothing" in outcome.reason
    assert outcome.steps == ()
    assert torch.equal(outcome.logits, outcome.source.logits)


@pytest.mark.parametrize("margin", [-1.0, 1.0])
def test_before_any_step_mirrored_views_must_agree_better_than_the_mirrored_image(
    network, images, margin
):
    outcome = run_episode(network, make_episode(images, {**LOOKS, "mirror_margin": margin}))
    with torch.no_grad():
        mirrored = INFERER(images.flip(2), network).flip(2).argmax(1)
    source = outcome.source.logits.argmax(1)
    whole = 2 * (source * mirrored).sum() / (source + mirrored).sum()
    look = outcome.organ.prediction
    views = sum(w * own for w, (own, _) in zip(look.weights, look.scores, strict=True))
    assert outcome.mirrored_whole == pytest.approx(whole.item(), abs=1e-6)
    assert look.mirrored == pytest.approx(views, abs=1e-6)
    (score, *_) = outcome.decision.scores
    assert (score.name, score.threshold) == ("mirror_gain", margin)
    assert score.value == pytest.approx(views - whole.item(), abs=1e-6)
    is_kept = margin == 1.0
    assert (outcome.decision.selected == "mirrored") == is_kept
    assert (outcome.steps == ()) == is_kept
    told = "magnified views did not make the network surer"
    assert (told in outcome.decision.reason) == is_kept


def test_on_other_weights_than_the_calibrated_ones_views_must_make_the_network_surer(
    network, images, monkeypatch
):
    monkeypatch.setattr("grata_monai.adapt.own_statistics._SURER_BY", 2.0)  # never
    own = hash_weights(network)
    free = run_episode(network, make_episode(images, LOOKS))
    asked = run_episode(network, make_episode(images, {**LOOKS, "mirror_margin": 0.01}))
    same = run_episode(network, make_episode(images, {**LOOKS, "calibrated_for": own}))
    other = run_episode(network, make_episode(images, {**LOOKS, "calibrated_for": "0" * 64}))
    assert (free.mirrored_whole, same.mirrored_whole) == (None, None)
    assert other.mirrored_whole == asked.mirrored_whole is not None
    assert other.recipe.guard.mirror_margin == 0.01  # what ran, not what was asked for
    assert same.recipe.guard.mirror_margin is None
    assert torch.equal(same.logits, free.logits)
    assert torch.equal(other.logits, asked.logits)


def test_a_source_that_found_nothing_agrees_with_nothing(network, lost):
    search = {**SEARCH, "search_views": ["scale:0.5:0,1"], "source_below": 0.0}
    recipe = {**search, "mirror_margin": 0.01}
    episode = make_episode(lost, recipe, predict=finds_small_organs_or_nothing)
    outcome = run_episode(network, episode)
    assert outcome.mirrored_whole == 0.0
    assert outcome.decision.selected == "views"


@pytest.mark.parametrize("is_better", [True, False])
def test_the_guard_decides_whether_the_moved_weights_predict(
    network, images, monkeypatch, is_better
):
    set_neighbours(monkeypatch, 0.5, 0.6 if is_better else 0.4)
    outcome = run_episode(network, make_episode(images, LOOKS))
    before, after = outcome.organ.prediction, outcome.after.prediction
    assert outcome.decision.selected == ("adapted" if is_better else "views")
    assert outcome.is_adapted == is_better
    assert (outcome.weights_after != outcome.source.weights) == is_better
    chosen = after if is_better else before
    assert not torch.equal(before.maps, after.maps)
    seen = chosen.seen.expand_as(chosen.maps) > 0
    torch.testing.assert_close(outcome.logits.softmax(1)[seen], chosen.maps[seen])


@pytest.mark.parametrize("refused", [{"adapted"}, {"adapted", "views"}])
def test_where_steps_moved_the_mask_elsewhere_the_views_may_still_be_kept(
    network, images, monkeypatch, refused
):
    def hold(decision, *_):
        if decision.selected not in refused:
            return decision
        return replace(decision, selected=Selected.SOURCE, reason="kept source: elsewhere")

    set_neighbours(monkeypatch, 0.5, 0.6)
    monkeypatch.setattr("grata_monai.adapt.own_statistics._SURER_BY", 2.0)  # never
    monkeypatch.setattr("grata_monai.adapt.settle.hold_in_place", hold)
    recipe = {**LOOKS, "calibrated_for": "0" * 64, "mirror_margin": -1.0}
    outcome = run_episode(network, make_episode(images, recipe))
    before, after = outcome.organ.prediction, outcome.after.prediction
    assert not torch.equal(before.maps, after.maps)
    assert not outcome.is_adapted
    assert outcome.weights_after == outcome.source.weights
    if "views" in refused:
        assert outcome.decision.selected in {"source", "mirrored"}
        return
    assert outcome.decision.selected == "views"
    assert outcome.decision.reason.startswith("averaged magnified views; ")
    assert "; the steps moved it elsewhere" in outcome.decision.reason
    seen = before.seen.expand_as(before.maps) > 0
    torch.testing.assert_close(outcome.logits.softmax(1)[seen], before.maps[seen])


def test_a_refused_online_case_leaves_no_trace_in_the_memory(network, images, monkeypatch):
    memory = OnlineMemory()
    set_neighbours(monkeypatch, 0.5, 0.4)
    recipe = {**LOOKS, "memory": "online"}
    run_episode(network, make_episode(images, recipe, memory=memory))
    assert hash_weights(memory.state.network) == hash_weights(network)
    assert memory.state.adapter.optimizer.state_dict()["state"] == {}


def test_statistics_of_the_image_count_as_adapted_even_where_the_guard_refuses_the_step(
    network, images, monkeypatch
):
    set_neighbours(monkeypatch, 0.5, 0.4)
    outcome = run_episode(network, make_episode(images, {**LOOKS, "image_share": 0.5}))
    assert outcome.decision.selected == "views"
    assert outcome.is_adapted


# -------------------------------------------------------------------------- an organ that was lost


def bright(images: torch.Tensor, least: float, most: float) -> torch.Tensor:
    return ((images >= least) & (images < most)).float()


def knows_small_organs_only(images: torch.Tensor, _: torch.nn.Module) -> torch.Tensor:
    """Mark what is brighter than .75, if it is at most 8 voxels wide; else something else, askew.

    A stand-in for a network that has never seen so large an organ.
    """
    organ = bright(images, 0.75, 2)
    width = int(organ.amax((1, 3, 4)).sum(1).max())
    if width > 8:
        organ = bright(images, 0.3, 0.75).roll(4, 2)  # mirrored predictions cannot agree
    return torch.cat([torch.zeros_like(organ), 20 * organ - 10], 1)


def finds_small_organs_or_nothing(images: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
    """The same, but it marks nothing where the organ is larger."""
    logits = knows_small_organs_only(images, network)
    width = int(bright(images, 0.75, 2).amax((1, 3, 4)).sum(1).max())
    return torch.cat([logits[:, :1] + 100 * (width > 8), logits[:, 1:]], 1)


@pytest.fixture
def lost() -> torch.Tensor:
    """An organ 12 voxels wide, and something darker far from it."""
    images = torch.zeros(1, 1, 64, 64, 8)
    images[..., 20:32, 20:32, 2:6] = 1.0
    images[..., 56:60, 56:60, 2:6] = 0.5
    return images


SEARCH = {**LOOKS, "focus_views": ["scale:0.5:0,1", "scale:0.6:0,1"], "steps": 0}


def test_an_organ_that_the_first_pass_lost_is_found_at_another_scale(network, lost):
    search = {**SEARCH, "search_views": ["scale:0.5:0,1"], "source_below": 0.8}
    outcome = run_episode(network, make_episode(lost, search, predict=knows_small_organs_only))
    truth = bright(lost, 0.75, 2)[:, 0] > 0
    assert not bool(outcome.source.logits.argmax(1).bool()[truth].any())
    assert outcome.organ.found_by == "scale:0.5:0,1"
    assert outcome.decision.selected == "views"
    assert "organ found anew in the whole image at scale:0.5:0,1" in outcome.decision.reason
    found = outcome.logits.argmax(1) > 0
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert dice > 0.8


def test_without_search_the_lost_organ_stays_lost_and_the_light_is_red(network, lost):
    recipe = {**SEARCH, "search_views": [], "source_below": 0.8}
    outcome = run_episode(network, make_episode(lost, recipe, predict=knows_small_organs_only))
    assert (outcome.decision.quality, outcome.organ.found_by) == ("red", "identity")
    assert outcome.reason.startswith("adapted prediction must not be empty")
    assert torch.equal(outcome.logits, outcome.source.logits)


def test_where_views_agree_nothing_is_searched(network, images):
    calls = []

    def predict(x, net):
        calls.append(x)
        return INFERER(x, net)

    recipe = {**LOOKS, "steps": 0, "search_views": ["scale:0.6:0,1"]}
    counts = []
    for limit in (0.0, 1.0):
        calls.clear()
        run_episode(
            network, make_episode(images, {**recipe, "search_below": limit}, predict=predict)
        )
        counts.append(len(calls))
    look = 2  # one magnification fits, mirrored and not
    assert counts == [1 + look, 1 + look + 1 + look]


def test_a_pass_that_found_nothing_is_searched_too(network, lost):
    search = {**SEARCH, "search_views": ["scale:0.5:0,1"], "source_below": 0.0}
    episode = make_episode(lost, search, predict=finds_small_organs_or_nothing)
    outcome = run_episode(network, episode)
    assert not bool((outcome.source.logits.argmax(1) > 0).any())
    assert outcome.organ.found_by == "scale:0.5:0,1"
    assert bool((outcome.logits.argmax(1) > 0).any())


class Stopwatch:
    """A clock that moves only when it is told to, or by one second whenever it is read."""

    def __init__(self, *, moves_when_read=False):
        self.seconds, self.moves_when_read = 0.0, moves_when_read

    def __call__(self):
        self.seconds += self.moves_when_read
        return self.seconds


def run_timed(images, network, recipe, limit, watch):
    """Every pass through the whole image or a magnified window takes one second."""

    def predict(part, net):
        watch.seconds += 1
        return INFERER(part, net)

    settings = {**recipe, "time_limit_s": limit}
    return run_episode(network, make_episode(images, settings, predict=predict, clock=watch))


def test_within_the_time_limit_nothing_changes(network, images):
    free = run_timed(images, network, LOOKS, None, Stopwatch())
    timed = run_timed(images, network, LOOKS, 1000, Stopwatch())
    assert torch.equal(timed.logits, free.logits)
    assert (timed.reason, timed.decision, timed.steps) == (free.reason, free.decision, free.steps)


def test_over_the_time_limit_no_pass_begins_and_the_source_is_kept(network, images):
    before = hash_weights(network)
    watch = Stopwatch()
    outcome = run_timed(images, network, LOOKS, 2.5, watch)
    assert watch.seconds == 1 + 3  # the source pass is not counted; the third look goes over
    assert torch.equal(outcome.logits, outcome.source.logits)
    assert outcome.reason.startswith("adaptation must end within time_limit_s, 2.5 s, it did not.")
    assert (outcome.decision.quality, outcome.decision.selected) == ("red", "source")
    assert outcome.weights_after == outcome.weights_restored == before


def test_the_time_limit_ends_adaptation_between_two_steps(network, images):
    recipe = {**WHOLE, "steps": 5, "min_cosine": None}
    outcome = run_timed(images, network, recipe, 2.5, Stopwatch(moves_when_read=True))
    assert len(outcome.steps) == 2
    assert not outcome.is_adapted
    assert torch.equal(outcome.logits, outcome.source.logits)


def test_over_the_time_limit_a_recipe_may_ask_for_an_error(network, images):
    recipe = {**LOOKS, "on_failure": "raise"}
    with pytest.raises(AdaptationError, match=r"time_limit_s, 0\.5 s"):
        run_timed(images, network, recipe, 0.5, Stopwatch())


def test_without_the_guard_the_adapted_prediction_is_kept(network, images):
    strict = {**LOOKS, "source_below": 1.0, "red_below": 1.0}
    with_guard = run_episode(network, make_episode(images, strict))
    without = run_episode(network, make_episode(images, {**strict, "guard": False}))
    assert with_guard.decision.selected == "mirrored"
    assert (without.decision.selected, without.decision.quality) == ("adapted", "red")
    assert not without.reason
    assert without.is_adapted
    assert not torch.equal(without.logits, without.source.logits)


def test_wrapped_weights_are_the_same_weights(network):
    assert hash_weights(torch.nn.DataParallel(network)) == hash_weights(network)


@pytest.mark.parametrize("recipe", [LOOKS, WHOLE], ids=["guarded", "whole image"])
@pytest.mark.parametrize(
    "name", [pytest.param(m, marks=pytest.mark.slow) if m == "n4" else m for m in METHODS]
)
def test_every_method_runs_in_the_same_episode(network, images, recipe, name):
    method = resolve_method(name, resolve_recipe(recipe))
    if name == "shape_moments":
        method = ShapeMoments(ShapePrior((200.0,), ((0.0, 0.0, 0.0),)), steps=2)
    with_heads = add_heads(network, ["denoising", "rotation"]).eval()
    before = hash_weights(with_heads)
    episode = make_episode(images, recipe, method=method)
    first, second = (run_episode(with_heads, episode) for _ in range(2))
    assert first.method == name
    assert torch.equal(first.logits, second.logits)
    assert bool(torch.isfinite(first.logits).all())
    assert first.weights_restored == before == hash_weights(with_heads)
    if recipe is LOOKS:
        assert first.decision.selected in ("views", "adapted")
    can_move = first.parameter_count > 0
    assert bool(first.steps) == (can_move or name in ("dua", "diga"))


def test_a_method_that_the_network_does_not_suit_is_refused_by_name(images):
    instance = UNet(3, 1, 2, (4, 8), (2,), norm="instance").eval()
    with pytest.raises(NothingToAdaptError, match="'dua' must suit the network: UNet has no"):
        run_episode(instance, make_episode(images, method="dua"))


@pytest.mark.parametrize("name", ["tent", "sar", "dltta", "cotta", "tipi", "dua", "diga"])
def test_a_case_that_the_guard_turns_down_leaves_no_trace_in_any_online_method(
    network, images, name
):
    recipe = {**LOOKS, "memory": "online"}
    strict = {**recipe, "source_below": 1.0}
    network.requires_grad_(True)

    def run(*recipes):
        memory, method = OnlineMemory(), resolve_method(name, resolve_recipe(recipe))
        for number, settings in enumerate(recipes):
            memory.origin = memory.origin and (*memory.origin[:2], digest(settings))
            episode = make_episode(
                images * (1 - 0.1 * number), settings, memory=memory, method=method
            )
            result = run_episode(network, episode)
        return result, memory

    def digest(settings):
        return resolve_recipe(settings).changed(seed=0).digest

    one, kept = run(recipe)
    two, dropped = run(recipe, strict)
    assert one.decision.selected in ("views", "adapted")
    assert two.decision.selected == "mirrored"
    assert hash_weights(dropped.state.network) == hash_weights(kept.state.network)
