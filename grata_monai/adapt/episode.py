"""One case from the source network's prediction to the one that is handed on.

Every stage makes a frozen value from those before: source prediction, organ with its multi-scale
prediction, decision, patches, steps, prediction after adaptation, decision. If a stage fails, what
the earlier ones made is still there, and the source prediction is kept.

Nothing has to be restored: an episode works on a private copy of the network, and the copy is
thrown away with it, also after an exception, running out of memory or KeyboardInterrupt. What
shall outlive a case lives in an explicit `OnlineMemory`.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from grata_monai.adapt.deadline import Deadline
from grata_monai.adapt.guard import (
    NO_MIRRORS,
    NOTHING_FOUND,
    UNGUARDED,
    Decision,
    decide_after,
    decide_before,
)
from grata_monai.adapt.localise import localise, predict_organ
from grata_monai.adapt.losses import probabilities, to_logits
from grata_monai.adapt.method import Episode, OnlineMemory, Predict, State
from grata_monai.adapt.network import hash_weights
from grata_monai.adapt.own_statistics import look_whole
from grata_monai.adapt.patches import Patches, cut_patches, plan_patches
from grata_monai.adapt.result import EpisodeResult, SourcePrediction, foreground_size
from grata_monai.adapt.scores import Quality, Selected
from grata_monai.adapt.settle import (
    can_steps_pay,
    find_home,
    is_in_place,
    is_judged,
    keep_source,
    measure,
    measure_source,
    settle,
)
from grata_monai.adapt.several import look_at_parts, plan_parts
from grata_monai.adapt.source import predict_source
from grata_monai.adapt.views import Identity, WeakView, admissible_views, average_views, parse_view
from grata_monai.core.errors import AdaptationError, GrataError, NothingToAdaptError
from grata_monai.core.memory import is_out_of_memory
from grata_monai.core.precision import autocast
from grata_monai.core.types import Logits

__all__ = ["run_episode"]

logger = logging.getLogger(__name__)

_LONGEST = 300  # characters of a foreign error in a reason


def run_episode(network: nn.Module, episode: Episode) -> EpisodeResult:
    """Predict one case with a network adapted to it.

    Args:
        network: The caller's network; not touched.
        episode: The case, and how to run it.

    Returns:
        The prediction and what was done. If adaptation fails and the recipe allows it, the
        prediction is the source network's, and `reason` says why.

    Raises:
        NothingToAdaptError: If the method is undefined for the network, or has nothing to move.
        AdaptationError: If adaptation fails and the recipe says ``raise``.
    """
    # methods alone turn gradients on; resampling under a caller's autocast would be coarse
    with torch.inference_mode(False), torch.no_grad(), autocast(episode.images.device, "fp32"):
        is_given = episode.source is not None
        source, episode = predict_source(network, episode)
        result = EpisodeResult(source, source.logits, episode.recipe, episode.method.name)
        result = measure_source(result, episode)
        is_whole = episode.method.is_source or find_home(result, episode) is not None
        parts = None if is_whole else plan_parts(source, episode)
        if parts is not None:
            del result  # which holds the source's prediction
            _refuse_unsuited(source, episode)
            if parts.footprint.way == "parts":
                logits = source.logits.clone() if is_given else source.logits.new_empty((0, 0))
                source, episode = replace(source, logits=logits), replace(episode, source=None)
                del logits
            result = look_at_parts(network, source, episode, parts, run_episode)
            return replace(result, weights_restored=hash_weights(network))
        if episode.method.is_source and episode.recipe.is_single_pass:
            return replace(
                result,
                reason="the recipe takes no step",
                weights_after=source.weights,
                weights_restored=source.weights,
            )
        _refuse_unsuited(source, episode)
        try:
            with _exclusive(episode.memory):
                for done in _stages(result, episode):
                    result = done
        except Exception as error:
            if isinstance(error, GrataError) and not isinstance(error, AdaptationError):
                raise  # what was asked for is wrong, for every case alike
            result = _fall_back(result, error, episode)
        return replace(result, weights_restored=hash_weights(network))


def _refuse_unsuited(source: SourcePrediction, episode: Episode) -> None:
    why_not = episode.method.unsupported(source.network)
    if why_not:
        raise NothingToAdaptError(
            f"method {episode.method.name!r} must suit the network: {why_not} "
            "Choose another method; for GraTa, other parameters in the recipe may do."
        )


def _exclusive(memory: OnlineMemory | None) -> AbstractContextManager[object]:
    return nullcontext() if memory is None else memory.lock


def _stages(result: EpisodeResult, episode: Episode) -> Iterator[EpisodeResult]:
    """Yield what was done after every stage, the last time with the prediction to hand on."""
    clock = time.perf_counter()
    deadline = Deadline.start(episode.recipe.time_limit_s, episode.clock, episode.case_deadline)
    episode = replace(episode, predict=_within(deadline, episode.predict))
    method, state = episode.method, _start(result.source, episode)
    undo = _Undo(state, result, episode)
    try:
        yield (result := _keep_home(_describe_start(result, state), episode))
        if result.is_settled:
            return
        if episode.recipe.multiscale.views:
            yield (result := _predict_organ(result, episode, partial(method.predict, state)))
            if result.is_settled:
                return
        fill_in = partial(_fill_in, result, episode)
        if not result.has_organ or can_steps_pay(result, fill_in, episode):
            patches = _cut_patches(result, episode)
            yield (result := _with_dropped(result, method.dropped_views(state, patches), patches))
            deadline.check()
            for step in method.adapt(state, patches):
                yield (result := replace(result, steps=(*result.steps, step)))
                deadline.check()
        yield (result := _conclude_steps(result, time.perf_counter() - clock))
        clock = time.perf_counter()
        if result.has_organ:
            result = _choose(result, episode, partial(method.predict, state))
        else:
            result = _predict_whole(result, episode, state)
        after = undo.unless_adapted(result)
        seconds = {**result.seconds, "prediction": time.perf_counter() - clock}
        yield replace(result, weights_after=after, seconds=seconds)
        _check(result, episode)
    except BaseException:
        undo()
        raise


def _start(source: SourcePrediction, episode: Episode) -> State:
    if episode.memory is None:
        return episode.method.start(source.network, episode)
    return episode.memory.claim(source.network, episode, source.weights)


class _Undo:
    """The way back to the state before adaptation, for what outlives the case."""

    def __init__(self, state: State, result: EpisodeResult, episode: Episode) -> None:
        is_online = episode.memory is not None
        self.state = state
        self.saved = state.snapshot() if is_online else None
        self.plain = state.fingerprint() if is_online else result.source.weights
        self.foreign = state.fingerprint(with_adapters=True) if state.is_foreign else self.plain

    def __call__(self) -> None:
        """Forget the case, where the state goes on to the next one."""
        if self.saved is not None:
            self.state.restore(self.saved)
            self.saved = None

    def unless_adapted(self, result: EpisodeResult) -> str:
        """Undo the steps if the guard has turned them down; return the hash of what predicted."""
        if result.decision.selected in (Selected.ADAPTED, Selected.NOTHING):
            return self.state.fingerprint(with_adapters=result.is_adapted)
        self()
        return self.foreign if result.is_adapted else self.plain


def _within(deadline: Deadline, predict: Predict) -> Predict:
    """Begin no pass once the time is over."""

    def predict_in_time(images: Tensor, network: nn.Module) -> Tensor:
        deadline.check()
        return predict(images, network)

    return predict_in_time


def _describe_start(result: EpisodeResult, state: State) -> EpisodeResult:
    moving = state.moving
    return replace(
        result,
        groups=() if moving is None else moving.groups,
        parameters=() if moving is None else tuple(moving.named),
        parameter_count=0 if moving is None else moving.count,
        image_statistics=state.image_statistics,
        is_foreign=state.is_foreign,
    )


def _with_dropped(
    result: EpisodeResult, dropped: Mapping[str, str], patches: Patches | None = None
) -> EpisodeResult:
    return replace(
        result,
        patches=patches or result.patches,
        dropped_views={**result.dropped_views, **dropped},
    )


def _keep_home(result: EpisodeResult, episode: Episode) -> EpisodeResult:
    """Keep the source prediction of a case that is like those at home."""
    decision = find_home(result, episode)
    if decision is None:
        return result
    return settle(keep_source(result, decision), episode, is_home=True)


def _predict_organ(
    result: EpisodeResult, episode: Episode, predict: Callable[[Tensor], Logits]
) -> EpisodeResult:
    """Find the organ and predict it with the weights as they are; decide whether to go on."""
    settings = episode.recipe.guard
    if settings.is_binding and settings.mirror_margin is not None:
        if not _has_mirrors(episode):
            return keep_source(result, NO_MIRRORS)
        result = look_whole(result, episode)
    organ = localise(episode, result.source.maps, predict)
    result = replace(_with_dropped(result, organ.dropped), organ=organ)
    if not organ.is_found:
        result = keep_source(result, NOTHING_FOUND)
        return settle(result, episode) if result.own_statistics else result
    if organ.prediction is None or not settings.is_binding:
        return result
    decision = decide_before(result.evidence, settings)
    return result if decision is None else settle(keep_source(result, decision), episode)


def _has_mirrors(episode: Episode) -> bool:
    """Whether the network takes any view but the image itself: the margin compares them."""
    views = [parse_view(name, episode.mirroring) for name in episode.recipe.prediction_views]
    shape = tuple(episode.images.shape[2:])
    return any(not isinstance(v, Identity) and not v.reason_against(shape) for v in views)


def _cut_patches(result: EpisodeResult, episode: Episode) -> Patches:
    """Cut out what adaptation sees: parts of the image, or of its most consistent region."""
    images, maps = episode.images, result.source.maps
    plan = plan_patches(episode.inferer, images.shape[2:])
    if result.organ is not None and result.organ.prediction is not None:
        prediction = result.organ.prediction
        roi = result.organ.rois[prediction.weights.index(max(prediction.weights))]
        images, maps = roi.apply(images), roi.apply(prediction.maps)
    steps = episode.recipe.steps
    return cut_patches(
        images,
        maps,
        plan,
        count=steps.patches,
        rule=steps.patch_rule,
        activation=episode.activation,
    )


def _conclude_steps(result: EpisodeResult, seconds: float) -> EpisodeResult:
    is_adapted = result.has_moved or result.is_foreign
    return replace(result, is_adapted=is_adapted, seconds={"adaptation": seconds})


def _choose(
    result: EpisodeResult, episode: Episode, predict: Callable[[Tensor], Logits]
) -> EpisodeResult:
    """Predict the organ after adaptation too, let the guard choose, fill in the whole image."""
    organ = result.organ
    assert organ is not None, "asked for only where there is one"
    if result.has_moved:
        after = predict_organ(episode, organ, predict)
        result = replace(_with_dropped(result, after.dropped), after=after)
    decide = partial(decide_after, settings=episode.recipe.guard, found_by=organ.found_by)
    evidence = result.evidence
    chosen = _hand_on(result, decide(evidence), episode)
    if chosen.decision.selected is Selected.ADAPTED and not is_in_place(chosen, episode):
        views = decide(replace(evidence, after=None))
        told = replace(views, reason=f"{views.reason}; the steps moved it elsewhere")
        chosen = _hand_on(result, told, episode)
    return settle(chosen, episode)


def _hand_on(result: EpisodeResult, decision: Decision, episode: Episode) -> EpisodeResult:
    """Take the prediction that a decision names."""
    if decision.selected is Selected.SOURCE:
        return keep_source(result, decision)
    is_moved = decision.selected is Selected.ADAPTED
    logits = _fill_in(result, episode, is_moved=is_moved)
    is_adapted = result.is_adapted and (is_moved or result.is_foreign)
    return replace(result, decision=decision, logits=logits, is_adapted=is_adapted)


def _fill_in(result: EpisodeResult, episode: Episode, *, is_moved: bool = False) -> Logits:
    """Put the regions' prediction, before the steps or after them, into the whole image."""
    organ, evidence = result.organ, result.evidence
    assert organ is not None, "asked for only where there is one"
    best = evidence.at_hand if is_moved else evidence.before
    # with one connected piece, the largest one must not lie outside of every region
    outside = _background(result.source) if episode.single_piece else organ.maps
    return to_logits(torch.where(best.seen > 0, best.maps, outside), episode.activation)


