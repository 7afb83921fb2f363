"""InTEnt, by hand: statistics in six mixtures, a prediction with each, weights of their entropy."""

import pytest
import torch
from method_case import begin, segment
from torch import Tensor, nn
from torch.nn import functional

from grata_monai.methods.intent import InTEnt, weigh

Statistics = list[tuple[Tensor, Tensor]]


def measure(network: nn.Sequential, images: Tensor) -> Statistics:
    """Mean and unbiased variance before each normalisation, which uses the image's alone."""
    found, values = [], images
    for layer in network:
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            flat = values.transpose(0, 1).flatten(1)
            found.append((flat.mean(1), flat.var(1, correction=1)))
            values = functional.batch_norm(
                values, None, None, layer.weight, layer.bias, training=True, eps=layer.eps
            )
        else:
            values = layer(values)
    return found


def predict_with(network: nn.Sequential, images: Tensor, statistics: Statistics) -> Tensor:
    values, left = images, list(statistics)
    for layer in network:
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            mean, variance = left.pop(0)
            shape = (1, -1, *[1] * (images.ndim - 2))
            scale = layer.weight / (variance + layer.eps).sqrt()
            values = (values - mean.view(shape)) * scale.view(shape) + layer.bias.view(shape)
        else:
            values = layer(values)
    return values


def mean_per_class(entropies: Tensor, classes: Tensor) -> Tensor:
    return torch.stack([entropies[classes == one].mean() for one in classes.unique()]).mean()


def score(logits: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """Probabilities, and the entropy in which every predicted class counts alike."""
    if activation == "softmax":
        p = logits.softmax(1)
        return p, mean_per_class(-(p * p.log()).sum(1), p.argmax(1))
    p = logits.sigmoid()
    entropies = -p * p.log() - (1 - p) * (1 - p).log()
    channels = range(p.shape[1])
    return p, sum(mean_per_class(entropies[:, i], p[:, i] > 0.5) for i in channels)


def test_six_mixtures_are_averaged_by_their_entropy_and_others_refused(
    make_network, make_case, check_laws, kind
):
    dims, norm, activation = kind
    network, method = make_network(dims, norm, activation), InTEnt()
    if norm == "instance":
        reason = method.unsupported(network)
        assert "has no BatchNorm layer with running statistics" in reason
        return
    case = make_case(network, activation, dims)
    found = check_laws(method, network, case)

    source = [
        (layer.running_mean, layer.running_var)
        for layer in network
        if hasattr(layer, "running_mean")
    ]
    with torch.no_grad():
        image = measure(network, case.images)
        scores = []
        for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
            mixed = [
                tuple((1 - share) * one + share * two for one, two in zip(a, b, strict=True))
                for a, b in zip(source, image, strict=True)
            ]
            scores.append(score(predict_with(network, case.images, mixed), activation))
    entropies = torch.stack([entropy for _, entropy in scores])
    assert float(entropies.max() - entropies.min()) > 0.01
    ranks = (entropies.max() - entropies) / (entropies.max() - entropies.min())
    weights = ranks.exp() / ranks.exp().sum()
    expected = sum(weight * p for weight, (p, _) in zip(weights, scores, strict=True))
    turned_back = found.softmax(1) if activation == "softmax" else found.sigmoid()
    torch.testing.assert_close(turned_back, expected, rtol=1e-4, atol=1e-5)


def test_statistics_of_several_windows_are_averaged(make_case):
    network = nn.Sequential(nn.BatchNorm2d(1)).eval()
    network[0].running_mean.fill_(8.0)
    network[0].running_var.fill_(100.0)
    images = torch.tensor([[1.0, 2.0, 10.0, 30.0], [3.0, 6.0, 20.0, 40.0]])[None, None]

    def predict_halves(images: Tensor, network: nn.Module) -> Tensor:
        return torch.cat([network(half) for half in images.split(2, dim=3)], 3)

    # the halves' means are 3 and 25, their unbiased variances 14/3 and 500/3
    mean, variance = (3 + 25) / 2, (14 / 3 + 500 / 3) / 2
    case = make_case(network, "sigmoid", 2, images=images, predict=predict_halves)
    method = InTEnt(intervals=1)
    found = segment(method, case, begin(method, network, "sigmoid"))
    mixtures = [(images - 8) / 100.00001**0.5, (images - mean) / (variance + 1e-5) ** 0.5]
    views = [score(z, "sigmoid") for z in mixtures]
    (p, low), (other, high) = sorted(views, key=lambda view: float(view[1]))
    assert float(high - low) > 0.01
    best = torch.tensor(1.0).sigmoid()  # softmax of the scores 1 and 0
    expected = best * p + (1 - best) * other
    torch.testing.assert_close(found.sigmoid(), expected, rtol=1e-4, atol=1e-5)


def test_a_state_that_served_once_still_holds_the_source(make_network, make_case):
    network, method = make_network(), InTEnt()
    case, state = make_case(network), begin(method, network, "softmax")
    first, second = (segment(method, case, state) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state.network[1].running_mean, network[1].running_mean)
    assert torch.equal(state.network[4].running_var, network[4].running_var)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_least_entropy_scores_one_and_the_greatest_nothing(temperature):
    scores = torch.tensor([0.0, 1.0, 0.5]) / temperature
    found = weigh(torch.tensor([0.3, 0.1, 0.2]), temperature)
    torch.testing.assert_close(found, scores.exp() / scores.exp().sum())


def test_equal_entropies_weigh_alike():
    torch.testing.assert_close(weigh(torch.full((4,), 0.2)), torch.full((4,), 0.25))
