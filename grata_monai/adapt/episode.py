"""One case from copy to prediction: first pass, adapt on windows, predict, and leave no trace.

Nothing has to be restored: an episode works on a private copy of the network, and the copy is
thrown away with it, also after an exception, running out of memory or KeyboardInterrupt. What
shall outlive a case lives in an explicit `OnlineMemory`.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from grata_monai.adapt.case import Episode, OnlineMemory, Outcome, Predict
from grata_monai.adapt.deadline import Deadline
from grata_monai.adapt.equivariance import label_map
from grata_monai.adapt.focus import Focus, Look, agreements, locate, look, plan_focus
from grata_monai.adapt.grata import GraTa
from grata_monai.adapt.guard import Verdict, judge
from grata_monai.adapt.losses import probabilities
from grata_monai.adapt.network import choose_activation, copy_network, hash_weights
from grata_monai.adapt.recipe import Recipe
from grata_monai.adapt.views import Identity, WeakView, admissible_views, average_views
from grata_monai.adapt.windows import choose_windows, extract_windows, plan_windows
from grata_monai.core.errors import AdaptationError
from grata_monai.core.precision import autocast
from grata_monai.core.types import Images, Logits

__all__ = ["foreground_size", "is_out_of_memory", "run_episode"]


def run_episode(
    images: Images, network: nn.Module, episode: Episode, *, source: Logits | None = None
) -> Outcome:
    """Predict one case with a network adapted to it.

    Args:
        images: (1, c, *s), one whole case.
        network: The caller's network; not touched.
        episode: How to run.
        source: Logits (1, k, *s) of the network's single pass, if the caller has them.

    Returns:
        The prediction and what was done. If adaptation fails and the recipe allows it, the
        prediction is the source network's, and `reason` says why.

    Raises:
        NothingToAdaptError: If the network has nothing that the recipe wants to move.
        AdaptationError: If adaptation fails and the recipe says ``raise``.
    """
    # the first alone turns gradients on; resampling under a caller's autocast would be coarse
    with torch.inference_mode(False), torch.no_grad(), autocast(images.device, "fp32"):
        images = images.detach().clone() if images.is_inference() else images.detach()
        clock = time.perf_counter()
        is_training = any(module.training for module in network.modules())
        frozen = copy_network(network) if is_training else network
        if source is None:
            source = episode.predict(images, frozen)
        outcome = Outcome(source=source, logits=source)
        outcome.activation = choose_activation(episode.activation, source.shape[1])
        outcome.seconds["source"] = time.perf_counter() - clock
        outcome.weights["before"] = hash_weights(network)
        episode = replace(episode, recipe=episode.recipe.suit(outcome.weights["before"]))
        if episode.recipe.is_source:
            outcome.reason = "the recipe takes no step"
            outcome.weights["after"] = outcome.weights["restored"] = outcome.weights["before"]
            return outcome
        try:
            with _exclusive(episode.memory):
                _adapt_and_predict(images, frozen, episode, outcome)
        except (AdaptationError, RuntimeError, MemoryError) as error:
            _fall_back(outcome, error, episode.recipe)
        outcome.weights["restored"] = hash_weights(network)
    return outcome


def _exclusive(memory: OnlineMemory | None) -> AbstractContextManager[object]:
    return nullcontext() if memory is None else memory.lock


def _adapt_and_predict(
    images: Tensor, network: nn.Module, episode: Episode, outcome: Outcome
) -> None:
    clock = time.perf_counter()
    deadline = Deadline.start(episode.recipe.time_limit_s, episode.clock)
    episode = replace(episode, predict=_within(deadline, episode.predict))
    adapter = _prepare_adapter(images, network, episode, outcome)
    outcome.groups = adapter.moving.groups
    outcome.parameters = tuple(adapter.moving.named)
    outcome.parameter_count = adapter.moving.count
    outcome.image_statistics = adapter.layers_with_image_statistics
    state = adapter.state_dict()
    try:
        if episode.recipe.focus_views and not _look_first(
            images, network, adapter, episode, outcome
        ):
            outcome.logits, outcome.reason = outcome.source, _why_kept(outcome.verdict)
            outcome.weights["after"] = outcome.weights["before"]
            return
        windows, extents = _cut_windows(images, episode, outcome)
        _, dropped = adapter.weak_views(windows)
        outcome.dropped_views |= dropped
        deadline.check()
        for step in adapter.adapt(windows, extents):
            outcome.steps += (step,)
            deadline.check()
        outcome.is_adapted = _is_changed(episode, outcome)
        outcome.seconds["adaptation"] = time.perf_counter() - clock
        clock = time.perf_counter()
        if outcome.focus:
            outcome.logits = _look_again(images, adapter, episode, outcome)
            if outcome.verdict.kept != "adapted":
                adapter.load_state_dict(state)
                outcome.is_adapted = outcome.verdict.kept == "views" and _is_foreign(
                    episode, outcome
                )
        else:
            outcome.logits = _predict_views(images, adapter, episode, outcome)
        added = adapter.moving.adapters if outcome.is_adapted else {}
        outcome.weights["after"] = hash_weights(adapter.network, added)
        outcome.seconds["prediction"] = time.perf_counter() - clock
        _check_prediction(outcome)
    except BaseException:
        adapter.load_state_dict(state)
        raise


def _within(deadline: Deadline, predict: Predict) -> Predict:
    """Begin no pass once the time is over."""

    def predict_in_time(images: Tensor, network: nn.Module) -> Tensor:
        deadline.check()
        return predict(images, network)

    return predict_in_time


def _look_first(
    images: Tensor, network: nn.Module, adapter: GraTa, episode: Episode, outcome: Outcome
) -> bool:
    """Find the organ and look at it with the weights as they are; False to keep the source.

    Where the magnified views agree too little, the organ is searched anew, and the place with the
    best agreement is kept: a pass that lost the organ cannot be mended by looking at its place.
    The source is kept if nothing is found, or if looking closer made nothing surer.
    """
    recipe = episode.recipe
    outcome.whole = probabilities(outcome.source, outcome.activation)
    is_found = _look_about(outcome.whole, "identity", images, adapter, episode, outcome)
    agreement = _trust(outcome.look[0], outcome) if outcome.look else float(is_found)
    if recipe.search_views and agreement < recipe.search_below:
        for name, maps in _search(images, adapter, episode, outcome):
            is_found |= _look_about(maps, name, images, adapter, episode, outcome)
    if not is_found:
        outcome.verdict = judge(None, limits=recipe.limits)
        return False
    if outcome.look and recipe.guard and recipe.mirror_margin is not None:
        best = outcome.look[0]
        whole = _mirror_whole(images, network, episode, outcome)
        outcome.mirrored = whole, best.mirrored
        limits = replace(recipe.limits, source_below=0.0)  # steps may lift a case above that one
        outcome.verdict = judge(best.agreement, mirrored=outcome.mirrored, limits=limits)
        return outcome.verdict.kept != "source"
    return True


def _mirror_whole(images: Tensor, network: nn.Module, episode: Episode, outcome: Outcome) -> float:
    """Agreement of the source's prediction with its mirrored ones; 0 if it found nothing."""
    if not foreground_size(outcome.source, outcome.activation):
        return 0.0
    views, _ = admissible_views(
        episode.recipe.prediction_views,
        spatial_shape=tuple(images.shape[2:]),
        spacing=episode.spacing,
    )
    logits = [
        outcome.source
        if isinstance(view, Identity)
        else view.invert(episode.predict(view.apply(images), network))
        for view in views
    ]
    maps = [probabilities(found, outcome.activation) for found in logits]
    return agreements([maps], [], outcome.activation)[0][0]


