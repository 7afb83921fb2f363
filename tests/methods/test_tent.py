"""TENT: Adam's steps down the entropy, and what goes on to the next case, against plain torch."""

import copy
import math

import pytest
import torch
from method_case import begin, segment
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical

from grata_monai.core.errors import AdaptationError
from grata_monai.methods.tent import Tent

START = [2.0, 0.7, 0.4, -0.3]  # scale and shift of two channels
LAYERS = {
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
}


def test_networks_of_every_kind_obey_the_laws(make_network, make_case, check_laws, kind):
    dims, norm, activation = kind
    network = make_network(dims, norm, activation)
    case = make_case(network, activation, dims)
    found = check_laws(Tent(rate=1e-2), network, case)
    assert not torch.allclose(found, case.source, atol=1e-3)


def test_a_network_without_normalisation_is_refused(make_network):
    reason = Tent().unsupported(make_network(norm="none"))
    assert reason == "Sequential has no normalisation layer whose scale and shift could move."


def make_layer(dims: int, norm: str) -> nn.Module:
    """One layer whose statistics of the source, where it has any, are far away."""
    layer = LAYERS[norm, dims](2, affine=True)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(START[:2]))
        layer.bias.copy_(torch.tensor(START[2:]))
        if norm == "batch":
            layer.running_mean.fill_(50.0)
    return nn.Sequential(layer).eval()


def standardise(images: Tensor) -> Tensor:
    """Each sample by its own mean and variance, channels last."""
    values = images.flatten(2)
    centred = values - values.mean(2, keepdim=True)
    scaled = centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()
    return scaled.view(images.shape).movedim(1, -1)


def entropy_gradient(images: Tensor, start: Tensor, activation: str) -> Tensor:
    theta = start.clone().requires_grad_()
    logits = standardise(images) * theta[:2] + theta[2:]
    if activation == "softmax":
        entropies = Categorical(logits=logits).entropy()
    else:
        entropies = Bernoulli(logits=logits).entropy().sum(-1)
    return torch.autograd.grad(entropies.mean(), theta)[0]


def test_weights_and_moments_of_adam_go_on_from_case_to_case(kind, make_case):
    dims, norm, activation = kind
    network, method = make_layer(dims, norm), Tent(rate=0.1, steps=2)
    assert method.is_online
    state = begin(method, network, activation)

    theta, first, second = torch.tensor(START), torch.zeros(4), torch.zeros(4)
    step, generator = 0, torch.Generator().manual_seed(4)
    for _ in range(2):
        images = torch.randn(1, 2, *[8] * dims, generator=generator) * 3 + 1
        case = make_case(network, activation, dims, images=images, windows=images)
        found = segment(method, case, state)
        for _ in range(2):
            step += 1
            gradient = entropy_gradient(images, theta, activation)
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient.square()
            scale = (second / (1 - 0.999**step)).sqrt() + 1e-8
            theta = theta - 0.1 * first / (1 - 0.9**step) / scale
        moved = torch.cat([p.detach() for p in state.moving.tensors])
        torch.testing.assert_close(moved, theta, rtol=1e-4, atol=1e-4)
        expected = (standardise(images) * theta[:2] + theta[2:]).movedim(-1, 1)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(theta, torch.tensor(START), atol=0.1)


def test_only_scales_and_shifts_move(make_network, make_case):
    network = make_network()
    method = Tent(rate=0.1)
    state = begin(method, network, "softmax")
    before = copy.deepcopy(state.network.state_dict())
    segment(method, make_case(network), state)
    after = state.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"1.weight", "1.bias", "4.weight", "4.bias"}


def test_a_loss_that_is_not_finite_moves_nothing(make_network, make_case):
    network, method = make_network(), Tent()
    state = begin(method, network, "softmax")
    windows = torch.full((1, 1, 8, 8, 8), math.nan)
    with pytest.raises(AdaptationError, match="must be finite"):
        segment(method, make_case(network, windows=windows), state)
    assert torch.equal(state.network[1].weight, network[1].weight)


def test_the_published_settings():
    method = Tent()
    (group,) = begin(method, nn.Sequential(nn.BatchNorm2d(1)), "sigmoid").optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.9, 0.999), 0)
    assert method.steps == 1
