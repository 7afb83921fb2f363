"""The input adapter: identity at first, smooth, and the same field for a window and the whole."""

import pytest
import torch

from grata_monai.adapt.intensity import InputAdapter


@pytest.mark.parametrize("shape", [(1, 1, 9, 7), (2, 3, 5, 6, 7)])
def test_starts_as_the_identity(shape):
    images = torch.rand(shape)
    assert torch.equal(InputAdapter.for_image(images)(images), images)


def test_a_window_sees_the_field_of_its_place_in_the_whole_image():
    images = torch.rand(1, 1, 9, 9, 5)
    adapter = InputAdapter.for_image(images)
    with torch.no_grad():
        adapter.bias.normal_(generator=torch.Generator().manual_seed(0))
        adapter.curve.normal_(generator=torch.Generator().manual_seed(1))
    # voxels 2..6 of 0..8 lie at -0.5..0.5
    extents = torch.tensor([[[-0.5, 0.5], [-1.0, 1.0], [-1.0, 1.0]]])
    window = adapter(images[:, :, 2:7], extents)
    torch.testing.assert_close(window, adapter(images)[:, :, 2:7])


def test_each_bump_acts_near_its_own_knot():
    images = torch.linspace(0, 1, 101).view(1, 1, 101, 1)
    adapter = InputAdapter.for_image(images)
    with torch.no_grad():
        adapter.curve[0, 0] = 0.2
    change = (adapter(images) - images).flatten()
    assert float(change[0].detach()) == pytest.approx(0.2)
    assert float(change[-1].detach().abs()) < 1e-5