def _trust(look: Look, outcome: Outcome) -> float:
    """Agreement, but 0 where the magnified views see nothing: empty masks agree perfectly."""
    return look.agreement if bool(label_map(look.maps, outcome.activation).any()) else 0.0


def _search(
    images: Tensor, adapter: GraTa, episode: Episode, outcome: Outcome
) -> Iterator[tuple[str, Tensor]]:
    """Predict the whole image at other magnifications; background where a view saw nothing."""
    shape = tuple(images.shape[2:])
    views, dropped = admissible_views(
        episode.recipe.search_views, spatial_shape=shape, spacing=episode.spacing
    )
    outcome.dropped_views |= dropped
    for view in views:
        logits = episode.predict(view.apply(images), adapter.network)
        seen = view.coverage(shape, images.device)
        maps = view.invert(probabilities(logits, outcome.activation)) * seen
        if outcome.activation == "softmax":
            maps[:, :1] += 1 - seen
        yield view.name, maps


def _look_about(
    maps: Tensor, name: str, images: Tensor, adapter: GraTa, episode: Episode, outcome: Outcome
) -> bool:
    """Look at what a pass found, and keep it if it agrees better than before; False for nothing."""
    shape = tuple(images.shape[2:])
    location = locate(maps, outcome.activation)
    if location is None:
        return False
    plan = plan_windows(episode.inferer, shape)
    windows, dropped = plan_focus(episode.recipe.focus_views, location, plan, shape)
    outcome.dropped_views |= dropped
    if windows:
        found = _look(images, windows, adapter, episode, outcome)
        if not outcome.look or _trust(found, outcome) > _trust(outcome.look[0], outcome):
            outcome.focus, outcome.look = tuple(windows), (found,)
            outcome.whole, outcome.found_by = maps, name
    return True


