"""Chart agreement, volume and overrides over time, per scanner or centre."""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from grata_monai.report.reviews import Review
from grata_monai.report.rows import Row
from grata_monai.report.templates import fill

__all__ = ["Chart", "chart_group", "render_control"]

FIRST_CASES = 20  # that set the centre and the limits
SIGMAS = 3.0


@dataclass(frozen=True)
class Chart:
    """A control chart of single values (Shewhart's, individuals and moving range).

    Attributes:
        title: What is charted.
        names: Of the cases.
        values: In order of time.
        centre: Mean of the first cases.
        low: Centre less three deviations, as estimated from the mean step between neighbours.
        high: Centre and three deviations.
    """

    title: str
    names: tuple[str, ...]
    values: tuple[float, ...]
    centre: float
    low: float
    high: float

    @property
    def outside(self) -> tuple[str, ...]:
        """Cases beyond the limits."""
        pairs = zip(self.names, self.values, strict=True)
        return tuple(name for name, value in pairs if not self.low <= value <= self.high)

    @property
    def span(self) -> tuple[float, float]:
        """Smallest and largest value to draw, some room about them."""
        shown = (*self.values, self.low, self.high)
        room = 0.05 * (max(shown) - min(shown)) or 0.5
        return min(shown) - room, max(shown) + room


def chart_group(rows: Sequence[Row], reviews: Iterable[Review]) -> list[Chart]:
    """Chart one scanner's cases.

    Args:
        rows: Its cases.
        reviews: Of any cases; the last one of each case counts.

    Returns:
        Charts of agreement, volume, and overrides as the share of the last ten reviewed cases that
        were not accepted; those that have at least two values.
    """
    ordered = sorted(rows, key=lambda row: (row.made, row.case))
    last = {review.case: review for review in reviews}
    agreement = [(row.case, row.agreement) for row in ordered if row.agreement is not None]
    volume = [(row.case, row.volume) for row in ordered if row.volume is not None]
    refused = [
        (row.case, last[row.case].decision != "accept") for row in ordered if row.case in last
    ]
    overrides = [
        (case, statistics.fmean(flag for _, flag in refused[max(0, k - 9) : k + 1]))
        for k, (case, _) in enumerate(refused)
    ]
    titled = {
        "Agreement of the views": agreement,
        "Volume, mL": volume,
        "Share of the last ten reviewed masks that were edited or rejected": overrides,
    }
    return [_chart(title, points) for title, points in titled.items() if len(points) > 1]


def render_control(rows: Iterable[Row], reviews: Sequence[Review]) -> str:
    """Make the page with every group's charts."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.light != "refused":
            groups[row.group].append(row)
    charts = {name: chart_group(found, reviews) for name, found in sorted(groups.items())}
    return fill("control.html.j2", groups=charts, reviews=reviews, first=FIRST_CASES)


def _chart(title: str, points: Sequence[tuple[str, float]]) -> Chart:
    names, values = zip(*points, strict=True)
    first = values[:FIRST_CASES]
    steps = [abs(b - a) for a, b in itertools.pairwise(first)]
    deviation = statistics.fmean(steps) / 1.128  # d2 of two values
    centre = statistics.fmean(first)
    reach = SIGMAS * deviation
    return Chart(title, names, values, centre, centre - reach, centre + reach)
