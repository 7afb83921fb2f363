"""A control chart's centre and limits are Shewhart's, and a case outside is named."""

import pytest

from grata_monai.report.control import chart_group, render_control
from grata_monai.report.reviews import make_review
from grata_monai.report.rows import Row


def row(number, agreement, *, volume=40.0, group="north"):
    made = f"2026-01-{number:02}T00:00:00+00:00"
    return Row(
        f"c{number:02}", "green", "", agreement=agreement, volume=volume, group=group, made=made
    )


def test_limits_come_from_the_mean_step_between_neighbours():
    agreement, volume = chart_group([row(3, 0.9), row(1, 0.8), row(2, 0.9)], [])
    assert agreement.names == ("c01", "c02", "c03"), "in order of time"
    assert agreement.centre == pytest.approx(2.6 / 3)
    assert agreement.high - agreement.centre == pytest.approx(3 * 0.05 / 1.128)
    assert (volume.low, volume.high, volume.outside) == (40.0, 40.0, ())


def test_a_case_outside_is_named():
    rows = [row(k, 0.9 + 0.01 * (k % 2)) for k in range(1, 22)] + [row(22, 0.4)]
    agreement = chart_group(rows, [])[0]
    assert agreement.outside == ("c22",)
    page = render_control(rows, [])
    assert "Outside of the limits: c22" in page
    assert "north" in page


def test_overrides_are_the_share_of_the_last_ten_not_accepted():
    rows = [row(k, 0.9) for k in range(1, 13)]
    said = [("edit" if k in (1, 12) else "accept", k) for k in range(1, 13)]
    reviews = [
        make_review(
            {"case": f"c{k:02}", "decision": d, "reader": "Ada", "digest": "1"},
            {r.case: r for r in rows},
        )
        for d, k in said
    ]
    chart = chart_group(rows, reviews)[-1]
    assert chart.title.startswith("Share of the last ten")
    assert chart.values[0] == 1
    assert chart.values[9] == pytest.approx(0.1)
    assert chart.values[-1] == pytest.approx(0.1), "the first one has left the ten"
