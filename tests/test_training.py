"""Heads in training: what the handler adds to the loss."""

import pytest
import torch
from ignite.engine import Engine
from torch import Tensor, nn

from grata_monai.core.errors import NetworkError
from grata_monai.training import HeadTraining, attach_handlers


class Echo(nn.Module):
    """Returns noisy images as they are, and never knows how an image was turned."""

    auxiliary_tasks = frozenset({"denoising", "rotation"})

    def auxiliary(self, images: Tensor, task: str) -> Tensor:
        return torch.zeros(len(images), 4) if task == "rotation" else images


def test_the_weighted_losses_of_all_heads_are_added_to_the_segmentation_loss():
    images = torch.full((1, 1, 60, 60, 20), 0.5)
    output = {"image": images, "loss": torch.tensor(2.0)}
    engine = Engine(lambda engine, batch: None)
    engine.state.output = output
    HeadTraining(Echo(), weight=0.5)(engine)
    # noise of standard deviation .1 stays: .01; four turns are equally likely: log 4
    assert output["loss"].item() == pytest.approx(2 + 0.5 * (0.01 + 1.386294), abs=2e-4)


def test_a_network_without_heads_is_refused():
    with pytest.raises(NetworkError, match=r"must have heads, got Conv2d\. Add them"):
        HeadTraining(nn.Conv2d(1, 1, 1))


def test_handlers_are_attached_in_their_order():
    attached = []

    class Handler:
        def __init__(self, name):
            self.name = name

        def attach(self, engine):
            attached.append((self.name, engine))

    engine = Engine(lambda engine, batch: None)
    attach_handlers(engine, [Handler("a"), Handler("b")])
    assert attached == [("a", engine), ("b", engine)]
