"""Sizes are what arithmetic gives, tilted frames included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import pdist

from grata_monai.write.pictures.sizes import SegmentSize, measure_segment

SPACING = (3.0, 0.75, 0.5)  # of the fixtures: between frames, rows, columns
# Segment 1 has 3 × 5 × 3 pixels, segment 2 has 2 × 3 × 4 (frames × rows × columns).
EXPECTED = {
    1: (45 * 0.75 * 0.5 * 3 / 1000, np.hypot(5 * 0.75, 3 * 0.5), 9.0),
    2: (24 * 0.75 * 0.5 * 3 / 1000, np.hypot(3 * 0.75, 4 * 0.5), 6.0),
}


@pytest.mark.parametrize("tilt", [0, 15])
@pytest.mark.parametrize("orientation", ["axial", "oblique"])
def test_sizes_follow_from_the_frames_geometry(make_volume, masks, orientation, tilt):
    volume = make_volume(orientation, tilt=tilt)
    spacing = volume.slice_spacing, volume.row_spacing, volume.column_spacing
    assert spacing == pytest.approx(SPACING)
    for number, (volume_ml, long_axis, depth) in EXPECTED.items():
        size = measure_segment(masks, number, spacing=spacing)
        assert size.volume_ml == pytest.approx(volume_ml)
        assert size.volume_ml == pytest.approx(
            size.pixels * abs(np.linalg.det(volume.affine_lps)) / 1000
        )
        assert size.long_axis_mm == pytest.approx(long_axis)
        assert size.depth_mm == pytest.approx(depth)
    assert measure_segment(masks, 3, spacing=spacing) == SegmentSize(0, 0.0, 0.0, 0.0)


def test_one_pixel_is_as_long_as_its_diagonal(masks):
    labels = np.zeros_like(masks)
    labels[2, 3, 4] = 1
    size = measure_segment(labels, 1, spacing=SPACING)
    assert size.long_axis_mm == pytest.approx(np.hypot(0.75, 0.5))
    assert size.depth_mm == pytest.approx(3)


@given(plane=arrays(np.bool_, (12, 10), elements=st.booleans()))
def test_the_long_axis_is_the_longest_distance_between_any_two_corners(plane):
    plane[0, 0] = True
    labels = np.zeros((5, 12, 10), np.uint8)
    labels[2] = plane
    rows, columns = np.nonzero(plane)
    corners = [
        ((r + i) * 0.75, (c + j) * 0.5)
        for r, c in zip(rows, columns, strict=True)
        for i in (0, 1)
        for j in (0, 1)
    ]
    size = measure_segment(labels, 1, spacing=SPACING)
    assert size.long_axis_mm == pytest.approx(pdist(np.array(corners)).max())
