"""MEMO: the step down the entropy of the mean over views mapped back, and its statistics."""

import pytest
import torch
from method_case import Case, begin, segment
from torch import Tensor, nn

from grata_monai.methods.memo import MEMO


class Stubborn(nn.Module):
    """Predicts the same logits along axis 0 whatever it sees, so that mirroring matters."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.view(1, -1, len(self.logits.T), 1).expand(
            len(images), -1, -1, images.shape[3]
        )


def case_of(images: Tensor, activation: str) -> Case:
    return Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * (images.ndim - 2)]),
        source=images,
        predict=lambda images, network: network(images),
        activation=activation,
    )


def test_the_entropy_of_the_mean_over_mirrored_views_goes_down_with_sigmoid():
    start, rate = torch.tensor([[2.0, -1.0, 0.5]]), 0.7
    method = MEMO(rate=rate, views=("identity", "flip:0"), copies=2)
    state = begin(method, Stubborn(start.clone()), "sigmoid")
    segment(method, case_of(torch.rand(1, 1, 3, 2), "sigmoid"), state)

    logits = start.clone().requires_grad_()
    p = torch.sigmoid(logits)
    mean = (p + p.flip(1)) / 2
    entropy = -(mean * mean.log() + (1 - mean) * (1 - mean).log()).mean()
    (gradient,) = torch.autograd.grad(entropy, logits)
    torch.testing.assert_close(state.network.logits.detach(), start - rate * gradient)


def test_the_entropy_of_the_mean_over_mirrored_views_goes_down_with_softmax():
    start, rate = torch.tensor([[2.0, -1.0], [0.0, 0.3]]), 0.7
    method = MEMO(rate=rate, views=("identity", "flip:0"), copies=1)
    state = begin(method, Stubborn(start.clone()), "softmax")
    segment(method, case_of(torch.rand(1, 1, 2, 2), "softmax"), state)

    logits = start.clone().requires_grad_()
    mean = (logits.softmax(0) + logits.softmax(0).flip(1)) / 2
    (gradient,) = torch.autograd.grad(-(mean * mean.log()).sum(0).mean(), logits)
    torch.testing.assert_close(state.network.logits.detach(), start - rate * gradient)


def test_the_image_counts_one_seventeenth_in_the_statistics():
    # constant 17: mean 17 / 17 = 1 and variance 16 / 17, so (17 - 1) / sqrt(16 / 17)
    network = nn.Sequential(nn.BatchNorm3d(1, eps=0.0)).eval()
    images = torch.full((1, 1, 3, 3, 3), 17.0)
    method = MEMO(steps=0)
    logits = segment(method, case_of(images, "sigmoid"), begin(method, network, "sigmoid"))
    assert logits.unique().item() == pytest.approx(16 / (16 / 17) ** 0.5, rel=1e-5)


def test_views_that_do_not_fit_the_windows_are_left_out():
    images = torch.rand(1, 1, 3, 2)
    runs = []
    for views in (("identity", "flip:2", "turn90:0,1"), ("identity",)):
        method = MEMO(rate=0.5, views=views, copies=1)
        state = begin(method, Stubborn(torch.tensor([[2.0, -1.0, 0.5]])), "sigmoid")
        runs.append(segment(method, case_of(images, "sigmoid"), state))
    assert torch.equal(*runs)
