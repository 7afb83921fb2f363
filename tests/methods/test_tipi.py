"""TIPI: adversary, divergence and step, against torch.distributions."""

import pytest
import torch
from method_case import Case, begin, segment
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, kl_divergence

from grata_monai.methods.tipi import TIPI, divergence


def scale_and_shift(scale: float) -> nn.Module:
    network = nn.Sequential(nn.BatchNorm3d(1, eps=0.0)).eval()
    nn.init.constant_(network[0].weight, scale)
    return network


@pytest.fixture
def case() -> Case:
    images = torch.rand(1, 1, 4, 4, 4)
    return Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * 3]),
        source=images,
        predict=lambda images, network: network(images),
        activation="sigmoid",
        seed=3,
    )


@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("initial", [1.5, -2.0])
def test_the_step_is_taken_at_the_corner_of_the_cube_nearest_to_the_random_start(
    case, weight, initial
):
    # one logit per voxel: the divergence grows with the distance, so the sign step goes outwards
    epsilon, rate = 0.1, 0.5
    method = TIPI(rate_per_window=rate, epsilon=epsilon, entropy_weight=weight)
    state = begin(method, scale_and_shift(initial), "sigmoid")
    segment(method, case, state)

    noise = torch.rand(case.windows.shape, generator=torch.Generator().manual_seed(3))
    adversary = case.images + epsilon * torch.sign(noise - 0.5)
    scale = torch.tensor(initial, requires_grad=True)
    shift = torch.zeros((), requires_grad=True)
    clean = Bernoulli(logits=scale * case.images + shift)
    target = Bernoulli(logits=clean.logits.detach())
    apart = kl_divergence(Bernoulli(logits=scale * adversary + shift), target)
    loss = (apart + weight * clean.entropy()).mean()
    by_scale, by_shift = torch.autograd.grad(loss, (scale, shift))
    found = state.network[0]
    assert found.weight.item() == pytest.approx(initial - rate * by_scale.item(), rel=1e-5)
    assert found.bias.item() == pytest.approx(-rate * by_shift.item(), rel=1e-3)


def test_momentum_goes_on_online_and_the_rate_grows_with_the_windows(case):
    method = TIPI(rate_per_window=0.5, epsilon=0.0, entropy_weight=1.0, momentum=0.9)
    state = begin(method, scale_and_shift(1.0), "sigmoid")
    segment(method, case, state)
    first = state.network[0].weight.item() - 1
    state.optimizer.param_groups[0]["params"][0].data.fill_(1.0)
    state.network[0].bias.data.zero_()
    segment(method, case, state)
    # the same gradient again: the second step is 1 + .9 of the first
    assert state.network[0].weight.item() - 1 == pytest.approx(1.9 * first, rel=1e-5)
    assert method.is_online


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 3, 4, 5)])
def test_divergence_is_that_of_torch_distributions(shape):
    one, two = torch.randn(shape), torch.randn(shape)

    def classes(logits: Tensor) -> Categorical:
        return Categorical(logits=logits.movedim(1, -1))

    expected = kl_divergence(classes(one), classes(two)).mean()
    torch.testing.assert_close(divergence(one, two, "softmax"), expected)
    expected = kl_divergence(Bernoulli(logits=one), Bernoulli(logits=two)).sum(1).mean()
    torch.testing.assert_close(divergence(one, two, "sigmoid"), expected)
    assert divergence(one, one, "softmax").item() == 0


def test_the_published_settings():
    method = TIPI()
    assert method.rate_per_window * 64 == pytest.approx(0.00025)
    assert method.epsilon * 255 == pytest.approx(2)
