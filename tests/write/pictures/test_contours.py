"""Outlines enclose the centres of their pixels and no others, holes and touching corners too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.path import Path as Polygon
from scipy import ndimage

from grata_monai.write.pictures.contours import area, trace_regions, trace_rings

planes = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.booleans())
solid_planes = planes.map(ndimage.binary_closing)  # fewer specks, more holes


def fill(ring, shape):
    """Pixels whose centres lie within a closed line, by matplotlib."""
    centres = np.stack(np.indices(shape), axis=-1).reshape(-1, 2)
    return Polygon(np.vstack([ring, ring[:1]]), closed=True).contains_points(centres).reshape(shape)


def test_a_block_has_the_outline_of_a_block_with_cut_corners():
    plane = np.zeros((5, 6), dtype=bool)
    plane[1:4, 1:5] = True
    (ring,) = trace_regions(plane)
    corners = {(0.5, 1), (0.5, 4), (1, 4.5), (3, 4.5), (3.5, 4), (3.5, 1), (3, 0.5), (1, 0.5)}
    assert set(map(tuple, ring.tolist())) == corners
    assert area(ring) == 3 * 4 - 4 * 0.125  # each corner is a triangle with legs of 1/2


def test_a_mask_at_the_edge_of_the_frame_is_outlined_beyond_the_centres_of_its_pixels():
    (ring,) = trace_regions(np.ones((2, 3), dtype=bool))
    assert (ring.min(), ring[:, 0].max(), ring[:, 1].max()) == (-0.5, 1.5, 2.5)


def test_nothing_has_no_outline():
    assert trace_regions(np.zeros((4, 4), dtype=bool)) == []


def test_a_channel_of_no_width_joins_a_hole_to_its_outline():
    plane = np.ones((5, 5), dtype=bool)
    plane[2, 2] = False
    (ring,) = trace_regions(plane)
    assert len(trace_rings(plane)) == 2
    rows, counts = np.unique(ring, axis=0, return_counts=True)
    assert rows[counts == 2].tolist() == [[1.5, -0.5], [1.5, 2.0]]  # both ends are passed twice


@given(planes | solid_planes)
def test_filling_the_regions_gives_the_mask_again(plane):
    filled = [fill(ring, plane.shape) for ring in trace_regions(plane)]
    np.testing.assert_array_equal(np.sum(filled, axis=0, initial=0), plane.astype(int))


@given(planes | solid_planes)
def test_there_is_one_region_for_each_four_connected_component(plane):
    assert len(trace_regions(plane)) == ndimage.label(plane)[1]


@given(planes | solid_planes)
def test_the_area_is_that_of_the_pixels_less_half_a_pixel_for_each_ring(plane):
    rings = trace_rings(plane)
    holes = sum(area(ring) < 0 for ring in rings)
    expected = plane.sum() - 0.5 * (len(rings) - holes) + 0.5 * holes
    assert sum(map(area, trace_regions(plane))) == pytest.approx(expected)


@given(planes | solid_planes)
def test_no_vertex_is_superfluous(plane):
    for ring in trace_regions(plane):
        back, forth = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
        assert (back.any(axis=1)).all()
        turns = back[:, 0] * forth[:, 1] - back[:, 1] * forth[:, 0]
        assert ((turns != 0) | ((back * forth).sum(axis=1) < 0)).all()


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_noisy_frame_is_traced_as_well(share):
    plane = np.random.default_rng(0).random((96, 96)) < share
    filled = [fill(ring, plane.shape) for ring in trace_regions(plane)]
    np.testing.assert_array_equal(np.sum(filled, axis=0), plane.astype(int))
