"""A tiny network in float64 and its formula, to re-derive published steps without our code."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from method_case import Case, begin, segment
from torch import Tensor, nn
from torch.nn import functional

from grata_monai.adapt.method import Method

__all__ = [
    "Adam",
    "Run",
    "batch_moments",
    "cross_entropy",
    "differentiate",
    "drawn",
    "entropy",
    "evaluate",
    "make_cases",
    "make_network",
    "normalised",
    "own_moments",
    "source_moments",
    "stronger",
    "unbiased",
]

Moments = tuple[Tensor, Tensor]
"""Mean and variance, each (n or 1, 2, 1, 1)."""

Theta = list[Tensor]
"""Scale, shift, kernel and offset, then those of a head."""

EPS = 1e-5


def make_network() -> nn.Module:
    """Batch normalisation, far from the identity, then a convolution to two classes."""
    torch.manual_seed(5)
    norm, last = nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3, padding=1)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.5, 0.7]))
        norm.bias.copy_(torch.tensor([0.1, -0.4]))
        norm.running_mean = torch.tensor([0.3, -0.2])
        norm.running_var = torch.tensor([2.0, 0.5])
        last.weight.mul_(4)
    return nn.Sequential(norm, last).double().eval()


def source_moments(network: nn.Module) -> Moments:
    """The running statistics that the network has now."""
    norm = next(layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.clone().view(1, 2, 1, 1), norm.running_var.clone().view(1, 2, 1, 1)


def own_moments(images: Tensor) -> Moments:
    """Each image's mean and mean squared deviation."""
    return _moments(images, (2, 3))


def batch_moments(images: Tensor) -> Moments:
    """The same of all images together."""
    return _moments(images, (0, 2, 3))


def unbiased(images: Tensor) -> Moments:
    """Of all images together, as running statistics take them."""
    mean, variance = batch_moments(images)
    count = images.numel() / images.shape[1]
    return mean, variance * count / (count - 1)


def _moments(images: Tensor, axes: tuple[int, ...]) -> Moments:
    mean = images.mean(axes, keepdim=True)
    return mean, (images - mean).square().mean(axes, keepdim=True)


def normalised(theta: Theta, images: Tensor, moments: Moments) -> Tensor:
    """What the convolution sees."""
    mean, variance = moments
    scale, shift = (value.view(1, 2, 1, 1) for value in theta[:2])
    return (images - mean) / (variance + EPS).sqrt() * scale + shift


def evaluate(theta: Theta, images: Tensor, moments: Moments) -> Tensor:
    """Logits."""
    return functional.conv2d(normalised(theta, images, moments), theta[2], theta[3], padding=1)


def entropy(logits: Tensor) -> Tensor:
    """Of each voxel, in nats."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Against a soft label, averaged over voxels."""
    return -(label * logits.log_softmax(1)).sum(1).mean()


def stronger(images: Tensor, *, generator: object) -> Tensor:
    """A strong view without chance, to stand in for those that draw."""
    return 1.3 * images + 0.2


def differentiate(
    loss: Callable[[Theta], Tensor], theta: Theta, *, norm_only: bool = True
) -> Theta:
    """Gradient of a loss; zero for what stays."""
    leaves = [value.clone().requires_grad_() for value in theta]
    found = torch.autograd.grad(loss(leaves), leaves, allow_unused=True)
    return [
        torch.zeros_like(leaf) if gradient is None or (norm_only and index > 1) else gradient
        for index, (leaf, gradient) in enumerate(zip(leaves, found, strict=True))
    ]


class Adam:
    """Kingma and Ba 2015, algorithm 1."""

    def __init__(self, rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self.rate, self.betas, self.count = rate, betas, 0
        self.first: list[Tensor | float] = []
        self.second: list[Tensor | float] = []

    def step(self, theta: Theta, gradient: Theta, rate: float | None = None) -> Theta:
        """Return the next parameters."""
        self.count += 1
        self.first, self.second = (old or [0.0] * len(theta) for old in (self.first, self.second))
        (a, b), rate = self.betas, self.rate if rate is None else rate
        self.first = [a * m + (1 - a) * g for m, g in zip(self.first, gradient, strict=True)]
        self.second = [b * v + (1 - b) * g * g for v, g in zip(self.second, gradient, strict=True)]
        moved = []
        for value, m, v in zip(theta, self.first, self.second, strict=True):
            spread = torch.as_tensor(v / (1 - b**self.count)).sqrt()
            moved.append(value - rate * m / (1 - a**self.count) / (spread + 1e-8))
        return moved


def make_cases(network: nn.Module) -> Iterator[Case]:
    """Make three cases of two windows each, whose intensities differ."""
    generator = torch.Generator().manual_seed(11)
    for number in range(3):
        values = torch.randn(3, 2, 6, 6, generator=generator, dtype=torch.float64)
        images, windows = (1.5 * values + 0.3 * number).split([1, 2])
        with torch.no_grad():
            source = network(images)
        yield Case(
            images=images,
            windows=windows,
            extents=torch.tensor([[[-1.0, 1.0]] * 2] * 2),
            source=source,
            predict=lambda images, network: network(images),
            activation="softmax",
            seed=number,
        )


def drawn(case: Case) -> torch.Generator:
    """The generator of a case's seed, for what a method draws."""
    return torch.Generator().manual_seed(case.seed)


class Run:
    """A method on three cases of two windows, beside a derivation of what it should do."""

    def __init__(self, method: Method, network: nn.Module | None = None) -> None:
        self.method, self.network = method, make_network() if network is None else network
        self.theta = [p.detach().clone() for p in self.network.parameters()]
        self.moments = source_moments(self.network)
        self.state: Any = None

    def cases(self) -> Iterator[Case]:
        """Run the method on three cases; what a derivation says is checked after each."""
        for case in make_cases(self.network):
            if self.state is None or not self.method.is_online:
                self.state = begin(self.method, self.network, "softmax")
            self.found = segment(self.method, case, self.state)
            yield case

    def check(self, theta: Theta, logits: Tensor | None = None) -> None:
        """Compare the weights, and the logits of the case, with those derived."""
        moved = [p.detach() for p in self.state.network.parameters()]
        torch.testing.assert_close(moved, theta, rtol=0, atol=1e-6)
        if logits is not None:
            torch.testing.assert_close(self.found.double(), logits, rtol=1e-5, atol=1e-5)

    def check_distance(self, theta: Theta, least: float = 1e-3) -> None:
        """Make sure that there was something to compare: the weights have moved."""
        apart = [(a - b).abs().max() for a, b in zip(theta, self.theta, strict=True)]
        assert max(map(float, apart)) > least