def _look_again(images: Tensor, adapter: GraTa, episode: Episode, outcome: Outcome) -> Logits:
    """Look with the adapted weights too, let the guard choose, and put it into the whole image."""
    recipe, best = episode.recipe, outcome.look[0]
    after = _look(images, outcome.focus, adapter, episode, outcome) if outcome.is_adapted else None
    outcome.look += () if after is None else (after,)
    outcome.verdict = judge(
        best.agreement,
        None if after is None else after.agreement,
        neighbours=tuple(look.neighbours(best.weights) for look in (best, after or best)),  # type: ignore[arg-type]
        found_by=outcome.found_by,
        limits=recipe.limits,
        is_binding=recipe.guard,
    )
    if outcome.verdict.kept == "source":
        outcome.reason = _why_kept(outcome.verdict)
        return outcome.source
    if after is not None and outcome.verdict.kept == "adapted":
        best = after
    assert outcome.whole is not None, "set before the first look"
    # whoever keeps the largest piece alone must not find it where nobody looked again
    outside = _background(outcome) if episode.single_piece else outcome.whole
    return _to_logits(torch.where(best.seen > 0, best.maps, outside), outcome.activation)


def _background(outcome: Outcome) -> Tensor:
    maps = torch.zeros_like(outcome.source)
    if outcome.activation == "softmax":
        maps[:, 0] = 1
    return maps


def _why_kept(verdict: Verdict) -> str:
    return verdict.reason.removeprefix("kept source: ")


def _look(
    images: Tensor,
    windows: Sequence[Focus],
    adapter: GraTa,
    episode: Episode,
    outcome: Outcome,
) -> Look:
    views, dropped = admissible_views(
        episode.recipe.prediction_views, spatial_shape=windows[0].size, spacing=episode.spacing
    )
    outcome.dropped_views |= dropped

    def predict(part: Tensor) -> Tensor:
        return probabilities(episode.predict(part, adapter.network), outcome.activation)

    return look(
        images,
        windows,
        views,
        predict,
        activation=outcome.activation,
        sharpness=episode.recipe.focus_sharpness,
    )


