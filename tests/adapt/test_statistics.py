"""Interpolated statistics against torch's own normalisation and arithmetic."""

import copy

import pytest
import torch
from torch import nn

from grata_monai.adapt.statistics import mix_statistics, normalise


def layer_with_statistics(kind=nn.BatchNorm3d) -> nn.Module:
    layer = kind(2, affine=True, track_running_stats=True).eval()
    with torch.no_grad():
        layer.running_mean.copy_(torch.tensor([0.5, -1.0]))
        layer.running_var.copy_(torch.tensor([2.0, 0.5]))
        layer.weight.copy_(torch.tensor([1.5, 0.7]))
        layer.bias.copy_(torch.tensor([0.1, -0.2]))
    return layer


def test_share_zero_changes_no_layer():
    layer = nn.Sequential(layer_with_statistics())
    assert mix_statistics(layer, 0.0) == ()


def test_share_one_equals_batch_statistics_of_a_batch_of_one():
    images = torch.randn(1, 2, 4, 5, 6)
    expected = copy.deepcopy(layer_with_statistics()).train()(images)
    layer = nn.Sequential(layer_with_statistics())
    assert mix_statistics(layer, 1.0) == ("0",)
    torch.testing.assert_close(layer(images), expected, atol=1e-5, rtol=1e-5)


def test_a_share_interpolates_mean_and_variance():
    images = torch.tensor([[[[0.0, 2.0]]]])  # mean 1, biased variance 1
    out = normalise(
        images,
        source=(torch.tensor([3.0]), torch.tensor([5.0])),
        affine=(torch.tensor([2.0]), torch.tensor([1.0])),
        image_share=0.25,
        eps=0.0,
    )
    # mean .75·3 + .25·1 = 2.5, variance .75·5 + .25·1 = 4
    expected = [2 * (0 - 2.5) / 2 + 1, 2 * (2 - 2.5) / 2 + 1]
    assert out.flatten().tolist() == pytest.approx(expected)


def test_statistics_are_per_sample_so_that_views_share_a_batch():
    layer = nn.Sequential(layer_with_statistics())
    mix_statistics(layer, 0.7)
    images = torch.randn(3, 2, 4, 4, 4)
    alone = torch.cat([layer(image[None]) for image in images])
    torch.testing.assert_close(layer(images), alone)


def test_instance_norm_that_tracks_statistics_mixes_too():
    layer = nn.Sequential(layer_with_statistics(nn.InstanceNorm3d))
    images = torch.randn(1, 2, 4, 4, 4)
    before = layer(images)
    assert mix_statistics(layer, 0.5) == ("0",)
    assert not torch.allclose(layer(images), before)


def test_parameters_buffers_and_keys_stay():
    layer = nn.Sequential(layer_with_statistics())
    before = copy.deepcopy(layer.state_dict())
    mix_statistics(layer, 0.5)
    layer(torch.randn(2, 2, 4, 4, 4))
    assert list(layer.state_dict()) == list(before)
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


def test_half_precision_in_is_half_precision_out():
    layer = nn.Sequential(layer_with_statistics())
    mix_statistics(layer, 1.0)
    assert layer(torch.randn(1, 2, 4, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
