"""Windows hold the organ, have the trained size, and are few."""

import pytest
import torch
from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer

from grata_monai.adapt.patches import PatchPlan, choose_patches, extract_patches, plan_patches


def two_blobs() -> torch.Tensor:
    """Foreground probability of a large blob near one corner and a small one near the other."""
    foreground = torch.zeros(1, 1, 40, 40, 20)
    foreground[..., 2:10, 2:10, 2:10] = 0.9
    foreground[..., 32:36, 32:36, 14:18] = 0.9
    return torch.cat([1 - foreground, foreground], 1)


def test_the_first_window_holds_the_largest_foreground_and_the_second_the_next():
    plan = PatchPlan((16, 16, 12))
    starts = choose_patches(two_blobs(), plan, count=5, rule="foreground", is_softmax=True)
    assert len(starts) == 2
    assert all(s <= 2 and s + 16 >= 10 for s in starts[0][:2])
    assert all(s <= 32 and s + 16 >= 36 for s in starts[1][:2])


def test_the_number_of_windows_is_bounded():
    plan = PatchPlan((16, 16, 12))
    assert len(choose_patches(two_blobs(), plan, count=1, rule="foreground", is_softmax=True)) == 1


def test_without_foreground_uncertainty_decides():
    probabilities = torch.full((1, 1, 32, 32), 0.01)
    probabilities[..., 20:24, 4:8] = 0.4
    starts = choose_patches(
        probabilities, PatchPlan((8, 8)), count=1, rule="foreground", is_softmax=False
    )
    assert starts[0][0] <= 20 <= starts[0][0] + 4
    assert starts[0][1] <= 4 <= starts[0][1] + 4


def test_a_volume_smaller_than_the_window_is_padded_as_the_inferer_pads():
    plan = PatchPlan((8, 8, 4), padding_mode="constant", cval=-1.0)
    images = torch.rand(1, 2, 5, 9, 4)
    windows, extents = extract_patches(images, [(0, 1, 0)], plan)
    assert windows.shape == (1, 2, 8, 8, 4)
    assert torch.equal(windows[:, :, 1:6], images[:, :, :, 1:9])
    assert float(windows[:, :, 0].max()) == -1.0
    # five voxels lie at -1..1, so one voxel of padding before lies at -1.5
    assert extents[0, 0].tolist() == pytest.approx([-1.5, 2.0])


def test_the_plan_is_read_off_the_inferer():
    assert plan_patches(SimpleInferer(), (9, 8, 7)).roi_size == (9, 8, 7)
    plan = plan_patches(SlidingWindowInferer((16, -1, 8), padding_mode="reflect"), (9, 8, 7))
    assert (plan.roi_size, plan.padding_mode) == ((16, 8, 8), "reflect")


def test_a_slice_inferer_gives_two_dimensional_windows():
    inferer = SliceInferer(roi_size=(8, 8), spatial_dim=2)
    plan = plan_patches(inferer, (16, 16, 5))
    assert (plan.roi_size, plan.slice_axis) == ((8, 8, 1), 2)
    windows, extents = extract_patches(torch.rand(1, 1, 16, 16, 5), [(0, 0, 3)], plan)
    assert windows.shape == (1, 1, 8, 8)
    assert extents.shape == (1, 2, 2)
