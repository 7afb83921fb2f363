"""DeTTA: Adam's step down the denoising head's squared error, by hand."""

import pytest
import torch
from method_case import Case, begin, segment
from torch import Tensor, nn

from grata_monai.methods.detta import DeTTA


class Doubling(nn.Module):
    """Scales and shifts; its denoising head answers with what segmentation gets, twice too much."""

    auxiliary_tasks = frozenset({"denoising"})

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(1, eps=0.0)
        self.last = nn.Parameter(torch.ones(()))
        nn.init.constant_(self.norm.weight, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.last * self.norm(images)

    def auxiliary(self, images: Tensor, task: str) -> Tensor:
        return self.last * self.norm(images)


@pytest.fixture
def case() -> Case:
    images = torch.rand(1, 1, 6, 6, 6) / 2 + 0.5
    return Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * 3]),
        source=2 * images,
        predict=lambda images, network: network(images),
        activation="sigmoid",
    )


@pytest.mark.parametrize("steps", [1, 3])
def test_adam_moves_scale_and_shift_by_the_rate_against_what_is_too_much(case, steps):
    # 2x is above x everywhere: both gradients are positive, and Adam moves by the rate each time
    method = DeTTA(rate=1e-3, steps=steps)
    state = begin(method, Doubling().eval(), "sigmoid")
    logits = segment(method, case, state)
    scale, shift = 2 - steps * 1e-3, -steps * 1e-3
    assert state.network.norm.weight.item() == pytest.approx(scale, abs=2e-5)
    assert state.network.norm.bias.item() == pytest.approx(shift, abs=2e-5)
    assert state.network.last.item() == 1
    torch.testing.assert_close(logits, scale * case.images + shift, atol=1e-4, rtol=0)


def test_a_head_that_restores_the_image_leaves_almost_nothing_to_learn(case):
    # of x + n, n of standard deviation .1, the best linear estimate shrinks: the scale goes down
    network = Doubling().eval()
    nn.init.constant_(network.norm.weight, 1)
    method = DeTTA(rate=1e-3)
    state = begin(method, network, "sigmoid")
    segment(method, case, state)
    assert state.network.norm.weight.item() == pytest.approx(1 - 1e-3, abs=1e-5)


def test_the_published_settings():
    method = DeTTA()
    assert (method.rate, method.betas, method.steps) == (1e-6, (0.9, 0.99), 1)


def test_refusals_say_what_is_missing():
    assert "without a head for 'denoising'" in DeTTA().unsupported(nn.BatchNorm3d(1))
    network = Doubling()
    assert DeTTA().unsupported(network) == ""
    network.norm = nn.Identity()
    assert "no normalisation layer" in DeTTA().unsupported(network)
