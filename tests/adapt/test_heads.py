"""Auxiliary heads: the protocol, their losses by hand, and an example network that learns."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from grata_monai.adapt.heads import (
    ANSWERS,
    HEAD_LOSSES,
    SupportsAuxiliaryTasks,
    denoising,
    flips_and_turns,
    reconstruction,
    require_head,
    rotation,
    super_resolution,
)
from grata_monai.adapt.losses import entropy
from grata_monai.core.errors import NetworkError
from grata_monai.networks import MultiTaskUNet
from grata_monai.phantom import make_case


class Echo(nn.Module):
    """Remembers what a head was asked, and answers with the images or with given logits."""

    auxiliary_tasks = frozenset(HEAD_LOSSES)

    def __init__(self, logits: Tensor | None = None) -> None:
        super().__init__()
        self.logits = logits
        self.asked: list[tuple[Tensor, str]] = []

    def auxiliary(self, images: Tensor, task: str) -> Tensor:
        self.asked.append((images, task))
        return images if self.logits is None else self.logits.expand(len(images), -1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_example_network_keeps_the_protocol_and_a_plain_one_does_not():
    assert isinstance(MultiTaskUNet(), SupportsAuxiliaryTasks)
    assert not isinstance(nn.Conv2d(1, 1, 1), SupportsAuxiliaryTasks)


@pytest.mark.parametrize("task", HEAD_LOSSES)
def test_a_network_without_the_head_is_refused_with_what_it_offers(task):
    with pytest.raises(NetworkError, match=f"task '{task}', got Conv2d, which offers none. Train"):
        HEAD_LOSSES[task](nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 4, 4), generator=seeded())
    network = Echo()
    network.auxiliary_tasks = frozenset({"colouring"})
    with pytest.raises(NetworkError, match="offers colouring"):
        require_head(network, task)


def test_rotation_turns_each_image_and_scores_the_answer():
    images = torch.rand(6, 2, 4, 4, 3)
    before = images.clone()
    network = Echo(torch.tensor([[3.0, 0.0, 0.0, 0.0]]))
    loss = rotation(network, images, generator=seeded())
    ((turned, task),) = network.asked
    turns = [
        next(k for k in range(4) if torch.equal(view, image.rot90(k, (1, 2))))
        for view, image in zip(turned, images, strict=True)
    ]
    assert task == "rotation"
    assert len(set(turns)) > 1
    normaliser = math.log(math.exp(3) + 3)
    expected = sum(normaliser - (3 if k == 0 else 0) for k in turns) / len(turns)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert torch.equal(images, before)


def test_flips_and_turns_shows_six_views_in_the_order_of_its_answers():
    images = torch.rand(40, 1, 4, 4, 3)
    logits = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    network = Echo(logits)
    loss = flips_and_turns(network, images, generator=seeded())
    ((seen, task),) = network.asked
    drawn = []
    for view, image in zip(seen, images, strict=True):
        views = [*(image.rot90(k, (1, 2)) for k in range(4)), image.flip(1), image.flip(2)]
        drawn.append(next(n for n, each in enumerate(views) if torch.equal(view, each)))
    assert task == "flips_and_turns"
    assert set(drawn) == set(range(6))
    expected = -sum(logits.log_softmax(1)[0, n].item() for n in drawn) / len(drawn)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("task", ANSWERS)
def test_turns_need_square_images(task):
    with pytest.raises(ValueError, match=r"equal extents .* got 4 and 5\. Use windows"):
        HEAD_LOSSES[task](Echo(), torch.zeros(1, 1, 4, 5), generator=seeded())


def test_reconstruction_is_the_mean_squared_error():
    network = Echo()
    network.auxiliary = lambda images, task: images * 0.5
    images = torch.tensor([[[[1.0, 2.0], [0.0, 4.0]]]])
    loss = reconstruction(network, images, generator=seeded())
    assert loss.item() == pytest.approx((0.25 + 1 + 0 + 4) / 4)


def test_super_resolution_shows_pairs_averaged_and_interpolated_back():
    image = torch.tensor([0.0, 2.0, 6.0, 8.0])[None, None, :, None].expand(1, 1, 4, 2)
    network = Echo()
    loss = super_resolution(network, image.clone(), generator=seeded())
    ((coarse, _),) = network.asked
    # means 1 and 7 lie at ±1 from the centre, voxels at ±.5 and ±1.5; the border is held
    assert coarse[0, 0, :, 0].tolist() == pytest.approx([1, 2.5, 5.5, 7])
    assert loss.item() == pytest.approx((1 + 0.25 + 0.25 + 1) / 4)


def test_denoising_shows_noise_of_a_tenth():
    images = torch.full((1, 1, 40, 40, 10), 0.5)
    network = Echo()
    loss = denoising(network, images, generator=seeded())
    ((noisy, _),) = network.asked
    assert (noisy - images).std().item() == pytest.approx(0.1, rel=0.03)
    assert loss.item() == pytest.approx(0.01, rel=0.06)
    assert images.min() == images.max() == 0.5


@pytest.mark.parametrize("task", HEAD_LOSSES)
@pytest.mark.parametrize("shape", [(2, 1, 9, 9), (2, 1, 7, 7, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_are_float32_scalars_that_the_generator_decides(task, shape, dtype, device):
    network = MultiTaskUNet(spatial_dims=len(shape) - 2, features=(4, 8)).to(device, dtype).eval()
    images = torch.rand(shape, generator=seeded(1)).to(device, dtype)
    first, second = (HEAD_LOSSES[task](network, images, generator=seeded(2)) for _ in range(2))
    assert (first.dtype, first.shape) == (torch.float32, ())
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (2, 1, 7, 5), (1, 2, 6, 9, 5), (1, 1, 1, 3, 2)])
def test_the_example_network_answers_on_any_extents(shape):
    dims, channels = len(shape) - 2, shape[1]
    network = MultiTaskUNet(spatial_dims=dims, in_channels=channels, out_channels=3).eval()
    images = torch.rand(shape)
    assert network(images).shape == (shape[0], 3, *shape[2:])
    for task in network.auxiliary_tasks - ANSWERS.keys():
        assert network.auxiliary(images, task).shape == shape
    for task, count in ANSWERS.items():
        assert network.auxiliary(images, task).shape == (shape[0], count)


def test_the_example_network_refuses_a_task_that_it_does_not_know():
    with pytest.raises(ValueError, match=r"task must be one of denoising, .* got 'colouring'"):
        MultiTaskUNet().auxiliary(torch.zeros(1, 1, 4, 4, 4), "colouring")


@pytest.fixture(scope="module")
def phantoms() -> tuple[Tensor, Tensor]:
    """Two small cases: images (2, 1, 16, 16, 8) in [0, 1] and labels of the same shape."""
    cases = [make_case(s, spacing=(6.0, 6.0, 6.0), spatial_shape=(16, 16, 8)) for s in (0, 1)]
    images = torch.stack([torch.from_numpy(case.image.copy()).float()[None] for case in cases])
    labels = torch.stack([torch.from_numpy(case.label.copy()).long() for case in cases])
    return (images / images.flatten(1).quantile(0.995, dim=1).view(-1, 1, 1, 1, 1)).clamp(
        0, 1
    ), labels


def normalisation(network: nn.Module) -> list[nn.Parameter]:
    layers = [m for m in network.encoder.modules() if isinstance(m, nn.BatchNorm3d)]
    return [parameter for layer in layers for parameter in layer.parameters()]


def test_training_lowers_the_segmentation_and_every_auxiliary_loss(phantoms):
    images, labels = phantoms
    network = MultiTaskUNet(features=(4, 8, 16))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
    trace = []
    for _ in range(20):
        losses = {"segmentation": nn.functional.cross_entropy(network(images), labels)}
        for task, loss in HEAD_LOSSES.items():
            losses[task] = loss(network, images, generator=seeded(3))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        trace.append({name: value.item() for name, value in losses.items()})
    for name, last in trace[-1].items():
        assert last < 0.75 * trace[0][name], name


@pytest.mark.parametrize("task", HEAD_LOSSES)
def test_auxiliary_losses_reach_the_normalisation_that_segmentation_shares(phantoms, task):
    images, _ = phantoms
    network = MultiTaskUNet(features=(4, 8)).eval()
    before = copy.deepcopy(network.state_dict())
    shared = normalisation(network)
    for loss in (
        HEAD_LOSSES[task](network, images, generator=seeded()),
        entropy(network(images), "softmax"),
    ):
        gradients = torch.autograd.grad(loss, shared)
        assert len(gradients) == 4
        assert all(gradient.abs().max() > 0 for gradient in gradients)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