def _background(source: SourcePrediction) -> Tensor:
    maps = torch.zeros_like(source.logits)
    if source.activation == "softmax":
        maps[:, 0] = 1
    return maps


def _predict_whole(result: EpisodeResult, episode: Episode, state: State) -> EpisodeResult:
    """Average the method's predictions over the recipe's prediction views of the whole image."""
    shape = tuple(episode.images.shape[2:])
    names = episode.recipe.prediction_views
    views, dropped = admissible_views(
        names, spatial_shape=shape, spacing=episode.spacing, mirroring=episode.mirroring
    )
    images = episode.method.prepare(state, episode.images)

    def predict(view: WeakView) -> Tensor:
        if isinstance(view, Identity) and not result.is_adapted:
            return result.source.logits
        return episode.method.predict(state, view.apply(images))

    if len(views) == 1 and isinstance(views[0], Identity):
        logits = predict(views[0])
    else:
        mean, _ = average_views(
            images, views, lambda view: probabilities(predict(view), episode.activation)
        )
        logits = to_logits(mean, episode.activation)
    signs = dict(result.signs)
    if signs:
        signs["kept"] = measure(result, logits, episode)
    result = replace(_with_dropped(result, dropped), logits=logits, signs=signs)
    if episode.recipe.multiscale.views or not is_judged(episode):
        return result
    selected = Selected.ADAPTED if result.is_adapted else Selected.MIRRORED
    how = "adapted" if result.is_adapted else "averaged mirrored predictions"
    decision = Decision(Quality.GREEN, selected, f"{how}: the whole image, without magnified views")
    return settle(replace(result, decision=decision), episode)


