"""DUA: the share of every case in the statistics, and what its copies may be."""

import pytest
import torch
from method_case import begin, segment
from torch import nn

from grata_monai.methods.dua import DUA


def test_networks_of_every_kind_obey_the_laws(make_network, make_case, check_laws, kind):
    dims, norm, activation = kind
    network = make_network(dims, norm, activation)
    if norm != "batch":
        assert "no BatchNorm" in DUA().unsupported(network)
        return
    case = make_case(network, activation, dims)
    found = check_laws(DUA(), network, case)
    assert not torch.allclose(found, case.source, atol=1e-3)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_nth_case_has_its_share_in_the_statistics(make_case, dims):
    layer = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](1)
    network = nn.Sequential(layer).eval()
    layer.running_mean.fill_(5.0)
    layer.running_var.fill_(3.0)
    method = DUA(copies=4)
    state = begin(method, network, "sigmoid")
    mean, variance = torch.tensor([5.0]), torch.tensor([3.0])
    for number in (1, 2, 3):
        case = make_case(network, "sigmoid", dims, seed=number)
        share = 0.1 * 0.94**number + 0.005
        copies = method._augment(case.windows, case.episode(method))
        found = segment(method, case, state)
        mean = (1 - share) * mean + share * copies.mean()
        variance = (1 - share) * variance + share * copies.var()
        torch.testing.assert_close(state.network[0].running_mean, mean)
        torch.testing.assert_close(state.network[0].running_var, variance)
        expected = (case.images - mean) / (variance + 1e-5).sqrt()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert float(layer.running_mean) == 5.0
    assert float(begin(method, network, "sigmoid").network[0].running_mean) == 5.0


def test_the_share_never_falls_below_the_floor(make_network, make_case):
    network = make_network(2)
    method = DUA(decay=0.0, floor=0.0)
    state = begin(method, network, "softmax")
    before = network[1].running_mean.clone()
    segment(method, make_case(network, "softmax", 2), state)
    assert torch.equal(state.network[1].running_mean, before)
    method = DUA(decay=0.0, floor=0.5)
    state = begin(method, network, "softmax")
    segment(method, make_case(network, "softmax", 2), state)
    assert not torch.allclose(state.network[1].running_mean, before, atol=1e-3)


def test_copies_are_shifted_by_an_eighth_at_most_mirrored_and_turned(make_network, make_case):
    network = make_network(2)
    image = 1 + torch.arange(256.0).view(1, 1, 16, 16)
    case = make_case(network, "softmax", 2, images=image, windows=image)
    copies = DUA(copies=60)._augment(case.windows, case.episode(DUA()))
    assert copies.shape == (60, 1, 16, 16)
    steps = set()
    for copy in copies[:, 0]:
        shown = copy > 0
        assert shown[2:14, 2:14].all()  # at most two of 16 rows come from outside
        assert set(copy[shown].tolist()) <= set(image.flatten().tolist())
        steps.add((float(copy[8, 8] - copy[7, 8]), float(copy[8, 8] - copy[8, 7])))
    straight = {(16.0, 1.0), (-16.0, 1.0), (16.0, -1.0), (-16.0, -1.0)}
    assert steps == straight | {(b, a) for a, b in straight}


def test_quarter_turns_are_left_out_where_they_do_not_fit(make_network, make_case):
    network = make_network(2)
    image = torch.rand(1, 1, 16, 8)
    case = make_case(network, "softmax", 2, images=image, windows=image)
    assert DUA(copies=20)._augment(case.windows, case.episode(DUA())).shape == (20, 1, 16, 8)
