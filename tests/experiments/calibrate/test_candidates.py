"""What calibration chooses from, and how its runs become scores."""

import math

import numpy as np
import pytest
from torch import nn

from grata_monai.experiments.calibrate.candidates import (
    CANDIDATES,
    default_candidates,
    make_candidates,
)
from grata_monai.experiments.calibrate.search import to_scores
from grata_monai.experiments.harness.run import Row


@pytest.mark.parametrize(
    ("norm", "has_statistics"),
    [
        (nn.BatchNorm3d(2), True),
        (nn.BatchNorm3d(2, track_running_stats=False), False),
        (nn.InstanceNorm3d(2, affine=True), False),
    ],
)
def test_statistics_are_varied_where_there_are_any(norm, has_statistics):
    found = default_candidates(nn.Sequential(nn.Conv3d(1, 2, 1), norm))
    shares = {name: settings.get("image_share", 0.0) for name, settings in found.items()}
    assert set(CANDIDATES) <= set(found)
    assert set(shares.values()) == ({0.0, 0.3, 1.0} if has_statistics else {0.0})
    assert make_candidates(found).keys() == found.keys()


def test_what_the_guard_read_becomes_scores():
    def make(method, case, dice, agreement=math.nan, mirror_gain=math.nan):
        light = "" if math.isnan(agreement) else "green"
        return Row(
            method,
            case,
            "",
            dice=dice,
            agreement=agreement,
            mirror_gain=mirror_gain,
            light=light,
        )

    rows = [
        (shift, row)
        for shift, dice in (("none", 0.8), ("blur", 0.6))
        for case in ("a", "b")
        for row in (
            make("source", case, dice),
            make("flip", case, dice + 0.1),
            make("views", case, dice + 0.2, 0.9, 0.1 if case == "a" else -0.1),
        )
    ]
    scores, refused = to_scores(rows)
    assert refused == {}
    np.testing.assert_allclose(scores.source, [[0.8, 0.6]] * 2)
    np.testing.assert_allclose(scores.candidates["flip"], [[0.9, 0.7]] * 2)
    assert set(scores.agreements) == set(scores.mirror_gains) == {"views"}
    np.testing.assert_allclose(scores.mirror_gains["views"], [[0.1, 0.1], [-0.1, -0.1]])
