"""The guard: which prediction to hand on, and how far to trust it, decided without a label.

It asks the scores of `grata_monai.adapt.scores`, none of which is part of a loss: adaptation sees
one magnification, the guard compares several.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from grata_monai.adapt.profile import Shift, SourceProfile
from grata_monai.adapt.quality import SIGNS, QualityPrediction, doubt_source
from grata_monai.adapt.scores import (
    GUARD_SCORES,
    Evidence,
    GuardScore,
    Quality,
    Score,
    Selected,
    consistency,
)
from grata_monai.adapt.scores.neighbour_gain import neighbours
from grata_monai.adapt.scores.score import write_change
from grata_monai.adapt.settings import GuardSettings

__all__ = [
    "NOTHING_FOUND",
    "NO_MIRRORS",
    "UNGUARDED",
    "Decision",
    "can_pay",
    "choose_kept",
    "decide_after",
    "decide_before",
    "hold_in_place",
    "keep_home",
    "keep_mirrored",
    "keep_own",
    "promise",
]


@dataclass(frozen=True)
class Decision:
    """What the guard decided.

    Attributes:
        quality: Green; amber: low consistency, look closely; red: do not rely on this mask; none:
            the recipe does not ask for a guard.
        selected: The source network's single pass; its average with the mirrored ones; the
            magnified views' average with the weights from before adaptation; or with the adapted
            weights.
        reason: In plain words; empty without a guard.
        consistency: Of the prediction at hand, in [0, 1]; None if there is none.
        scores: What was measured, in the order in which it was asked.
    """

    quality: Quality = Quality.NONE
    selected: Selected = Selected.NOTHING
    reason: str = ""
    consistency: float | None = None
    scores: tuple[Score, ...] = ()


_SAME_PLACE = 0.65  # Dice with the source's mask; decision 34
_UNSURE = 0.45  # mean entropy inside a mask, of 1; decision 39
_STEPS_ADD = 0.05  # the most of predicted gain that steps may make up
_MIRRORED_FROM = 0.8  # Dice; what differs more from the source's is another mask, not a better one

UNGUARDED = Decision()
"""Of a case without multi-scale prediction, which is what the guard compares."""

NOTHING_FOUND = Decision(Quality.RED, Selected.SOURCE, "kept source: the network found nothing")
"""Of a case in which no pass marked anything, neither of the whole image nor of a region."""

NO_MIRRORS = Decision(
    Quality.AMBER,
    Selected.SOURCE,
    "kept source: the network takes no mirrored views, by which the guard sees whether looking "
    "closer helps; calibrate a recipe for it",
)
"""Of a network without mirrored views, for which nobody has chosen the guard's limits."""


def decide_before(
    evidence: Evidence,
    settings: GuardSettings,
    scores: tuple[GuardScore, ...] = GUARD_SCORES,
) -> Decision | None:
    """Decide before anything is adapted, by the early scores.

    Args:
        evidence: Without `after`.
        settings: Of the guard. Its limit for the source's consistency does not count yet:
            adaptation may lift a case above it.
        scores: Every score.

    Returns:
        The decision to keep the source; None to go on.
    """
    found = _ask([score for score in scores if score.is_early], evidence, settings)
    if found.rule is None:
        return None
    return _flag(found, replace(settings, source_below=0.0))


def decide_after(
    evidence: Evidence,
    settings: GuardSettings,
    scores: tuple[GuardScore, ...] = GUARD_SCORES,
    *,
    found_by: str = "identity",
) -> Decision:
    """Choose between the source, the views and the adapted prediction, and set the quality flag.

    Args:
        evidence: Before and, if anything was adapted, after adaptation.
        settings: Of the guard; if it is not binding, what adaptation made is kept in any case.
        scores: Every score; the early ones are recorded again, but have been decided before.
        found_by: View of the whole image on which the organ was found.

    Returns:
        The decision.
    """
    early = _ask([score for score in scores if score.is_early], evidence, settings)
    found = _ask([score for score in scores if not score.is_early], evidence, settings)
    found = replace(found, scores=early.scores + found.scores)
    if found_by != "identity" and found.selected is not Selected.SOURCE:
        where = f"; organ found anew in the whole image at {found_by}"
        found = replace(found, reason=found.reason + where)
    return _flag(found, settings)


def keep_home(shift: Shift, signs: Mapping[str, float], profile: SourceProfile) -> Decision | None:
    """Keep the source prediction of a case like those at home: there is nothing to adapt.

    Args:
        shift: Of the case.
        signs: Of the source prediction.
        profile: Of the source cases.

    Returns:
        The decision; None to go on, which a mask of doubtful quality does too.
    """
    if profile.home_below is None or shift.distance > profile.home_below:
        return None
    model = profile.models.get("plain")
    if model is not None and model.predict(signs).dice < profile.home_quality:
        return None
    reason = (
        f"kept source: the case is like source cases, {shift.percentile:.0f} % of them are nearer"
    )
    return Decision(Quality.GREEN, Selected.SOURCE, reason)


