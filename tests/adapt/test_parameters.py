"""What may move, for every kind of normalisation in MONAI's networks."""

import copy

import pytest
import torch
from monai.networks.nets import BasicUNet, DynUNet, SegResNet, UNet
from torch import nn

from grata_monai.adapt.parameters import resolve_parameters
from grata_monai.core.errors import NothingToAdaptError

SHAPE = {"channels": (4, 8), "strides": (2,)}
KERNELS = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}


def unet(**settings):
    return UNet(3, 1, 2, **SHAPE, **settings)


def dynunet(**settings):
    return DynUNet(3, 1, 2, **KERNELS, filters=[4, 8, 8], **settings)


@pytest.mark.parametrize(
    ("network", "group"),
    [
        (unet(norm="batch"), "norm"),
        (dynunet(), "norm"),
        (dynunet(norm_name="batch"), "norm"),
        (BasicUNet(3, 1, 2, features=(4, 4, 4, 4, 4, 4)), "norm"),
        (SegResNet(3, init_filters=8, in_channels=1, out_channels=2), "norm"),
        (unet(), "adapters"),
        (dynunet(norm_name="instance"), "adapters"),
    ],
)
def test_every_normalisation_layer_gives_a_scale_and_a_shift(network, group):
    layers = sum("Norm" in type(module).__name__ for module in network.modules())
    moving = resolve_parameters(network.eval(), ("norm",))
    assert moving.groups == (group,)
    assert len(moving.named) == 2 * layers > 0
    chosen = {id(p) for p in moving.tensors}
    assert all(p.requires_grad == (id(p) in chosen) for p in network.parameters())


def test_adapters_start_at_identity_and_leave_the_keys_alone():
    network = unet().eval()
    images = torch.rand(1, 1, 8, 8, 8)
    keys, before = list(network.state_dict()), network(images)
    moving = resolve_parameters(network, ("norm",))
    assert list(network.state_dict()) == keys
    torch.testing.assert_close(network(images), before, atol=0, rtol=0)
    gradients = torch.autograd.grad(network(images).square().sum(), moving.tensors)
    assert all(float(g.abs().sum()) > 0 for g in gradients)


def test_layer_norm_adapters_scale_the_last_axis():
    network = nn.Sequential(nn.LayerNorm(6, elementwise_affine=False))
    moving = resolve_parameters(network, ("adapters",))
    with torch.no_grad():
        moving.named["adapter:0.scale"].copy_(torch.arange(6.0))
    tokens = torch.randn(2, 5, 6)
    expected = nn.functional.layer_norm(tokens, (6,)) * torch.arange(6.0)
    torch.testing.assert_close(network(tokens), expected)


def test_the_input_adapter_starts_at_identity_and_is_reported():
    images = torch.rand(1, 2, 8, 8, 8)
    moving = resolve_parameters(nn.Conv3d(2, 1, 1), ("input",), image=images)
    assert moving.groups == ("input",)
    assert set(moving.named) == {"input:curve", "input:bias"}
    assert moving.input_adapter is not None
    torch.testing.assert_close(moving.input_adapter(images), images, atol=0, rtol=0)


def test_all_weights_may_move():
    network = unet()
    assert resolve_parameters(network, ("all",)).count == sum(
        p.numel() for p in network.parameters()
    )


def test_nothing_to_adapt_says_what_to_do():
    with pytest.raises(
        NothingToAdaptError,
        match=r"found none for norm .* parameters=\('all',\) in the recipe, or \('input',\)",
    ):
        resolve_parameters(nn.Conv3d(1, 1, 1), ("norm",))


def test_snapshot_restores_bit_for_bit():
    network = dynunet()
    before = copy.deepcopy(network.state_dict())
    moving = resolve_parameters(network, ("norm",))
    values = moving.snapshot()
    with torch.no_grad():
        for parameter in moving.tensors:
            parameter.add_(0.1)
    moving.restore(values)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
