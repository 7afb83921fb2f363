"""The source network's pass, untouched."""

import torch

from grata_monai.methods.source import Source


def test_the_logits_are_those_that_the_case_brings(make_network, make_case, check_laws, kind):
    dims, norm, activation = kind
    network = make_network(dims, norm, activation)
    case = make_case(network, activation, dims)
    assert torch.equal(check_laws(Source(), network, case), case.source)
