"""A mask is told from the organ by its form, whatever its size and place."""

import numpy as np
import pytest

from grata_monai.adapt.shape import describe_outline, profile_outlines


def ellipsoid(radii, centre=None, shape=(32, 32, 32)):
    centre = centre or [(n - 1) / 2 for n in shape]
    axes = np.indices(shape)
    parts = zip(axes, centre, radii, strict=True)
    return sum(((axis - c) / r) ** 2 for axis, c, r in parts) <= 1


def test_an_outline_says_how_full_each_cell_is():
    mask = np.zeros((20, 24), dtype=bool)
    mask[2:18, 3:19] = True
    mask[2:10, 3:19:2] = False  # every other column of the first half is empty
    outline = describe_outline(mask).reshape(16, 16)
    assert (outline[8:] == 1).all()
    assert (outline[:8, ::2] == 0).all()
    assert (outline[:8, 1::2] == 1).all()


def test_larger_masks_are_averaged_over_cells():
    mask = np.zeros((40, 40), dtype=bool)
    mask[0:32, 0:32] = True
    mask[0, 1] = False
    outline = describe_outline(mask).reshape(16, 16)
    assert outline[0, 0] == pytest.approx(3 / 4)
    assert outline.sum() == pytest.approx(255.75)


@pytest.mark.parametrize("shape", [(9,), (9, 5), (3, 9, 9)])
def test_a_mask_of_any_number_of_axes_and_fewer_voxels_than_cells(shape):
    outline = describe_outline(np.ones(shape, dtype=bool))
    assert (outline == 1).all()
    assert outline.size == {1: 64, 2: 256, 3: 512}[len(shape)]


def test_size_and_place_do_not_count_and_nor_do_smaller_pieces():
    small, large = ellipsoid((8, 6, 4)), ellipsoid((8, 6, 4), (11.5, 19.5, 16.5))
    large[0, 0, :3] = True
    np.testing.assert_array_equal(describe_outline(small), describe_outline(large))


def test_an_empty_mask_has_no_outline():
    assert describe_outline(np.zeros((4, 4, 4), dtype=bool)) is None


@pytest.fixture(scope="module")
def model():
    radii = [(9, 8, 7), (10, 8, 7), (9, 7, 8), (11, 9, 8), (10, 10, 7), (8, 8, 8)]
    outlines = [describe_outline(ellipsoid(r)) for r in radii]
    return profile_outlines([outline for outline in outlines if outline is not None])


def test_another_form_is_far_and_the_same_form_is_not(model):
    assert model.distance(describe_outline(ellipsoid((7, 9, 8)))) <= model.limit
    half = ellipsoid((10, 9, 8))
    half[16:, 16:] = False
    box = np.ones((6, 6, 6), dtype=bool)
    for other in (half, box):
        assert model.distance(describe_outline(other)) > model.limit


def test_distances_are_those_of_labels_left_out(model):
    assert len(model.distances) == 6
    assert list(model.distances) == sorted(model.distances)
    assert min(model.distances) > 0
    assert model.limit == pytest.approx(1.5 * model.distances[-1])


def test_components_are_few_and_of_length_one(model):
    table = np.array(model.components)
    assert len(table) <= 3
    np.testing.assert_allclose(table @ table.T, np.eye(len(table)), atol=2e-3)


def test_the_mean_is_as_near_as_can_be(model):
    assert model.distance(np.array(model.mean)) == 0


def test_a_step_along_a_component_counts_by_its_spread(model):
    along = np.array(model.mean) + np.sqrt(model.variances[0]) * np.array(model.components[0])
    assert model.distance(along) == pytest.approx((1 / len(along)) ** 0.5, rel=1e-2)


def test_equal_labels_still_make_a_model():
    outline = describe_outline(ellipsoid((9, 8, 7)))
    assert outline is not None
    model = profile_outlines([outline] * 3)
    assert model.distance(outline) == pytest.approx(0, abs=0.01)
    assert np.isfinite(model.distance(describe_outline(np.ones((6, 6, 6), dtype=bool))))
