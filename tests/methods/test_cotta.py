"""CoTTA: label, step, teacher and restoration, by hand."""

from dataclasses import replace

import numpy as np
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


def test_labels_are_hard_and_averaged_only_in_voxels_where_the_source_is_unsure():
    # the teacher says yes on the left, .8, and no on the right, .1: mirrored and averaged .45
    class Halves(nn.Module):
        def __init__(self, left: float, right: float) -> None:
            super().__init__()
            values = torch.tensor([left] * 3 + [right] * 3).view(1, 1, 6, 1)
            self.logits = nn.Parameter(values.logit())

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.logits.expand(images.shape)

    method = CoTTA(views=("identity", "flip:0"))
    state = begin(method, Halves(0.8, 0.1), "sigmoid")
    for left, expected in ((0.7, [1, 1, 1, 0, 0, 0]), (0.68, [0, 0, 0, 0, 0, 0])):
        state.source = Halves(left, 0.1)
        label = method._label(torch.rand(1, 1, 6, 6), state, "sigmoid")
        assert label[0, 0, :, 0].tolist() == expected


def test_cotta_as_published():
    """Student, teacher and restoration re-derived in numpy; a 1×1 convolution to two classes."""
    torch.manual_seed(7)
    network = nn.Conv2d(1, 2, 1).double().eval()
    rate, decay, restore, views = 0.01, 0.9, 0.3, ("identity", "flip:0")
    method = CoTTA(rate=rate, teacher_decay=decay, restore=restore, views=views)
    state = begin(method, network, "softmax")
    source = np.concatenate([p.detach().numpy().ravel() for p in network.parameters()])
    student, teacher, first, second = source.copy(), source.copy(), 0.0, 0.0
    for number in range(1, 4):
        images = 4 * torch.randn(1, 1, 6, 6, dtype=torch.float64)
        case = replace(make_case(channels=2, activation="softmax"), images=images, windows=images)
        segment(method, case, state)
        x = images.numpy().ravel()
        # a pointwise network follows a flip exactly: all views agree, so the mask has no say
        is_one = teacher[1] * x + teacher[3] > teacher[0] * x + teacher[2]
        odds = (student[1] - student[0]) * x + student[3] - student[2]
        error = (1 / (1 + np.exp(-odds)) - is_one) / len(x)  # of the cross-entropy, by the odds
        gradient = np.array([-error @ x, error @ x, -error.sum(), error.sum()])
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased = np.sqrt(second / (1 - 0.999**number))
        student = student - rate * first / (1 - 0.9**number) / (unbiased + 1e-8)
        teacher = decay * teacher + (1 - decay) * student
        drawn = torch.Generator().manual_seed(case.seed)
        shapes = [p.shape for p in network.parameters()]
        coins = torch.cat([torch.rand(s, generator=drawn).flatten() for s in shapes]).numpy()
        student = np.where(coins < restore, source, student)
        for moved, expected in ((state.student.network, student), (state.network, teacher)):
            found = np.concatenate([p.detach().numpy().ravel() for p in moved.parameters()])
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert np.abs(student - source).max() > 0.005


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
