"""From what the guard's scores decided to the prediction that is handed on.

With a source profile, predicted quality decides again. Where neither magnified views nor steps are
kept, the average of the network's mirrored predictions may be.
"""

from collections.abc import Callable
from dataclasses import replace

from grata_monai.adapt.guard import (
    Decision,
    can_pay,
    choose_kept,
    hold_in_place,
    keep_home,
    keep_mirrored,
    keep_own,
    promise,
)
from grata_monai.adapt.losses import probabilities
from grata_monai.adapt.method import Episode
from grata_monai.adapt.mirrored import average_mirrored, predict_mirrored
from grata_monai.adapt.result import EpisodeResult, foreground_size, mean_dice
from grata_monai.adapt.scores import Selected
from grata_monai.adapt.signs import measure_entropy, measure_signs
from grata_monai.core.types import Logits

__all__ = [
    "can_steps_pay",
    "find_home",
    "is_in_place",
    "is_judged",
    "keep_source",
    "measure",
    "measure_source",
    "settle",
]


def is_judged(episode: Episode) -> bool:
    """Whether the guard decides what is handed on.

    It compares magnified views; or, of a recipe calibrated without any, it predicts quality.
    """
    guard, profile = episode.recipe.guard, episode.profile
    if not guard.is_binding or episode.recipe.multiscale.views:
        return guard.is_binding
    if profile is None or not profile.is_fitted or guard.calibrated_for != profile.weights:
        return False
    return not profile.models["kept"].compares_views


def _is_predicted(episode: Episode) -> bool:
    """Whether a fitted profile predicts quality, and so gain."""
    return episode.profile is not None and episode.profile.is_fitted


def measure_source(result: EpisodeResult, episode: Episode) -> EpisodeResult:
    """Measure the signs of the source's prediction, if there is a profile of its network."""
    if result.source.shift is None:
        return result
    return replace(result, signs={"source": measure(result, None, episode)})


def find_home(result: EpisodeResult, episode: Episode) -> Decision | None:
    """Decide whether a case is like those at home, and keeps its source mask.

    Args:
        result: With the source's signs, if there is a profile.
        episode: The case at hand.

    Returns:
        The decision; None to go on.
    """
    profile, shift = episode.profile, result.source.shift
    if profile is None or shift is None or not is_judged(episode):
        return None
    if not foreground_size(result.source.logits, result.source.activation):
        return None
    return keep_home(shift, result.signs["source"], profile)


def can_steps_pay(result: EpisodeResult, fill_in: Callable[[], Logits], episode: Episode) -> bool:
    """Decide before the first backward pass whether steps might gain enough to be kept.

    Args:
        result: With the magnified views' prediction, and the source's signs if there is a profile.
        fill_in: Gives what they predict (1, k, *s), with frozen weights; asked only if it counts.
        episode: The case at hand.
    """
    if not (result.signs and _is_predicted(episode) and is_judged(episode)):
        return True
    consistency = result.evidence.before.consistency
    signs = {**result.signs, "kept": measure(result, fill_in(), episode, min(consistency, 1.0))}
    return can_pay(signs, episode.profile)


def measure(
    result: EpisodeResult, logits: Logits | None, episode: Episode, consistency: float | None = None
) -> dict[str, float]:
    """Measure the signs of a prediction.

    Args:
        result: With a shift.
        logits: Of the prediction (1, k, *s); None for the source's own.
        episode: With the profile.
        consistency: Of the magnified views, if it is made of them.

    Returns:
        See `measure_signs`.
    """
    source = result.source
    assert episode.profile is not None
    assert source.shift is not None
    maps = source.maps
    return measure_signs(
        maps if logits is None else probabilities(logits, source.activation),
        None if logits is None else maps,
        images=episode.images,
        spacing=episode.spacing,
        activation=source.activation,
        profile=episode.profile,
        shift=source.shift,
        consistency=consistency,
    )


def keep_source(result: EpisodeResult, decision: Decision) -> EpisodeResult:
    """Hand the source network's prediction on."""
    return replace(
        result,
        decision=decision,
        logits=result.source.logits,
        reason=decision.reason.removeprefix("kept source: "),
        is_adapted=False,
        weights_after=result.weights_after or result.source.weights,
    )


def settle(result: EpisodeResult, episode: Episode, *, is_home: bool = False) -> EpisodeResult:
    """Hold what the scores decided to the predicted quality, and set the quality flag.

    Args:
        result: With the decision of the scores.
        episode: The case at hand.
        is_home: Whether the case is like those at home, so that nothing stands in for the source's.

    Returns:
        The result with the prediction to hand on; as it came if the guard does not decide.
    """
    if not is_judged(episode):
        return result
    result = replace(result, decision=_hold(result, episode))
    signs = dict(result.signs)
    if signs and result.decision.selected is not Selected.SOURCE and "kept" not in signs:
        signs["kept"] = measure(result, result.logits, episode, result.decision.consistency)
    decision, predicted = choose_kept(result.decision, signs, episode.profile, is_home=is_home)
    result = replace(result, signs=signs, decision=decision, predicted=predicted)
    if decision.selected is Selected.SOURCE:
        result = keep_source(result, decision)
        if not is_home:
            result = _mirror(result, episode)
    is_calibrated = bool(result.recipe.is_calibrated(result.source.weights))
    is_unknown = result.predicted is None and not is_calibrated
    maps = probabilities(result.logits, result.source.activation) if is_unknown else None
    flagged = promise(
        result.decision,
        result.predicted,
        episode.profile,
        is_calibrated=is_calibrated,
        entropy=0.0 if maps is None else measure_entropy(maps, result.source.activation),
    )
    result = replace(result, decision=flagged)
    return keep_source(result, flagged) if flagged.selected is Selected.SOURCE else result


def is_in_place(result: EpisodeResult, episode: Episode) -> bool:
    """Whether what a decision kept would not be given up for lying elsewhere than the source's."""
    return _hold(result, episode).selected is result.decision.selected


def _hold(result: EpisodeResult, episode: Episode) -> Decision:
    """Hold the decision to the source's place, on a network for which nobody chose limits."""
    decision = result.decision
    is_foreign = episode.recipe.is_calibrated(result.source.weights) is False
    if decision.selected is Selected.SOURCE or _is_predicted(episode) or not is_foreign:
        return decision
    overlap = mean_dice(result.source.logits, result.logits, result.source.activation)
    return hold_in_place(decision, overlap, episode.recipe.guard.amber_below)


def _mirror(result: EpisodeResult, episode: Episode) -> EpisodeResult:
    """Average mirrored predictions in place of the source's, if that can be trusted."""
    source = result.source
    logits = average_mirrored(result.mirrored or predict_mirrored(source, episode), source)
    if logits is None:
        return result
    signs = dict(result.signs)
    if signs:
        signs["mirrored"] = measure(result, logits, episode)
    overlap = mean_dice(source.logits, logits, source.activation)
    if result.own_statistics:
        agreed_from = episode.recipe.guard.amber_below
        return replace(
            result,
            logits=logits,
            reason="",
            signs=signs,
            decision=keep_own(result.decision, result.mirrored_whole or 0.0, overlap, agreed_from),
            is_adapted=True,
            image_statistics=result.own_statistics,
        )
    decision, predicted = keep_mirrored(result.decision, signs, overlap, episode.profile)
    result = replace(result, signs=signs)
    if decision.selected is Selected.SOURCE:
        return result
    return replace(result, logits=logits, reason="", decision=decision, predicted=predicted)
