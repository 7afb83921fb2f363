"""Mirror gain: whether magnification makes the network surer, by its mirrored predictions."""

from grata_monai.adapt.scores.score import Evidence, GuardScore, Score, Selected, write_change

__all__ = ["SCORE"]


def _measure(evidence: Evidence) -> float | None:
    if evidence.mirrored_whole is None:
        return None
    return evidence.before.mirrored - evidence.mirrored_whole


def _explain(score: Score, evidence: Evidence) -> str:
    change = write_change(evidence.mirrored_whole or 0.0, evidence.before.mirrored)
    return (
        "kept source: magnified views did not make the network surer, agreement with its "
        f"mirror image {change}"
    )


SCORE = GuardScore(
    name="mirror_gain",
    measure=_measure,
    threshold=lambda settings: settings.mirror_margin,
    selects=Selected.SOURCE,
    explain=_explain,
    is_early=True,
)
"""Below its threshold the source is kept, and nothing is adapted."""
