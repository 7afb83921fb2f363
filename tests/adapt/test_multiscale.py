"""Looking again: geometry checked against arithmetic, weights against hand-made agreement."""

import math

import pytest
import torch

from grata_monai.adapt.multiscale import (
    OrganLocation,
    ZoomedRoi,
    consistency_scores,
    locate_organ,
    plan_rois,
    predict_rois,
    read_zoom,
    weigh,
)
from grata_monai.adapt.patches import PatchPlan
from grata_monai.adapt.views import Flip, Identity
from grata_monai.core.errors import RecipeError


def ramp(*shape: int) -> torch.Tensor:
    """An image whose value is 100 x + y, so that every interpolated value tells where it lies."""
    x, y = torch.meshgrid(*(torch.arange(n).float() for n in shape), indexing="ij")
    return (100 * x + y)[None, None]


def test_a_window_samples_about_its_centre():
    found = ZoomedRoi("scale:2", (10.0, 6.0), (2.0, 1.0), (4, 3)).apply(ramp(20, 12))
    x = 10 + (torch.arange(4) - 1.5) / 2
    y = 6 + (torch.arange(3) - 1.0)
    torch.testing.assert_close(found[0, 0], 100 * x[:, None] + y, rtol=0, atol=1e-3)


def test_outside_the_image_lie_zeros_or_the_border():
    image = torch.ones(1, 1, 4, 4)
    window = {"name": "identity", "centre": (0.0, 1.5), "factors": (1.0, 1.0), "size": (4, 4)}
    assert float(ZoomedRoi(**window).apply(image)[0, 0, 0].max()) == 0
    assert float(ZoomedRoi(**window, is_constant=False).apply(image).min()) == 1


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.6])
def test_back_on_the_image_grid_every_voxel_is_where_it_was(factor):
    image, window = ramp(24, 20), ZoomedRoi("", (11.0, 9.0), (factor, 1.0), (12, 8))
    back = window.invert(window.apply(image), (24, 20))
    seen = window.coverage((24, 20), "cpu") > 0
    inner = seen.clone()
    inner[:, :, :, :] = seen & (torch.arange(24).sub(11).abs() * factor <= 5.5)[:, None]
    inner &= (torch.arange(20).sub(9).abs() <= 3.5)[None]
    torch.testing.assert_close(back[inner], image[inner], rtol=0, atol=1e-2)
    reach = torch.arange(24).sub(11).abs() * factor <= 6
    assert torch.equal(seen[0, 0].any(1), reach)


def test_the_largest_piece_is_the_organ():
    maps = torch.zeros(1, 2, 12, 10)
    maps[:, 0] = 0.6
    maps[:, 1, 1, 1] = 1.0
    maps[:, 1, 4:9, 3:7] = 1.0
    assert locate_organ(maps, "softmax") == OrganLocation((6.0, 4.5), (5, 4))
    assert locate_organ(maps[:, 1:], "sigmoid") == OrganLocation((6.0, 4.5), (5, 4))
    assert locate_organ(torch.zeros(1, 1, 12, 10), "sigmoid") is None


def test_windows_are_ordered_and_what_does_not_fit_is_named():
    plan, place = PatchPlan((16, 16)), OrganLocation((20.0, 10.0), (8, 8))
    names = ["scale:1.5", "identity", "scale:3:0", "scale:0.5"]
    windows, dropped = plan_rois(names, place, plan, (40, 40))
    assert [window.name for window in windows] == ["scale:0.5", "identity", "scale:1.5"]
    assert set(dropped) == {"scale:3:0"}  # 1.2 · 8 · 3 = 28.8 voxels in a window of 16
    assert "does not fit" in dropped["scale:3:0"]


def test_a_window_grows_for_a_large_organ_but_not_beyond_the_image():
    plan = PatchPlan((16, 16))
    (window,), _ = plan_rois(["identity"], OrganLocation((20.0, 15.0), (25, 28)), plan, (40, 30))
    assert window.size == (30, 30)  # 1.2 · 25, and 1.2 · 28 cut at 30


def test_the_axis_of_slices_is_whole_and_never_magnified():
    plan = PatchPlan((16, 16, 1), slice_axis=2)
    place = OrganLocation((20.0, 20.0, 3.0), (8, 8, 4))
    (window,), _ = plan_rois(["scale:1.5"], place, plan, (40, 40, 9))
    assert window.factors == (1.5, 1.5, 1.0)
    assert window.size == (16, 16, 9)
    assert window.centre == (20.0, 20.0, 4.0)


def test_agreement_is_counted_on_hand_made_masks():
    def mask(*columns: int) -> torch.Tensor:
        maps = torch.zeros(1, 1, 1, 8)
        maps[..., list(columns)] = 1.0
        return maps

    everywhere = torch.ones(1, 1, 1, 8)
    left = everywhere.clone()
    left[..., 4:] = 0
    predictions = [[mask(0, 1), mask(1, 2)], [mask(1, 2, 3, 4), mask(1, 2, 3, 4)], [mask(4)]]
    scores = consistency_scores(predictions, [everywhere, everywhere, left], "sigmoid")
    own, beside = zip(*scores, strict=True)
    assert own == pytest.approx((2 * 1 / 4, 1.0, 1.0))
    # the first's mean is above a half at column 1 alone; the last sees nothing of column 4
    first, second = 2 * 1 / (1 + 4), 0.0
    assert beside == pytest.approx((first, (first + second) / 2, second))


def test_weights_are_a_softmax():
    weights = weigh([(1.0, 0.8), (0.5, 0.5)], 10.0)
    assert sum(weights) == pytest.approx(1)
    assert weights[0] / weights[1] == pytest.approx(math.exp(10 * (0.9 - 0.5)))
    assert weigh([(1.0, 1.0), (0.0, 0.0)], 0.0) == pytest.approx([0.5, 0.5])


def test_regions_are_averaged_by_weight_where_they_saw_the_image():
    images = torch.zeros(1, 1, 12, 12)
    images[..., 4:8, 4:8] = 1.0
    windows = [
        ZoomedRoi("identity", (5.5, 5.5), (1.0, 1.0), (10, 10)),
        ZoomedRoi("scale:2", (5.5, 5.5), (2.0, 2.0), (10, 10)),
    ]
    levels = iter([0.8, 0.8, 0.4, 0.4])  # the magnified window finds nothing

    def predict(part: torch.Tensor) -> torch.Tensor:
        return next(levels) * part

    found = predict_rois(
        images, windows, [Identity(), Flip((0,))], predict, activation="sigmoid", sharpness=3.0
    )
    assert found.scores == ((1.0, 0.0), (1.0, 0.0))
    assert found.weights == pytest.approx((0.5, 0.5))
    assert found.consistency == pytest.approx(0.5)
    assert found.neighbours((1.0, 0.0)) == 0
    assert float(found.maps[0, 0, 5, 5]) == pytest.approx(0.6)
    assert torch.equal(found.seen[0, 0, 1:11, 1:11], torch.ones(10, 10))
    assert float(found.seen.sum()) == 100
    assert float(found.maps[0, 0, 0, 0]) == 0
    assert found.marked.dtype == torch.uint8
    assert int(found.marked[0, 0, 5, 5]) == 0b01, "the first alone marks the centre"
    assert int(found.marked[0, 0, 0, 0]) == 0


@pytest.mark.parametrize("name", ["flip:0", "turn90:0,1", "scale:2:3"])
def test_only_scales_about_axes_that_exist_are_magnifications(name):
    with pytest.raises(RecipeError):
        read_zoom(name, 3)
