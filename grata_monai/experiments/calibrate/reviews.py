"""Let what readers said about masks raise the limit of the amber light; it never lowers one."""

import math
from collections.abc import Iterable
from dataclasses import replace

from grata_monai.experiments.calibrate.choose import Choice
from grata_monai.report.reviews import Review

__all__ = ["heed_reviews"]

FEWEST = 10  # reviewed masks; fewer say nothing of nine in ten
ACCEPTED = 0.9
STEP = 100  # limits are written with two digits


def heed_reviews(choice: Choice, reviews: Iterable[Review]) -> tuple[Choice, str]:
    """Raise the amber limit until readers accepted nine of ten masks at or above it.

    Args:
        choice: Of `choose`.
        reviews: Of a log; the last one of each case counts, if its agreement is known.

    Returns:
        The choice, its ``amber_below`` raised or as it was, and a sentence for the report.
    """
    last = {review.case: review for review in reviews if review.agreement is not None}
    judged = [(review.agreement or 0.0, review.decision == "accept") for review in last.values()]
    told = f"{sum(is_accepted for _, is_accepted in judged)} of {len(judged)} masks were accepted"
    if math.isnan(choice.amber_below):
        return choice, f"{told}; what was chosen has no guard to set"
    if len(judged) < FEWEST:
        return choice, f"{told}; fewer than {FEWEST} change nothing"
    limits = [limit / STEP for limit in range(STEP + 1)]
    limit = next(limit for limit in limits if _is_trusted(judged, limit))
    if limit <= choice.amber_below:
        return choice, f"{told}; the amber limit stays at {choice.amber_below:.2f}"
    told += f"; the amber limit was raised from {choice.amber_below:.2f} to {limit:.2f}"
    return replace(choice, amber_below=limit), told


def _is_trusted(judged: list[tuple[float, bool]], limit: float) -> bool:
    above = [is_accepted for agreement, is_accepted in judged if agreement >= limit]
    return not above or sum(above) >= ACCEPTED * len(above)
