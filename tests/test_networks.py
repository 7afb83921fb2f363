"""A DynUNet with heads: it segments as before, and its heads share its encoder."""

import copy
from typing import Any

import pytest
import torch
from monai.networks.nets import DynUNet, UNet
from torch import nn

from grata_monai.adapt.heads import ANSWERS, HEAD_LOSSES, SupportsAuxiliaryTasks
from grata_monai.core.errors import NetworkError
from grata_monai.networks import add_heads


def dynunet(dims: int = 3, channels: int = 1) -> DynUNet:
    return DynUNet(
        spatial_dims=dims,
        in_channels=channels,
        out_channels=2,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[4, 6, 8],
        norm_name=("instance", {"affine": True}),
    ).eval()


def test_without_tasks_the_network_is_the_same_object():
    network = dynunet()
    assert add_heads(network, []) is network


def test_heads_do_not_change_the_segmentation_or_its_weights():
    network = dynunet()
    images = torch.rand(1, 1, 8, 8, 8)
    expected = network(images)
    before = copy.deepcopy(network.state_dict())
    with_heads = add_heads(network, ["rotation", "denoising"]).eval()
    assert torch.equal(with_heads(images), expected)
    after = with_heads.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(("dims", "channels"), [(2, 2), (3, 1)])
def test_every_head_answers_in_the_shape_of_its_task(dims, channels, device):
    network = add_heads(dynunet(dims, channels).to(device), sorted(HEAD_LOSSES)).eval()
    assert isinstance(network, SupportsAuxiliaryTasks)
    images = torch.rand(2, channels, *[8] * dims, device=device)
    for task, count in ANSWERS.items():
        assert network.auxiliary(images, task).shape == (2, count)
    for task in HEAD_LOSSES.keys() - ANSWERS.keys():
        restored = network.auxiliary(images, task).detach()
        assert restored.shape == images.shape
        assert 0 <= float(restored.min()) <= float(restored.max()) <= 1


@pytest.mark.parametrize("task", ["rotation", "flips_and_turns", "denoising"])
def test_a_head_moves_the_encoder_and_not_the_decoder(task):
    network: Any = add_heads(dynunet(), [task]).eval()
    loss = HEAD_LOSSES[task](network, torch.rand(2, 1, 8, 8, 8), generator=torch.Generator())
    loss.backward()
    encoder = nn.ModuleList(
        [network.network.input_block, *network.network.downsamples, network.network.bottleneck]
    )
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in encoder.parameters())
    assert all(p.grad is None for p in network.network.upsamples.parameters())


def test_refusals_name_what_is_possible():
    with pytest.raises(NetworkError, match=r"must be a DynUNet .* got UNet\. Give it heads"):
        add_heads(UNet(2, 1, 2, (4, 8), (2,)), ["rotation"])
    with pytest.raises(NetworkError, match=r"among denoising, .* got \['colouring'\]"):
        add_heads(dynunet(), ["colouring"])
    with pytest.raises(ValueError, match=r"one of rotation, got 'denoising'"):
        add_heads(dynunet(), ["rotation"]).auxiliary(torch.zeros(1, 1, 8, 8, 8), "denoising")
