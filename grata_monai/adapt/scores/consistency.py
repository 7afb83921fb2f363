"""Consistency: how well predictions at several magnifications, mirrored and not, overlap.

On source cases under scanner shifts it tells useful masks from useless ones.
"""

from grata_monai.adapt.scores.score import Evidence, GuardScore, Score, Selected

__all__ = ["SCORE"]


def _explain(score: Score, evidence: Evidence) -> str:
    low = f"{score.value:.2f} < {score.threshold or 0:.2f}"
    return f"kept source: magnified views agree too little, {low}"


SCORE = GuardScore(
    name="consistency",
    measure=lambda evidence: min(evidence.at_hand.consistency, 1.0),
    threshold=lambda settings: settings.source_below,
    selects=Selected.SOURCE,
    explain=_explain,
)
"""Below its threshold the source is kept; it also sets the quality flag."""