def _prepare_adapter(
    images: Tensor, network: nn.Module, episode: Episode, outcome: Outcome
) -> GraTa:
    def build() -> GraTa:
        return GraTa(
            network,
            episode.recipe,
            activation=outcome.activation,
            spacing=episode.spacing,
            image=images,
        )

    if episode.memory is None:
        return build()
    return episode.memory.claim(build, outcome.weights["before"], episode.recipe.digest)


def _cut_windows(images: Tensor, episode: Episode, outcome: Outcome) -> tuple[Tensor, Tensor]:
    """Cut out what adaptation sees: parts of the image, or of its best magnified window."""
    plan = plan_windows(episode.inferer, images.shape[2:])
    maps = probabilities(outcome.source, outcome.activation)
    if outcome.look:
        weights = outcome.look[0].weights
        window = outcome.focus[weights.index(max(weights))]
        images, maps = window.apply(images), window.apply(outcome.look[0].maps)
    outcome.roi_size = plan.roi_size
    outcome.windows = choose_windows(
        maps,
        plan,
        count=episode.recipe.windows,
        rule=episode.recipe.window_rule,
        is_softmax=outcome.activation == "softmax",
    )
    return extract_windows(images, outcome.windows, plan)


def _predict_views(images: Tensor, adapter: GraTa, episode: Episode, outcome: Outcome) -> Logits:
    """Average the adapted network's predictions over the recipe's prediction views."""
    shape = tuple(images.shape[2:])
    names = episode.recipe.prediction_views
    views, dropped = admissible_views(names, spatial_shape=shape, spacing=episode.spacing)
    outcome.dropped_views |= dropped
    images = adapter.adapt_input(images)

    def predict(view: WeakView) -> Tensor:
        if isinstance(view, Identity) and not outcome.is_adapted:
            return outcome.source
        return episode.predict(view.apply(images), adapter.network)

    if len(views) == 1 and isinstance(views[0], Identity):
        return predict(views[0])
    mean, _ = average_views(
        images, views, lambda view: probabilities(predict(view), outcome.activation)
    )
    return _to_logits(mean, outcome.activation)


def _to_logits(maps: Tensor, activation: str) -> Logits:
    return torch.logit(maps, eps=1e-7) if activation == "sigmoid" else maps.clamp_min(1e-7).log()


def _is_changed(episode: Episode, outcome: Outcome) -> bool:
    """Whether the copy may predict otherwise than the source network, by weights or statistics."""
    has_moved = any(step.update_norm > 0 for step in outcome.steps)
    return has_moved or _is_foreign(episode, outcome)


def _is_foreign(episode: Episode, outcome: Outcome) -> bool:
    """Whether the copy may differ from the source network before its first step."""
    return bool(outcome.image_statistics) or episode.memory is not None


def _check_prediction(outcome: Outcome) -> None:
    if not bool(torch.isfinite(outcome.logits).all()):
        raise AdaptationError("adapted prediction must be finite, got NaN or infinity.")
    if foreground_size(outcome.source, outcome.activation) and not foreground_size(
        outcome.logits, outcome.activation
    ):
        raise AdaptationError("adapted prediction must not be empty where the source's is not.")


def foreground_size(logits: Logits, activation: str) -> int:
    """Count the voxels that are not background."""
    if activation == "sigmoid":
        return int((logits > 0).any(1).sum())
    return int((logits.argmax(1) > 0).sum())


def _fall_back(outcome: Outcome, error: BaseException, recipe: Recipe) -> None:
    """Keep the source prediction, or raise as the recipe says; programming errors always raise."""
    if isinstance(error, AdaptationError):
        reason = str(error)
    elif is_out_of_memory(error):
        reason = "out of memory while adapting; fewer windows or weak views need less."
    else:
        raise error
    if recipe.on_failure == "raise":
        raise AdaptationError(reason) from error
    outcome.logits, outcome.reason, outcome.is_adapted = outcome.source, reason, False
    if recipe.focus_views:
        outcome.verdict = Verdict("red", "source", f"kept source: {reason}")
    outcome.weights.setdefault("after", outcome.weights["before"])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
