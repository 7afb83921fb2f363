"""One step on several losses."""

import pytest
import torch
from method_case import Case
from torch import Tensor, nn

from grata_monai.core.errors import AdaptationError
from grata_monai.methods.source import Source
from grata_monai.methods.state import SteppingState, start_stepping


def run(images: Tensor, network: nn.Module) -> Tensor:
    return network(images)


@pytest.fixture
def state() -> SteppingState:
    network = nn.Sequential(nn.Linear(1, 1))
    nn.init.constant_(network[0].weight, 3.0)
    nn.init.zeros_(network[0].bias)
    nothing = torch.zeros(1, 1, 1)
    episode = Case(nothing, nothing, nothing, nothing, run, "softmax").episode(Source())
    return start_stepping(
        network, episode, ("all",), lambda tensors: torch.optim.SGD(tensors, lr=0.5)
    )


def test_the_mean_of_the_gradients_is_descended_one_loss_at_a_time(state):
    weight, order = state.network[0].weight, []

    def losses():
        for factor in (1, 2):
            order.append(weight.item())
            yield factor * weight.square().sum()

    state.descend_mean(losses())
    # the gradients are 6 and 12, their mean 9
    assert weight.item() == 3 - 0.5 * 9
    assert state.network[0].bias.item() == 0
    assert order == [3, 3]


def test_nothing_moves_if_one_loss_is_not_finite(state):
    weight = state.network[0].weight
    with pytest.raises(AdaptationError, match="must be finite"):
        state.descend_mean([weight.sum(), (weight - 3).sqrt().sum()])
    assert weight.item() == 3
