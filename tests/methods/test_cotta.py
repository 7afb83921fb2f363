"""CoTTA: label, step, teacher and restoration, by hand."""

import pytest
import torch
from method_case import Case, begin, segment
from torch import nn

from grata_monai.methods.cotta import CoTTA


def make_network(dims: int = 2, channels: int = 1) -> nn.Module:
    kind = nn.Conv2d if dims == 2 else nn.Conv3d
    return kind(1, channels, 1).eval()


def make_case(dims: int = 2, activation: str = "sigmoid", channels: int = 1) -> Case:
    images = torch.rand(1, 1, *[6] * dims)
    return Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * dims]),
        source=images.repeat(1, channels, *[1] * dims),
        predict=lambda images, network: network(images),
        activation=activation,
        seed=5,
    )


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_teacher_moves_by_its_share_towards_the_student_and_predicts(dims, activation):
    network, case = make_network(dims, 2), make_case(dims, activation, 2)
    start = [p.detach().clone() for p in network.parameters()]
    method = CoTTA(rate=0.1, teacher_decay=0.75, restore=0.0, views=("identity", "scale:0.5"),
                   confidence=1.0)  # fmt: skip
    state = begin(method, network, activation)
    found = segment(method, case, state)
    pairs = zip(start, state.student.network.parameters(), state.network.parameters(), strict=True)
    for old, fast, slow in pairs:
        # Adam's first step has the length of its rate, or less where a gradient nearly vanishes
        assert 0.01 < float((fast - old).detach().abs().max()) <= 0.1 + 1e-6
        torch.testing.assert_close(slow, 0.75 * old + 0.25 * fast)
    torch.testing.assert_close(found, state.network(case.images).detach(), rtol=0, atol=0)
    assert all(torch.equal(p, old) for p, old in zip(network.parameters(), start, strict=True))
    with torch.inference_mode():
        again = segment(method, case, begin(method, network, activation))
    torch.testing.assert_close(again, found, rtol=0, atol=0)


@pytest.mark.parametrize(("threshold", "is_averaged"), [(0.69, False), (0.95, True)])
def test_labels_are_averaged_only_where_the_source_is_unsure(threshold, is_averaged):
    # a network that tells left from right, .9 sure of either: its mirrored view disagrees
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logit = nn.Parameter(torch.tensor(9.0).log())

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sign = torch.where(torch.arange(6) < 3, 1.0, -1.0).view(1, 1, 6, 1)
            return self.logit * sign.expand(images.shape)

    method = CoTTA(confidence=threshold, views=("identity", "flip:0"))
    state = begin(method, Halves(), "sigmoid")
    label = method._label(torch.rand(1, 1, 6, 6), state, "sigmoid")
    expected = torch.tensor([0.5] * 6 if is_averaged else [0.9] * 3 + [0.1] * 3)
    torch.testing.assert_close(label[0, 0, :, 0], expected)


def test_weights_return_to_the_source_with_their_probability():
    torch.manual_seed(3)
    network = nn.Conv2d(1, 2000, 1).eval()
    method = CoTTA(rate=0.1, restore=0.25, confidence=0.0)
    state = begin(method, network, "sigmoid")
    with torch.no_grad():
        state.network.weight.add_(1.0)  # a label that the student does not give yet
    segment(method, make_case(), state)
    share = (state.student.network.weight == network.weight).float().mean().item()
    # five standard deviations of a share of 2000 coins
    assert share == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / 2000) ** 0.5)
    assert not torch.equal(state.network.weight, network.weight + 1)


def test_the_published_settings():
    method = CoTTA()
    assert (method.teacher_decay, method.restore, method.confidence) == (0.999, 0.01, 0.69)
    assert method.rate * 8 == pytest.approx(6e-5)
    assert method.is_online
