"""Mirroring, by hand: every combination of flips, mapped back and averaged."""

from itertools import chain, combinations

import torch
from method_case import begin, segment

from grata_monai.methods.mirror import Mirror


def test_logits_are_the_mean_over_all_combinations_of_flips(
    make_network, make_case, check_laws, kind
):
    dims, norm, activation = kind
    network = make_network(dims, norm, activation)
    case = make_case(network, activation, dims)
    axes = range(2, dims + 2)
    flips = list(chain.from_iterable(combinations(axes, n) for n in range(dims + 1)))
    assert len(flips) == 2**dims
    with torch.no_grad():
        views = [network(case.images.flip(some)).flip(some) for some in flips]
    found = check_laws(Mirror(), network, case)
    torch.testing.assert_close(found, torch.stack(views).mean(0), rtol=1e-5, atol=1e-5)


def test_only_the_axes_that_are_named_are_mirrored(make_network, make_case):
    network = make_network()
    case = make_case(network, "softmax", 3)
    with torch.no_grad():
        expected = (network(case.images) + network(case.images.flip(3)).flip(3)) / 2
    method = Mirror(axes=(1, 5))  # the image has no sixth axis
    found = segment(method, case, begin(method, network, "softmax"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