def choose_kept(
    decision: Decision,
    signs: Mapping[str, Mapping[str, float]],
    profile: SourceProfile | None,
    *,
    is_home: bool = False,
) -> tuple[Decision, QualityPrediction | None]:
    """Hold a decision to the predicted quality.

    Args:
        decision: What the scores said.
        signs: Of the ``source`` prediction and, if the decision is another one, of ``kept``.
        profile: Of the source cases, if there is one of this network.
        is_home: Whether the case is like those at home: its bound is theirs.

    Returns:
        The decision, which keeps the source if too little would be gained, and the predicted
        quality of what is kept; None without a fitted profile.
    """
    if decision.quality is Quality.NONE or profile is None or not profile.is_fitted:
        return decision, None
    predicted = profile.models["plain"].predict(signs["source"])
    if is_home:
        return decision, replace(predicted, lower=min(profile.home_lower, predicted.dice))
    if "kept" in signs:
        found, doubted = _compare(predicted, signs["kept"], profile)
        predicted = replace(predicted, dice=doubted, lower=min(predicted.lower, doubted))
        gain = found.dice - doubted
        if gain >= profile.gain_above:
            return decision, found
        reason = f"kept source: predicted gain {gain:+.3f} is below {profile.gain_above:.3f}"
        if decision.quality is not Quality.GREEN and decision.consistency is not None:
            reason += f"; magnified views agree to {decision.consistency:.2f} only"
        decision = replace(decision, selected=Selected.SOURCE, reason=reason)
    return decision, predicted


def can_pay(signs: Mapping[str, Mapping[str, float]], profile: SourceProfile | None) -> bool:
    """Whether steps might still make a case gain enough to be kept.

    Args:
        signs: Of the ``source`` prediction and of the magnified views with frozen weights,
            ``kept``.
        profile: Of the source cases, if there is one of this network.

    Returns:
        True without a fitted profile, which alone predicts a gain.
    """
    if profile is None or not profile.is_fitted:
        return True
    source = profile.models["plain"].predict(signs["source"])
    found, doubted = _compare(source, signs["kept"], profile)
    return found.dice - doubted + _STEPS_ADD >= profile.gain_above


def _compare(
    source: QualityPrediction, signs: Mapping[str, float], profile: SourceProfile
) -> tuple[QualityPrediction, float]:
    """Predict the quality of what would be kept, and the source's Dice in the light of it."""
    found = profile.models["kept"].predict(signs)
    return found, doubt_source(source.dice, found.dice, 1 - signs["change"])


def hold_in_place(decision: Decision, overlap: float, agreed_from: float) -> Decision:
    """Let a network that nobody calibrated find the organ elsewhere only where views agree on it.

    Args:
        decision: To keep the views' prediction or the adapted one.
        overlap: Dice of its mask with the source's.
        agreed_from: Consistency of the views that another place takes.

    Returns:
        The decision, or one to keep the source, red: one of the two masks is wrong.
    """
    consistency = decision.consistency or 0.0
    if overlap >= _SAME_PLACE or consistency >= agreed_from:
        return decision
    reason = (
        f"kept source: the magnified views' mask has a Dice of {overlap:.2f} with the source's, "
        f"and they agree to {consistency:.2f} only; nobody has calibrated the guard for this "
        "network"
    )
    return replace(decision, quality=Quality.RED, selected=Selected.SOURCE, reason=reason)


def keep_mirrored(
    decision: Decision,
    signs: Mapping[str, Mapping[str, float]],
    overlap: float,
    profile: SourceProfile | None,
) -> tuple[Decision, QualityPrediction | None]:
    """Keep the average of mirrored predictions where otherwise the source's would be.

    Args:
        decision: To keep the source.
        signs: Of the ``source`` and the ``mirrored`` prediction.
        overlap: Dice of the two masks.
        profile: Of the source cases, if there is one of this network.

    Returns:
        The decision, which is the same if the average cannot be trusted, and the predicted quality
        of what is kept; None without a fitted profile.
    """
    because = decision.reason.removeprefix("kept source: ")
    reason = f"averaged mirrored predictions of the whole image; {because}"
    mirrored = replace(decision, selected=Selected.MIRRORED, reason=reason)
    if profile is None or not profile.is_fitted:
        return (mirrored if overlap >= _MIRRORED_FROM else decision), None
    if profile.mirrored_from is not None and overlap >= profile.mirrored_from:
        return mirrored, profile.models["mirrored"].predict(signs["mirrored"])
    return decision, profile.models["plain"].predict(signs["source"])


