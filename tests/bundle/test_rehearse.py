"""What a network gives is told from its numbers, and where these are few, from its last layer."""

import re

import pytest
import torch
from torch import nn

from grata_monai.bundle.rehearse import rehearse
from grata_monai.core.errors import NetworkError

IMAGES = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class First(nn.Module):
    """Gives the first channel, as a slice of its own."""

    def forward(self, x):
        return x[:, :1].clone()


def small(channels=2, *last):
    """A network of random weights whose values happen to be small and positive."""
    norm, conv = nn.InstanceNorm2d(1, affine=True), nn.Conv2d(1, channels, 1)
    with torch.no_grad():
        conv.weight.mul_(0.01)
        conv.bias.fill_(0.3)
    return nn.Sequential(norm, conv, *last)


@pytest.mark.parametrize(
    "network",
    [
        small(),
        small(1),
        small(2, First()),
        small(2, nn.Upsample(scale_factor=1, mode="nearest")),
    ],
)
def test_small_logits_of_random_weights_are_no_probabilities(network):
    moving, channels = rehearse(network, IMAGES, ("norm",), activation="auto")
    assert moving.groups == ("norm",)
    assert channels == network(IMAGES).shape[1]


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        (small(1, nn.Sigmoid()), "sigmoid"),
        (small(3, nn.Sigmoid(), First()), "sigmoid"),
        (small(2, nn.Hardsigmoid()), "sigmoid"),
        (small(2, nn.Softmax(1)), "softmax"),
    ],
)
def test_probabilities_are_refused(network, kind):
    with pytest.raises(NetworkError, match=re.escape(f"in [0, 1], as after a {kind}. Leave")):
        rehearse(network, IMAGES, ("norm",), activation="auto")
