"""Prediction-time BN and MedBN, by hand: what a batch normalisation becomes for one image."""

import numpy as np
import pytest
import torch
from method_case import begin
from torch import nn

from grata_monai.methods.medbn import MedBN
from grata_monai.methods.prediction_time_bn import PredictionTimeBN

VALUES = [1.0, 2.0, 4.0, 9.0, 10.0, 3.0, 5.0, 6.0]  # median 4 (the lower), mean 5


def make_layer():
    """One channel, scale 2 and shift 3, and statistics of a source that is far away."""
    layer = nn.BatchNorm2d(1)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(3.0)
        layer.running_mean.fill_(50.0)
        layer.running_var.fill_(100.0)
    return nn.Sequential(layer).eval()


@pytest.mark.parametrize(("method", "centre"), [(PredictionTimeBN(), 5.0), (MedBN(), 4.0)])
def test_the_image_is_normalised_by_its_own_centre_and_spread(method, centre, make_case):
    network = make_layer()
    image = torch.tensor(VALUES).view(1, 1, 2, 4)
    state = begin(method, network, "sigmoid")
    with torch.no_grad():
        found, source = state.network(image), network(image)
    deviations = np.array(VALUES) - centre
    expected = deviations / np.sqrt((deviations**2).mean() + 1e-5) * 2 + 3
    np.testing.assert_allclose(found.flatten().numpy(), expected, rtol=1e-5)
    assert float(source.mean()) < 0  # the source's statistics are still the network's


@pytest.mark.parametrize("method", [PredictionTimeBN(), MedBN()])
def test_networks_of_batch_normalisation_obey_the_laws_and_others_are_refused(
    method, make_network, make_case, check_laws, kind
):
    dims, norm, activation = kind
    network = make_network(dims, norm, activation)
    if norm == "instance":
        reason = method.unsupported(network)
        assert "has no BatchNorm layer with running statistics" in reason
        return
    case = make_case(network, activation, dims)
    found = check_laws(method, network, case)
    assert not torch.allclose(found, case.source, atol=1e-3)
