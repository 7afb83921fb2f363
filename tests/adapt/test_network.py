"""What can be copied adapts; what cannot is refused with what would work."""

import threading
import warnings

import pytest
import torch
from torch import nn

from grata_monai.adapt.network import copy_network
from grata_monai.core.errors import NetworkError


def make_network():
    return nn.Conv3d(1, 2, 1).eval()


def test_a_network_whose_weights_are_fixed_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch objects to its own tracing
        traced = torch.jit.trace(make_network(), torch.zeros(1, 1, 4, 4, 4))
    with pytest.raises(NetworkError, match="got a TorchScript module, whose weights cannot move"):
        copy_network(traced)


def test_a_network_that_cannot_be_copied_is_refused():
    network = make_network()
    network.lock = threading.Lock()
    with pytest.raises(NetworkError, match=r"must be copyable with copy.deepcopy, Conv3d is not"):
        copy_network(network)


def test_a_copy_shares_nothing_and_predicts():
    network = make_network().train()
    copied = copy_network(network)
    assert not copied.training
    with torch.no_grad():
        copied.weight.zero_()
    assert bool(network.weight.any())
