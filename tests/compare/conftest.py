"""Rows without a network: what a comparison would have left."""

import pytest

from grata_monai.compare.run import Row


@pytest.fixture
def make_rows():
    """Rows of one method from its Dice per case; cases are numbered, centres alternate."""

    def make(method, scores, *, centres=("north", "south"), seconds=2.0, **given):
        return [
            Row(
                method,
                f"case{i}",
                centres[i % len(centres)],
                dice=dice,
                hd95=10 * (1 - dice),
                assd=1 - dice,
                seconds=seconds,
                peak_bytes=100.0 * seconds,
                **given,
            )
            for i, dice in enumerate(scores)
        ]

    return make
