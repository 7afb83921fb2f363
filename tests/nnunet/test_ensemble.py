import torch
from torch import nn

from grata_monai.nnunet.ensemble import Ensemble, list_members


def make_members():
    return [nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.InstanceNorm3d(2)) for _ in range(2)]


def test_logits_are_averaged_and_gradients_reach_every_member():
    one, two = make_members()
    images = torch.randn(1, 1, 4, 4, 4)
    ensemble = Ensemble([one, two])
    logits = ensemble(images)
    torch.testing.assert_close(logits, (one(images) + two(images)) / 2)
    logits.square().sum().backward()
    found = [parameter.grad.clone() for parameter in ensemble.parameters()]
    ensemble.zero_grad()
    ((one(images) + two(images)) / 2).square().sum().backward()
    for gradient, parameter in zip(found, ensemble.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_without_gradients_nothing_is_kept_for_them():
    with torch.no_grad():
        assert not Ensemble(make_members())(torch.randn(1, 1, 4, 4, 4)).requires_grad


def test_a_single_network_is_its_own_member():
    one, two = make_members()
    assert list_members(one) == [one]
    assert list_members(Ensemble([one, two])) == [one, two]
