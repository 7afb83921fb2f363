"""DomainAdaptor: the mixture of statistics, the tempered entropy, and the step, by arithmetic."""

import pytest
import torch
from method_case import begin, segment
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional

from grata_monai.methods.domain_adaptor import DomainAdaptor, tempered_entropy


def test_networks_of_every_kind_obey_the_laws(make_network, make_case, check_laws, kind):
    dims, norm, activation = kind
    network = make_network(dims, norm, activation)
    found = check_laws(DomainAdaptor(rate=0.1), network, make_case(network, activation, dims))
    assert found.std() > 0


def test_networks_without_normalisation_are_refused(make_network):
    assert "no normalisation layer" in DomainAdaptor().unsupported(make_network(2, "none"))


def share_of_the_source(windows: Tensor, mean: Tensor, variance: Tensor) -> float:
    """λ = mean over images of 1 − d(batch, source) / (all three distances), in plain loops."""

    def distance(one, two):
        total = sum((a - b) ** 2 for a, b in zip(one[0], two[0], strict=True))
        total += sum((a - b) ** 2 for a, b in zip(one[1], two[1], strict=True))
        return total / len(one[0])

    channels = range(windows.shape[1])
    source = (mean.tolist(), variance.sqrt().tolist())
    batch = (
        [float(windows[:, c].mean()) for c in channels],
        [float(windows[:, c].std()) for c in channels],
    )
    shares = []
    for image in windows:
        own = (
            [float(image[c].mean()) for c in channels],
            [float(image[c].std()) for c in channels],
        )
        apart = distance(batch, source)
        shares.append(1 - apart / (apart + distance(own, source) + distance(own, batch)))
    return sum(shares) / len(shares)


@pytest.mark.parametrize("is_affine", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_without_a_step_the_case_is_normalised_by_the_mixture(make_case, dims, is_affine):
    kind = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
    network = nn.Sequential(kind(2, affine=is_affine)).eval()
    layer = network[0]
    layer.running_mean.copy_(torch.tensor([0.3, -0.2]))
    layer.running_var.copy_(torch.tensor([2.0, 0.5]))
    weight, bias = torch.ones(2), torch.zeros(2)
    if is_affine:
        weight, bias = torch.tensor([1.5, 0.7]), torch.tensor([0.1, -0.4])
        nn.init.constant_(layer.weight, 1.0)
        layer.weight.data.copy_(weight)
        layer.bias.data.copy_(bias)
    images = torch.randn(1, 2, *[12] * dims, generator=torch.Generator().manual_seed(1))
    case = make_case(network, "softmax", dims, images=images)
    method = DomainAdaptor(rate=0.0)
    found = segment(method, case, begin(method, network, "softmax"))

    values = case.windows.transpose(0, 1).flatten(1)
    share = share_of_the_source(case.windows, layer.running_mean, layer.running_var)
    assert 0 < share < 1
    mean = share * layer.running_mean + (1 - share) * values.mean(1)
    variance = share * layer.running_var + (1 - share) * values.var(1)
    axes = (1, -1) + (1,) * dims
    expected = (images - mean.view(axes)) / (variance.view(axes) + 1e-5).sqrt()
    expected = expected * weight.view(axes) + bias.view(axes)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_one_window_gives_the_source_a_half(make_case):
    network = nn.Sequential(nn.BatchNorm2d(1)).eval()
    images = 4 + torch.randn(1, 1, 8, 8)
    case = make_case(network, "sigmoid", 2, images=images, windows=images)
    method = DomainAdaptor(rate=0.0)
    found = segment(method, case, begin(method, network, "sigmoid"))
    mean, variance = images.mean() / 2, (images.var() + 1) / 2
    torch.testing.assert_close(found, (images - mean) / (variance + 1e-5).sqrt())


def test_the_step_goes_down_the_tempered_entropy(make_case):
    network = nn.Sequential(nn.InstanceNorm2d(2, affine=True)).eval()
    nn.init.constant_(network[0].weight, 2.0)
    images = torch.randn(1, 2, 6, 6)
    case = make_case(network, "softmax", 2, images=images, windows=images)
    method = DomainAdaptor(rate=0.5)
    state = begin(method, network, "softmax")
    segment(method, case, state)

    z = functional.instance_norm(images).movedim(1, -1)
    theta = torch.tensor([2.0, 2.0, 0.0, 0.0], requires_grad=True)
    logits = z * theta[:2] + theta[2:]
    temperature = 2 * logits.detach().std(-1, keepdim=True)
    loss = (Categorical(logits=logits / temperature).entropy() * temperature[..., 0] ** 2).mean()
    (gradient,) = torch.autograd.grad(loss, theta)
    moved = torch.cat([p.detach() for p in state.moving.tensors])
    torch.testing.assert_close(moved, (theta - 0.5 * gradient).detach(), rtol=1e-4, atol=1e-5)
    assert float(gradient.norm()) > 1e-3


def test_a_sigmoid_channel_is_a_class_against_zero():
    logits = torch.tensor([[[[0.5, -2.0, 3.0]]]])
    pair = torch.cat([logits, torch.zeros_like(logits)], 1)
    one = tempered_entropy(logits, "sigmoid")
    torch.testing.assert_close(one, tempered_entropy(pair, "softmax"))
    # of two logits z and 0 the spread is |z| / √2, so T = √2 |z|, and z / T = ± 1 / √2
    p = torch.sigmoid(torch.tensor(0.5) ** 0.5)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    torch.testing.assert_close(one, entropy * 2 * logits.square().mean())
