"""Shape moments: the prior from label maps, and every term of the loss by hand."""

import math

import pytest
import torch
from method_case import Case, begin, segment
from torch import Tensor, nn

from grata_monai.core.errors import RecipeError
from grata_monai.methods.shape_moments import ShapeMoments, ShapePrior, shape_prior

WHOLE = torch.tensor([[-1.0, 1.0], [-1.0, 1.0]])


def method(prior: ShapePrior, **weights: float) -> ShapeMoments:
    return ShapeMoments(prior=prior, **weights)


def in_both(logits: Tensor) -> list[tuple[Tensor, str]]:
    """The same prediction as sigmoid and as softmax of two channels."""
    return [(logits, "sigmoid"), (torch.cat([torch.zeros_like(logits), logits], 1), "softmax")]


def block(rows: slice, columns: slice) -> Tensor:
    """Certain logits (1, 1, 6, 6): inside in a block, outside elsewhere."""
    logits = torch.full((1, 1, 6, 6), -30.0)
    logits[..., rows, columns] = 30
    return logits


def test_the_prior_holds_mean_sizes_and_centroids_of_the_cases_that_show_a_class():
    one = torch.zeros(1, 1, 5, 3, dtype=torch.int64)
    one[0, 0, 0, :] = 1  # 3 voxels at (0, 1): (-1, 0)
    one[0, 0, 4, 2] = 2  # 1 voxel at (4, 2): (1, 1)
    two = torch.zeros(1, 1, 9, 3, dtype=torch.int64)
    two[0, 0, 4, 2] = 1  # 1 voxel at (4, 2): (0, 1)
    prior = shape_prior([one, two], classes=2)
    assert prior.sizes == (2, 1)
    assert prior.centroids == ((-0.5, 0.5), (1, 1))
    with pytest.raises(RecipeError, match=r"got none with label 3\. Give more"):
        shape_prior([one, two], classes=3)


def test_entropy_and_ratio_of_an_undecided_prediction():
    # p = ½ everywhere: entropy (.9 + .1)·½·log 2; ratio ½ against 1 of 4 voxels
    expected = 0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    adapt = method(ShapePrior((1.0,), ((0.0, 0.0),)))
    for logits, activation in in_both(torch.zeros(1, 1, 2, 2)):
        found = adapt.loss(logits, WHOLE, activation).item()
        assert found == pytest.approx(expected, rel=1e-5)


def test_foreground_weighs_nine_times_the_background_in_the_entropy():
    p = 0.2
    expected = -0.9 * p * math.log(p) - 0.1 * (1 - p) * math.log(1 - p)
    adapt = method(ShapePrior((1.0,), ((0.0, 0.0),)), ratio_weight=0.0)
    for logits, activation in in_both(torch.full((1, 1, 3, 3), math.log(p / (1 - p)))):
        found = adapt.loss(logits, WHOLE, activation).item()
        assert found == pytest.approx(expected, rel=1e-5)


def test_the_centroid_costs_its_squared_distance_in_voxels():
    # rows 0…3 and columns 1…4 of 6: centre at (1.5, 2.5), the prior's at (2.5, 2.5)
    logits = block(slice(0, 4), slice(1, 5))
    adapt = method(ShapePrior((16.0,), ((0.0, 0.0),)), centroid_weight=0.5)
    for maps, activation in in_both(logits):
        assert adapt.loss(maps, WHOLE, activation).item() == pytest.approx(0.5, rel=1e-4)


def test_the_window_s_place_in_the_image_counts():
    # a window of 6 voxels in the second half of 11: voxel i lies at i / 5
    extent = torch.tensor([[0.0, 1.0], [-1.0, 1.0]])
    logits = block(slice(0, 4), slice(1, 5))  # row 1.5 is at .3 of the image
    adapt = method(ShapePrior((16.0,), ((0.3, 0.0),)), centroid_weight=0.5)
    assert adapt.loss(logits, extent, "sigmoid").item() == pytest.approx(0, abs=1e-4)
    adapt = method(ShapePrior((16.0,), ((0.7, 0.0),)), centroid_weight=0.5)
    # .4 of the image are 2 voxels
    assert adapt.loss(logits, extent, "sigmoid").item() == pytest.approx(0.5 * 4, rel=1e-4)


def test_a_centroid_of_few_voxels_does_not_count():
    logits = block(slice(0, 2), slice(0, 5))  # 10 voxels
    adapt = method(ShapePrior((10.0,), ((1.0, 1.0),)), centroid_weight=1.0)
    assert adapt.loss(logits, WHOLE, "sigmoid").item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("size", "direction"), [(2.0, -1), (60.0, 1)])
def test_a_step_moves_the_prediction_towards_the_prior_s_size(size, direction):
    images = torch.rand(1, 1, 4, 4, 4)
    case = Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * 3]),
        source=images,
        predict=lambda images, network: network(images),
        activation="sigmoid",
    )
    prior = ShapePrior((size,), ((0.0, 0.0, 0.0),))
    adapt = ShapeMoments(prior=prior, rate=0.01, weight_decay=0.0, steps=1)
    state = begin(adapt, nn.Sequential(nn.BatchNorm3d(1)).eval(), "sigmoid")
    segment(adapt, case, state)
    assert state.network[0].bias.item() == pytest.approx(direction * 0.01, rel=1e-4)


def test_refusals_and_a_prior_that_does_not_fit():
    assert "shape_prior" in ShapeMoments().unsupported(nn.BatchNorm3d(1))
    prior = ShapePrior((1.0,), ((0.0, 0.0),))
    assert "no normalisation" in method(prior).unsupported(nn.Conv2d(1, 1, 1))
    assert method(prior).unsupported(nn.BatchNorm2d(1)) == ""
    with pytest.raises(RecipeError, match="must describe 1 foreground channels along 3 axes"):
        method(prior).loss(torch.zeros(1, 1, 2, 2, 2), WHOLE, "sigmoid")
    with pytest.raises(RecipeError, match="as many as centroids"):
        ShapePrior((1.0, 2.0), ((0.0, 0.0),))
