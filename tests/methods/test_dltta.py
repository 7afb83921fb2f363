"""DLTTA: rates from a memory, by hand."""

import math

import pytest
import torch
from method_case import Case, begin, segment
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from torch.distributions import Bernoulli, kl_divergence
from torch.nn import functional

from grata_monai.methods.dltta import DLTTA, _run
from grata_monai.networks import add_heads


def make_network(dims: int) -> nn.Module:
    kind = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
    return nn.Sequential(kind(2, affine=True)).eval()


def make_case(images: Tensor, activation: str = "sigmoid") -> Case:
    return Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * (images.ndim - 2)]),
        source=images,
        predict=lambda images, network: network(images),
        activation=activation,
    )


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_first_case_steps_at_the_base_rate(dims, activation):
    network, method = make_network(dims), DLTTA(rate=0.1)
    case = make_case(torch.randn(1, 2, *[6] * dims), activation)
    state = begin(method, network, activation)
    found = segment(method, case, state)
    moved = state.network[0].weight.detach()
    # Adam's first step has the length of its rate; entropy falls where the scale grows
    torch.testing.assert_close(moved, torch.full((2,), 1.1), rtol=1e-4, atol=0)
    assert torch.equal(network[0].weight, torch.ones(2))
    with torch.inference_mode():
        inside = make_case(case.images.clone(), activation)
        again = segment(method, inside, begin(method, network, activation))
    torch.testing.assert_close(again, found, rtol=0, atol=0)


def test_the_second_case_steps_at_the_symmetric_divergence_from_the_first():
    one, two = torch.randn(2, 1, 2, 6, 6)
    method = DLTTA(rate=1e-3)
    state = begin(method, make_network(2), "sigmoid")
    segment(method, make_case(one), state)
    affine = [p.detach().clone() for p in state.moving.tensors]
    segment(method, make_case(two), state)
    past = Bernoulli(logits=functional.instance_norm(one))
    scale, shift = (value.view(1, 2, 1, 1) for value in affine)
    now = Bernoulli(logits=functional.instance_norm(two) * scale + shift)
    apart = (kl_divergence(now, past) + kl_divergence(past, now)).sum(1).mean() / 2
    rate = state.optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(1e-3 * apart.item(), rel=1e-4)


def test_the_nearest_feature_is_compared_and_the_oldest_forgotten():
    method = DLTTA(capacity=2, neighbours=1, rate=1.0)
    state = begin(method, make_network(2), "sigmoid")

    def entry(feature: float, probability: float) -> tuple[Tensor, Tensor]:
        return torch.tensor([feature]), torch.full((1, 2, 2), probability)

    state.memory.extend([entry(0.0, 0.9), entry(1.0, 0.5), entry(5.0, 0.2)])
    assert [key.item() for key, _ in state.memory] == [1.0, 5.0]
    found = method._discrepancy([entry(2.0, 0.8)], state, "sigmoid")
    # symmetric divergence of coins: (p − q)·(logit p − logit q) / 2
    assert found == pytest.approx(0.3 * math.log(4) / 2, rel=1e-5)
    other = (torch.tensor([2.0]), torch.full((1, 3, 3), 0.8))
    assert method._discrepancy([other], state, "sigmoid") == 1.0


def test_features_come_from_the_segmentation_where_the_network_has_heads():
    torch.manual_seed(0)
    plain = DynUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[4, 6, 8],
        norm_name="batch",
    ).eval()
    windows = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        _, expected = _run(windows, plain)
        _, found = _run(windows, add_heads(plain, ["rotation", "denoising"]).eval())
    torch.testing.assert_close(found, expected)
