"""Neighbour gain: whether adaptation made neighbouring magnifications overlap better."""

from grata_monai.adapt.scores.score import Evidence, GuardScore, Score, Selected, write_change

__all__ = ["SCORE", "neighbours"]


def neighbours(evidence: Evidence) -> tuple[float, float] | None:
    """Consistency of neighbouring magnifications before and after adaptation, each in [0, 1].

    Both are averaged with the weights from before; None if nothing was adapted.
    """
    if evidence.after is None:
        return None
    weights = evidence.before.weights
    return evidence.before.neighbours(weights), evidence.after.neighbours(weights)


def _measure(evidence: Evidence) -> float | None:
    pair = neighbours(evidence)
    return None if pair is None else pair[1] - pair[0]


def _explain(score: Score, evidence: Evidence) -> str:
    change = write_change(*(neighbours(evidence) or (0.0, 0.0)))
    return f"kept the views: they agree less after adaptation, {change}"


SCORE = GuardScore(
    name="neighbour_gain",
    measure=_measure,
    threshold=lambda settings: 0.0,
    selects=Selected.VIEWS,
    explain=_explain,
)
"""Below its threshold the prediction from before adaptation is kept."""
