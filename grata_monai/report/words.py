"""Say in a reader's words what was decided about a case, why, and what to do."""

import re
from dataclasses import dataclass

from grata_monai.adapt.scores import Quality, Score, Selected
from grata_monai.record import Record
from grata_monai.record.types import OutcomeName

__all__ = ["Words", "describe_score", "explain"]

_LIGHTS = {
    Quality.GREEN: "Usable after a normal check",
    Quality.AMBER: "Look closely before use",
    Quality.RED: "Do not rely on this mask",
    Quality.NONE: "Not judged",
}
_ADVICE = {
    Quality.GREEN: "Check the outline as you would check any other, first where the lines part.",
    Quality.AMBER: "Go through every slice, and correct the outline where the lines part.",
    Quality.RED: "Outline the organ by hand, or check that this is the right part and sequence.",
    Quality.NONE: "Nothing has judged this mask: go through every slice.",
}
_SCORES = {
    "mirror_gain": (
        "Do magnified views agree better with their mirror images than the whole image does?",
        "looking closer did not make the network surer of itself",
    ),
    "neighbour_gain": (
        "Do neighbouring magnifications agree better after adaptation?",
        "after adaptation the magnifications agreed less with each other than before",
    ),
    "consistency": (
        "How well do all magnified and mirrored views agree?",
        "the views of this image agree too little to trust a change",
    ),
}
"""Score to the question that it answers, and to what it means below its limit."""
_AVERAGED = "averaged magnified views"  # what was decided says so already
_CLAUSES = {
    r"low agreement, (\S+) < (\S+)": (
        "The views of this image agree to {0} of 1; green asks for {1}."
    ),
    r"too little agreement to rely on, (\S+) < (\S+)": (
        "The views of this image agree to {0} of 1 only; {1} is the least to rely on."
    ),
    r"organ found anew in the whole image at .*": (
        "The first look had not found the organ well; it was found anew in the whole image."
    ),
    r"kept without asking the guard": "The guard was not asked whether to keep it.",
    r"predicted Dice \S+, at least \S+: (.*)": "Its signs speak against this mask: {0}.",
    r"the network was trained on another orientation, which is (\S+); it has (\S+)": (
        "These slices are {1}; the network was trained on {0} ones."
    ),
    r"the network was trained on another body_part, which is (.*); it has another": (
        "The series names another body part than the network's, {0}: check that it is right."
    ),
    r"the network was trained on another description, .*": (
        "The series is described as another sequence than the network's: check that it is right."
    ),
    r"the steps moved it elsewhere": (
        "Adaptation moved the mask to another place, so the mask from before it is shown."
    ),
    r"the network is unsure inside the mask, (\S+) of the most, .*": (
        "The network is unsure inside the mask, {0} of 1."
    ),
    r"nobody has calibrated the guard .*": (
        "Nobody has calibrated the guard for this network, so nothing is green."
    ),
}
"""What a guard's reason may go on with, and how a reader is told."""


@dataclass(frozen=True)
class Words:
    """What a reader is told first.

    Attributes:
        headline: What the light means.
        decided: Which mask this is.
        why: The reason.
        advice: What to do.
    """

    headline: str
    decided: str
    why: str
    advice: str


def explain(record: Record) -> Words:
    """Put a record into words.

    Args:
        record: Of the case.

    Returns:
        Sentences; of numbers, the agreement alone, which the page shows.
    """
    light = record.verdict.light
    is_empty = record.change.final_voxels == 0
    headline = "Nothing was found" if is_empty else _LIGHTS[light]
    main, *clauses = re.split(r"; (?!it has )", record.verdict.reason)
    told = [_why(record, main), *map(_tell_clause, clauses)]
    return Words(headline, _decided(record), " ".join(filter(None, told)), _ADVICE[light])


def describe_score(score: Score) -> str:
    """Say which question a score answers; an unknown one goes by its name."""
    known = _SCORES.get(score.name)
    return known[0] if known else score.name.replace("_", " ")


def _decided(record: Record) -> str:
    if record.outcome == OutcomeName.SOURCE:
        return "This is the original network's mask; nothing was changed."
    if record.outcome == OutcomeName.ADAPTED:
        return "The network was adapted to this image, and this is the adapted mask."
    if record.verdict.kept == Selected.MIRRORED:
        return (
            "The network was not adapted; this is the average of its looks at the mirrored image."
        )
    if record.verdict.kept == Selected.VIEWS or record.views.prediction:
        return "The network was not adapted; this is the average of its looks at several views."
    return "The network was not adapted; this is its mask."


def _why(record: Record, main: str) -> str:
    verdict = record.verdict
    failed = [score for score in verdict.scores if score.is_below]
    if failed:
        score = failed[-1]
        meaning = _SCORES.get(score.name, ("", f"{describe_score(score)} was below its limit"))[1]
        return f"Because {meaning}."
    if record.reason and not verdict.scores:
        return f"Because {record.reason.strip().rstrip('.')}."
    if verdict.light == Quality.NONE:
        return "The recipe asks for no guard."
    if verdict.kept == Selected.ADAPTED and any(s.name == "neighbour_gain" for s in verdict.scores):
        return "Because the magnifications agree at least as well after adaptation as before."
    return "" if main == _AVERAGED else _to_sentence(main)


def _tell_clause(clause: str) -> str:
    """Say one further clause of a guard's reason; an unknown one in its own words."""
    for pattern, sentence in _CLAUSES.items():
        if match := re.fullmatch(pattern, clause):
            return sentence.format(*match.groups())
    return _to_sentence(clause)


def _to_sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""