def keep_own(decision: Decision, agreement: float, overlap: float, agreed_from: float) -> Decision:
    """Keep the whole image on its own statistics where otherwise the source's prediction would be.

    Args:
        decision: To keep the source.
        agreement: Of the mirrored predictions on these statistics.
        overlap: Dice of their average's mask with the source's.
        agreed_from: Agreement that another place takes.

    Returns:
        The decision; red if the mask lies elsewhere and its mirrored predictions agree too little.
    """
    because = decision.reason.removeprefix("kept source: ")
    reason = (
        "averaged mirrored predictions of the whole image on its own statistics, which agree to "
        f"{agreement:.2f}; {because}"
    )
    is_lost = overlap < _SAME_PLACE and agreement < agreed_from
    quality = Quality.RED if is_lost else Quality.GREEN
    return replace(decision, quality=quality, selected=Selected.MIRRORED, reason=reason)


def promise(
    decision: Decision,
    predicted: QualityPrediction | None,
    profile: SourceProfile | None,
    *,
    is_calibrated: bool,
    entropy: float = 0.0,
) -> Decision:
    """Let the predicted quality lower the quality flag, and say in the reason why.

    Agreement is no proof, and neither is a prediction: each sees what the other does not, so that
    the flag is the worse of both. Where nothing is predicted and nobody has calibrated, a mask that
    the network is unsure of is red, however well magnified views agree on it.

    Args:
        decision: What to keep.
        predicted: Its quality; None without a fitted profile.
        profile: Of the source cases, if there is one of this network.
        is_calibrated: Whether the guard's limits were chosen for this network; else, and without a
            prediction, the flag is not green.
        entropy: Mean inside the mask, in [0, 1]; counts where the flag cannot be green.

    Returns:
        The decision with its flag; as it came if the recipe asks for none.
    """
    if decision.quality is Quality.NONE:
        return decision
    if profile is None or predicted is None:
        if entropy >= _UNSURE and not is_calibrated and decision.quality is not Quality.RED:
            why = f"; {SIGNS['entropy']}, {entropy:.2f} of the most, red from {_UNSURE} on"
            return replace(decision, quality=Quality.RED, reason=decision.reason + why)
        if decision.quality is Quality.GREEN and not is_calibrated:
            why = "; nobody has calibrated the guard for this network, which takes green away"
            return replace(decision, quality=Quality.AMBER, reason=decision.reason + why)
        return decision
    if predicted.lower >= profile.useful_above:
        return decision
    is_red = predicted.dice < profile.useful_above or decision.quality is Quality.RED
    quality = Quality.RED if is_red else Quality.AMBER
    why = (
        f"; predicted Dice {predicted.dice:.2f}, at least {predicted.lower:.2f}: "
        f"{SIGNS[predicted.because]}"
    )
    return replace(decision, quality=quality, reason=decision.reason + why)


@dataclass(frozen=True)
class _Found:
    """What the scores said: the selection, its reason, and the score that changed it last."""

    selected: Selected
    reason: str
    evidence: Evidence
    scores: tuple[Score, ...] = ()
    rule: GuardScore | None = None


def _ask(rules: list[GuardScore], evidence: Evidence, settings: GuardSettings) -> _Found:
    """Ask one score after the other; each one below its threshold changes what is selected."""
    selected = Selected.VIEWS if evidence.after is None else Selected.ADAPTED
    found = _Found(selected, _describe(evidence, settings), evidence)
    for rule in rules:
        score = rule(found.evidence, settings)
        if score is None:
            continue
        found = replace(found, scores=(*found.scores, score))
        if not score.is_below:
            continue
        reason = rule.explain(score, found.evidence)
        found = replace(found, selected=rule.selects, reason=reason, rule=rule)
        if rule.selects is Selected.SOURCE:
            break
        found = replace(found, evidence=replace(evidence, after=None))
    return found


def _describe(evidence: Evidence, settings: GuardSettings) -> str:
    pair = neighbours(evidence)
    reason = "averaged magnified views"
    if pair is not None:
        how = "at least as well" if pair[1] >= pair[0] else "less"
        reason = f"adapted: views agree {how} after adaptation, {write_change(*pair)}"
    return reason + ("" if settings.is_binding else "; kept without asking the guard")


def _flag(found: _Found, settings: GuardSettings) -> Decision:
    """Set the quality flag by consistency, and say in the reason why it is not green."""
    value = min(found.evidence.at_hand.consistency, 1.0)
    decision = Decision(Quality.GREEN, found.selected, found.reason, value, found.scores)
    # without a binding guard the limit for the source's consistency still means red
    red_below = max(settings.red_below, settings.source_below)
    if value < red_below:
        low = f"; too little agreement to rely on, {value:.2f} < {red_below:.2f}"
        # where the source was kept for its low consistency, the reason says so already
        reason = found.reason + ("" if found.rule is consistency.SCORE else low)
        return replace(decision, quality=Quality.RED, reason=reason)
    if value < settings.amber_below:
        low = f"; low agreement, {value:.2f} < {settings.amber_below:.2f}"
        return replace(decision, quality=Quality.AMBER, reason=found.reason + low)
    return decision
