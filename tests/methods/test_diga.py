"""DIGA: prototypes and the classifier by distance, recomputed in plain loops."""

import pytest
import torch
from method_case import begin, segment
from torch import Tensor, nn

from grata_monai.adapt.statistics import mix_statistics
from grata_monai.core.errors import NetworkError
from grata_monai.methods.diga import DIGA


def test_networks_of_every_kind_obey_the_laws(make_network, make_case, check_laws, kind):
    dims, norm, activation = kind
    network = make_network(dims, norm, activation)
    method = DIGA(confidence=0.4)
    found = check_laws(method, network, make_case(network, activation, dims))
    assert found.std() > 0


def test_a_network_without_a_convolution_is_refused():
    assert "no convolution" in DIGA().unsupported(nn.BatchNorm2d(1))


def test_a_convolution_must_make_the_logits(make_case):
    network = nn.Sequential(nn.Conv2d(1, 5, 1), nn.Flatten(1), nn.Unflatten(1, (5, 12, 12)))
    network.append(nn.Upsample(scale_factor=1))
    network.append(_Halve())
    method = DIGA()
    case = make_case(network.eval(), "softmax", 2, windows=torch.rand(1, 1, 12, 12))
    with pytest.raises(NetworkError, match="none has 2 output channels"):
        segment(method, case, begin(method, network, "softmax"))


class _Halve(nn.Module):
    """Keep two channels."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :2]


def classifier(activation: str) -> nn.Module:
    """Two features, whose multiples are the logits."""
    conv = nn.Conv2d(2, 2 if activation == "softmax" else 1, 1, bias=False)
    with torch.no_grad():
        scale = torch.eye(2) * 3 if activation == "softmax" else torch.tensor([[3.0, -1.0]])
        conv.weight.copy_(scale[:, :, None, None])
    return nn.Sequential(conv).eval()


def prototypes(images: Tensor, inside: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Mean feature of confident voxels outside and inside."""
    rows, p = images[0].flatten(1).T, inside.flatten()
    outside = [row for row, value in zip(rows, p, strict=True) if 1 - value >= least]
    within = [row for row, value in zip(rows, p, strict=True) if value >= least]
    assert outside
    assert within
    return torch.stack(outside).mean(0), torch.stack(within).mean(0)


def by_distance(images: Tensor, pair: tuple[Tensor, Tensor]) -> Tensor:
    """Probability of the inside from the distances to two prototypes."""
    rows = images[0].flatten(1).T
    scores = torch.stack([-(rows - one).norm(dim=1) for one in pair], 1)
    return scores.softmax(1)[:, 1].view(images.shape[2:])


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_two_cases_are_classified_by_their_prototypes(make_case, activation):
    network, method = classifier(activation), DIGA(confidence=0.8)
    state = begin(method, network, activation)
    history = None
    for seed in (1, 2):
        images = torch.randn(1, 2, 7, 5, generator=torch.Generator().manual_seed(seed))
        case = make_case(network, activation, 2, images=images, windows=images)
        found = segment(method, case, state)
        with torch.no_grad():
            logits = network(images)
        given = logits.softmax(1)[0, 1] if activation == "softmax" else logits.sigmoid()[0, 0]
        mine = prototypes(images, given, 0.8)
        if history is None:
            history = mine
        else:
            history = tuple(0.9 * a + 0.1 * b for a, b in zip(history, mine, strict=True))
        fused = 0.8 * by_distance(images, history) + 0.2 * by_distance(images, mine)
        expected = 0.8 * fused + 0.2 * given
        inside = found.softmax(1)[0, 1] if activation == "softmax" else found.sigmoid()[0, 0]
        torch.testing.assert_close(inside, expected, rtol=1e-4, atol=1e-5)
    assert begin(method, network, activation).history is None


def test_without_prototypes_the_network_decides(make_case):
    network = classifier("softmax")
    images = torch.randn(1, 2, 7, 5)
    case = make_case(network, "softmax", 2, images=images, windows=images)
    method = DIGA(confidence=1.0)
    found = segment(method, case, begin(method, network, "softmax"))
    torch.testing.assert_close(found.softmax(1), case.source.softmax(1), rtol=1e-4, atol=1e-5)


def test_a_fifth_of_the_statistics_is_the_images(make_network, make_case):
    network = make_network(2)
    case = make_case(network, "softmax", 2)
    method = DIGA(fusion=0.0)
    found = segment(method, case, begin(method, network, "softmax"))
    mixed = make_network(2)
    mix_statistics(mixed, 0.2)
    with torch.no_grad():
        expected = mixed(case.images)
    torch.testing.assert_close(found.softmax(1), expected.softmax(1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found.softmax(1), case.source.softmax(1), atol=1e-2)
