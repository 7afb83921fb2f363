"""Affine consistency: overlap, warping and AdamW's step, by hand."""

import pytest
import torch
from method_case import Case, begin, segment
from torch import Tensor, nn
from torch.nn import functional

from grata_monai.methods.affine_consistency import AffineConsistency, overlap, predict_warped


class Witness(nn.Module):
    """Keeps what it was shown and returns it."""

    def forward(self, images: Tensor) -> Tensor:
        self.shown = images
        return images


class Ramp(nn.Module):
    """Ignores the image: logits rise along the last axis, the steeper the larger its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor) -> Tensor:
        return self.weight * torch.linspace(-1, 1, images.shape[-1]).expand(images.shape)


def test_overlap_by_hand():
    # p = (.5, .5), q = (.5, .2): Σ 2pq = .7, Σ ½(p + q)² = .5 + .245
    q = torch.logit(torch.tensor([0.5, 0.2, 0.9]))
    one, two = torch.zeros(1, 1, 1, 3), q.view(1, 1, 1, 3)
    mask = torch.tensor([1.0, 1.0, 0.0]).view(1, 1, 1, 3)
    assert overlap(one, two, mask, "sigmoid").item() == pytest.approx(0.7 / 0.745)
    # softmax of (0, l) is the sigmoid of l, and the background does not count
    first, second = (torch.cat([torch.zeros_like(one), logits], 1) for logits in (one, two))
    assert overlap(first, second, mask, "softmax").item() == pytest.approx(0.7 / 0.745)
    assert overlap(one, two, torch.zeros_like(mask), "sigmoid").item() == 1


def test_a_shift_by_one_voxel_is_undone_where_it_was_seen():
    window = torch.arange(24.0).view(1, 1, 4, 6)
    affine = torch.eye(3)
    affine[0, 2] = 2 / 6  # one voxel along the last axis: the warped window shows the next one
    network = Witness()
    logits, seen = predict_warped(window, network, affine)
    shown = torch.cat([window[..., 1:], window[..., -1:]], -1)
    torch.testing.assert_close(network.shown, shown, atol=1e-4, rtol=0)
    assert seen[0, 0, 0].tolist() == [0, 1, 1, 1, 1, 1]
    torch.testing.assert_close(logits * seen, window * seen, atol=1e-4, rtol=0)


def test_the_first_step_of_adamw_raises_the_overlap_of_the_two_views():
    rate, images = 0.1, torch.rand(1, 1, 9, 9)
    case = Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * 2]),
        source=images,
        predict=lambda images, network: network(images),
        activation="sigmoid",
    )
    method = AffineConsistency(rate=rate, steps=1, pairs=1, strength=0.2)
    state = begin(method, Ramp(), "sigmoid")
    segment(method, case, state)

    generator = torch.Generator().manual_seed(0)
    network, maps, mask = Ramp(), [], torch.ones(1, 1, 9, 9)
    for _ in range(2):
        affine = torch.eye(3)
        affine[:2] += 0.2 * torch.randn(2, 3, generator=generator)
        back = functional.affine_grid(affine.inverse()[None, :2], [1, 1, 9, 9], align_corners=False)
        half = 1 - 1 / 9  # voxel centres of the outermost row
        mask = mask * (back.abs().amax(-1) <= half + 1e-3 / 9)
        warped = functional.grid_sample(network(images), back, align_corners=False)
        maps.append(torch.sigmoid(warped))
    p, q = (m * mask for m in maps)
    loss = 1 - (2 * p * q).sum() / ((p + q).square() / 2).sum()
    (gradient,) = torch.autograd.grad(loss, network.weight)
    expected = 2 * (1 - 0.01 * rate) - rate * gradient.sign().item()
    assert abs(gradient.item()) > 1e-4
    assert state.network.weight.item() == pytest.approx(expected, rel=1e-4)
    first_moment = state.optimizer.state[state.network.weight]["exp_avg"]  # .1 of the gradient
    assert first_moment.item() == pytest.approx(0.1 * gradient.item(), rel=1e-3)


def test_members_start_at_the_source_and_their_logits_are_averaged():
    images = torch.rand(1, 1, 9, 9)
    case = Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * 2]),
        source=images,
        predict=lambda images, network: network(images),
        activation="sigmoid",
    )
    method = AffineConsistency(rate=0.1, steps=1, pairs=1, members=4)
    logits = segment(method, case, begin(method, Ramp(), "sigmoid"))
    # each member's weight is 2·(1 - .001) ± .1, so their mean is one of five values
    weight = logits[0, 0, 0, -1].item()
    means = [2 * (1 - 0.001) + 0.1 * (2 * ups - 4) / 4 for ups in range(5)]
    assert min(abs(weight - mean) for mean in means) < 1e-4
