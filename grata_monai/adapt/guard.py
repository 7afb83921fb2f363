"""The guard: which prediction to hand on, and how far to trust it, decided without a label.

It reads how well predictions at several magnifications of the organ agree (see `focus`). On
source cases under scanner shifts this agreement tells useful masks from useless ones, and it was
never part of a loss: adaptation sees one magnification, the guard compares several.
"""

from dataclasses import dataclass

__all__ = ["Limits", "Verdict", "judge"]


@dataclass(frozen=True)
class Limits:
    """What agreement means.

    Attributes:
        source_below: Agreement below which the source is kept; then the light is red.
        red_below: Agreement below which the light is red, whatever is kept.
        amber_below: Agreement below which the light is amber.
        mirror_margin: How much better mirrored predictions must agree in the magnified views than
            in the whole image, or the source is kept; None if that does not matter.
    """

    source_below: float
    red_below: float
    amber_below: float
    mirror_margin: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What the guard decided.

    Attributes:
        light: ``green``; ``amber``: low agreement, look closely; ``red``: do not rely on this mask;
            ``none``: the recipe does not ask for a guard.
        kept: ``source``: the source network's single pass; ``views``: the magnified views' average
            with the source's weights; ``adapted``: with the adapted weights.
        reason: In plain words; empty without a guard.
        agreement: Of the prediction at hand, in [0, 1]; None if there is none.
    """

    light: str = "none"
    kept: str = ""
    reason: str = ""
    agreement: float | None = None


def judge(
    before: float | None,
    after: float | None = None,
    *,
    neighbours: tuple[float, float] = (1.0, 1.0),
    mirrored: tuple[float, float] = (0.0, 1.0),
    found_by: str = "identity",
    limits: Limits,
    is_binding: bool = True,
) -> Verdict:
    """Choose between the source, the views and the adapted prediction, and set the light.

    Args:
        before: Agreement of the magnified views with the source's weights, in [0, 1]; None if the
            network found nothing, in the whole image or in its magnified views.
        after: The same with the adapted weights; None if nothing was adapted.
        neighbours: How well neighbouring magnifications agree, before and after adaptation. The
            adapted weights are kept only if they agree at least as well.
        mirrored: How well mirrored predictions agree in the whole image and in the magnified views,
            with the source's weights. Without the margin between them, the source is kept.
        found_by: View of the whole image on which the organ was found.
        limits: Of the agreement.
        is_binding: If not, what adaptation made is kept in any case. The light stays.

    Returns:
        The verdict.
    """
    if before is None:
        return Verdict("red", "source", "kept source: the network found nothing")
    change = f"{neighbours[0]:.3f} → {neighbours[1]:.3f}"
    margin = limits.mirror_margin
    if margin is not None and mirrored[1] - mirrored[0] < margin and is_binding:
        agreement, kept = before, "source"
        reason = (
            "kept source: magnified views did not make the network surer, agreement with its "
            f"mirror image {mirrored[0]:.3f} → {mirrored[1]:.3f}"
        )
    elif after is None:
        agreement, kept, reason = before, "views", "averaged magnified views"
    elif neighbours[1] < neighbours[0] and is_binding:
        agreement, kept = before, "views"
        reason = f"kept unadapted weights: views agree less after adaptation, {change}"
    else:
        agreement, kept = after, "adapted"
        how = "at least as well" if neighbours[1] >= neighbours[0] else "less"
        reason = f"adapted: views agree {how} after adaptation, {change}"
    reason += "" if is_binding else "; kept without asking the guard"
    if agreement < limits.source_below and is_binding:
        low = f"{agreement:.2f} < {limits.source_below:.2f}"
        reason = f"kept source: magnified views agree too little, {low}"
        return Verdict("red", "source", reason, agreement)
    if found_by != "identity" and kept != "source":
        reason += f"; organ found anew in the whole image at {found_by}"
    red_below = max(limits.red_below, limits.source_below)  # the latter if nobody was asked above
    if agreement < red_below:
        reason += f"; too little agreement to rely on, {agreement:.2f} < {red_below:.2f}"
        return Verdict("red", kept, reason, agreement)
    if agreement < limits.amber_below:
        reason += f"; low agreement, {agreement:.2f} < {limits.amber_below:.2f}"
        return Verdict("amber", kept, reason, agreement)
    return Verdict("green", kept, reason, agreement)
