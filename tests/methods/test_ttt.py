"""TTT: the step down the rotation head's cross entropy, by hand."""

import math

import pytest
import torch
from method_case import Case, begin, segment
from torch import Tensor, nn

from grata_monai.core.errors import NetworkError
from grata_monai.methods.ttt import TTT, square


class Corner(nn.Module):
    """Tells turns by the bright corner of the square, surer the larger its one shared weight."""

    auxiliary_tasks = frozenset({"rotation"})

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.decoder = nn.Parameter(torch.full((), 0.5))

    def forward(self, images: Tensor) -> Tensor:
        return self.weight * images + self.decoder

    def auxiliary(self, images: Tensor, task: str) -> Tensor:
        # one quarter turn leads from the upper left corner to the lower left one, and so on
        corners = [images[:, 0, i, j] for i, j in ((0, 0), (-1, 0), (-1, -1), (0, -1))]
        return self.weight * torch.stack(corners, 1)


def case_of(images: Tensor) -> Case:
    return Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * (images.ndim - 2)]),
        source=images,
        predict=lambda images, network: network(images),
        activation="sigmoid",
    )


def bright_corner() -> Tensor:
    """4 × 6 pixels, whose middle square has a bright upper left corner; dark elsewhere."""
    images = torch.zeros(1, 1, 4, 6)
    images[0, 0, 0, 1] = 1
    return images


def test_two_steps_follow_the_cross_entropy_of_the_turns():
    # whatever the turn, the loss is log(e^w + 3) - w, with derivative e^w / (e^w + 3) - 1
    rate, weight = 0.4, 0.0
    for _ in range(2):
        weight -= rate * (math.exp(weight) / (math.exp(weight) + 3) - 1)
    case = case_of(bright_corner())
    method = TTT(rate=rate, steps=2, copies=3)
    state = begin(method, Corner(), "sigmoid")
    logits = segment(method, case, state)
    assert state.network.weight.item() == pytest.approx(weight, rel=1e-6)
    assert state.network.decoder.item() == 0.5  # the head does not depend on it
    assert logits[0, 0, 0, 1].item() == pytest.approx(weight + 0.5, rel=1e-6)


def test_the_middle_square_of_axes_0_and_1_is_cut_out():
    windows = torch.arange(2 * 7 * 4 * 3.0).view(2, 1, 7, 4, 3)
    assert torch.equal(square(windows), windows[:, :, 1:5])
    assert torch.equal(square(windows.transpose(2, 3)), windows.transpose(2, 3)[:, :, :, 1:5])


def test_online_weights_go_on_only_if_the_caller_keeps_the_state():
    case, method = case_of(bright_corner()), TTT(rate=0.4, steps=1, copies=1)
    state = begin(method, Corner(), "sigmoid")
    for _ in range(2):
        segment(method, case, state)
    twice = begin(method, Corner(), "sigmoid")
    segment(TTT(rate=0.4, steps=2, copies=1), case, twice)
    assert state.network.weight.item() == pytest.approx(twice.network.weight.item(), rel=1e-6)


def test_a_network_without_the_head_is_refused_with_what_to_do():
    reason = TTT().unsupported(nn.Conv2d(1, 1, 1))
    assert reason == (
        "Conv2d was trained without a head for 'rotation', and none can be added afterwards. "
        "Train it with one: --heads \"['rotation']\" (docs/how-to/train.md)."
    )
    assert TTT().unsupported(Corner()) == ""
    method = TTT()
    with pytest.raises(NetworkError, match="must offer the auxiliary task 'rotation'"):
        segment(method, case_of(bright_corner()), begin(method, nn.Conv2d(1, 1, 1), "sigmoid"))
