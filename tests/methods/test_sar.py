"""SAR: filter, sharpness-aware step and reset, against plain torch."""

import math

import pytest
import torch
from method_case import Case, begin, segment
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical
from torch.nn import functional

from grata_monai.methods.sar import SAR


def make_case(dims: int, channels: int, activation: str) -> Case:
    images = torch.randn(1, channels, *[6] * dims)
    return Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * dims]),
        source=images,
        predict=lambda images, network: network(images),
        activation=activation,
    )


def make_network(dims: int, channels: int) -> nn.Module:
    kind = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
    network = nn.Sequential(kind(channels, affine=True)).eval()
    nn.init.constant_(network[0].weight, 2.0)
    return network


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_gradient_is_that_of_reliable_voxels_at_the_worst_point_nearby(dims, activation):
    network, case = make_network(dims, 2), make_case(dims, 2, activation)
    method = SAR(rate=0.5, radius=0.3, reset_below=0.0)
    state = begin(method, network, activation)
    found = segment(method, case, state)

    z = functional.instance_norm(case.images).movedim(1, -1)
    limit = 0.4 * (math.log(2) if activation == "softmax" else 2 * math.log(2))

    def entropies(theta: Tensor) -> Tensor:
        logits = z * theta[:2] + theta[2:]
        if activation == "softmax":
            return Categorical(logits=logits).entropy()
        return Bernoulli(logits=logits).entropy().sum(-1)

    theta = torch.tensor([2.0, 2.0, 0.0, 0.0], requires_grad=True)
    first = entropies(theta)
    chosen = first < limit
    assert 0 < int(chosen.sum()) < chosen.numel()
    (ascent,) = torch.autograd.grad(first[chosen].mean(), theta)
    worst = (theta + 0.3 * ascent / ascent.norm()).detach().requires_grad_()
    second = entropies(worst)
    chosen = chosen & (second < limit)
    loss = second[chosen].mean()
    (gradient,) = torch.autograd.grad(loss, worst)
    expected = (theta - 0.5 * gradient).detach()
    moved = torch.cat([p.detach() for p in state.moving.tensors])
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5)
    assert state.average == pytest.approx(loss.item(), rel=1e-4)
    logits = (z * expected[:2] + expected[2:]).movedim(-1, 1)
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(network[0].weight, torch.full((2,), 2.0))
    with torch.inference_mode():
        again = segment(method, case, begin(method, network, activation))
    torch.testing.assert_close(again, found, rtol=0, atol=0)


@pytest.mark.parametrize(("level", "is_reset"), [(0.0, False), (10.0, True)])
def test_a_low_average_brings_the_source_back_before_the_next_case(level, is_reset):
    network, case = make_network(2, 2), make_case(2, 2, "softmax")
    method = SAR(rate=0.5, reset_below=level)
    state = begin(method, network, "softmax")
    first, second = (segment(method, case, state) for _ in range(2))
    assert torch.equal(first, second) == is_reset
    weight = state.network[0].weight.clone()
    segment(method, case, state)
    assert torch.equal(state.network[0].weight, weight) == is_reset


def test_a_reset_keeps_the_average_as_the_authors_do():
    case, network = make_case(2, 2, "softmax"), make_network(2, 2)
    method = SAR(rate=0.0, reset_below=0.2 / math.log(1000))
    state = begin(method, network, "softmax")
    segment(method, case, state)
    loss, limit = state.average, 0.2 * math.log(2) / math.log(1000)
    for average, is_reset in ((1.01 * limit, False), (0.99 * limit, True)):
        with torch.no_grad():
            state.network[0].weight.fill_(2.5)
        state.average = average
        segment(method, case, state)
        assert torch.equal(state.network[0].weight, network[0].weight) == is_reset
    assert state.average == pytest.approx(0.9 * 0.99 * limit + 0.1 * loss)


def test_the_average_keeps_nine_tenths():
    case = make_case(2, 2, "softmax")
    method = SAR(rate=0.0, reset_below=0.0)
    state = begin(method, make_network(2, 2), "softmax")
    segment(method, case, state)
    loss, state.average = state.average, 1.0
    segment(method, case, state)
    assert state.average == pytest.approx(0.9 + 0.1 * loss)


def test_nothing_moves_where_no_voxel_is_reliable():
    method, network = SAR(margin=0.0), make_network(2, 2)
    state = begin(method, network, "softmax")
    segment(method, make_case(2, 2, "softmax"), state)
    assert torch.equal(state.network[0].weight, network[0].weight)
    assert state.average is None