def _check(result: EpisodeResult, episode: Episode) -> None:
    if not episode.is_guarded:
        return
    if not bool(torch.isfinite(result.logits).all()):
        raise AdaptationError("adapted prediction must be finite, got NaN or infinity.")
    activation = result.source.activation
    if foreground_size(result.source.logits, activation) and not foreground_size(
        result.logits, activation
    ):
        raise AdaptationError("adapted prediction must not be empty where the source's is not.")


def _fall_back(result: EpisodeResult, error: Exception, episode: Episode) -> EpisodeResult:
    """Keep the source prediction, or raise as the recipe says: a mask that was made is not lost."""
    if isinstance(error, AdaptationError):
        reason = str(error)
    elif is_out_of_memory(error):
        reason = "out of memory while adapting; fewer windows or weak views need less."
    else:
        logger.warning("adaptation broke off: %s", type(error).__name__, exc_info=True)
        words = " ".join(str(error).split())[:_LONGEST]
        reason = f"adaptation broke off with {type(error).__name__}: {words}"
    if result.recipe.on_failure == "raise":
        raise AdaptationError(reason) from error
    decision = UNGUARDED
    if episode.recipe.multiscale.views or is_judged(episode):
        decision = Decision(Quality.RED, Selected.SOURCE, f"kept source: {reason}")
    return replace(keep_source(result, decision), reason=reason)
