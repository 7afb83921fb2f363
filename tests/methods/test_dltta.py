"""DLTTA: factors of the rate from a memory, by hand."""

import math

import pytest
import torch
from method_case import Case, begin, segment
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from torch.nn import functional

from grata_monai.methods.dltta import DLTTA, Entry, _run
from grata_monai.networks import add_heads


def make_network(dims: int) -> nn.Module:
    kind = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
    return nn.Sequential(kind(2, affine=True)).eval()


def make_case(images: Tensor, activation: str = "sigmoid") -> Case:
    return Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * (images.ndim - 2)]),
        source=images,
        predict=lambda images, network: network(images),
        activation=activation,
    )


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_first_case_moves_nothing_and_the_second_by_the_number_of_windows_seen(
    dims, activation
):
    network, method = make_network(dims), DLTTA(rate=0.1)
    case = make_case(torch.randn(2, 2, *[6] * dims), activation)
    state = begin(method, network, activation)
    segment(method, case, state)
    assert torch.equal(state.network[0].weight, torch.ones(2))
    found = segment(method, case, state)
    # Adam: of one gradient, met twice, the average has the gradient's own size
    torch.testing.assert_close(
        state.network[0].weight.detach(), torch.full((2,), 1.2), atol=1e-3, rtol=0
    )
    assert torch.equal(network[0].weight, torch.ones(2))
    with torch.inference_mode():
        state = begin(method, network, activation)
        inside = make_case(case.images.clone(), activation)
        for _ in range(2):
            again = segment(method, inside, state)
    torch.testing.assert_close(again, found, rtol=0, atol=0)


def entry(angle: float, probability: float, extent: int = 2) -> Entry:
    feature = torch.tensor([math.cos(angle), math.sin(angle)])
    return Entry(feature, torch.full((1, extent, extent), probability).logit())


def test_the_nearest_of_the_memory_are_compared_with_the_softened_prediction():
    method = DLTTA(neighbours=1)
    own = entry(0.1, 0.8)
    memory = [entry(0.0, 0.5), entry(2.0, 0.9), entry(3.0, 0.1)]
    # the logit of .8 is log 4, and a quarter of it that of √2 / (1 + √2)
    p, q = 2**0.5 / (1 + 2**0.5), 0.5
    apart = (p - q) * (math.log(p / (1 - p)) - math.log(q / (1 - q)))
    assert method._factor([own], memory, "sigmoid") == pytest.approx(math.exp(apart), rel=1e-5)


def test_only_windows_of_one_shape_are_compared_and_few_count_by_their_number():
    method = DLTTA(neighbours=1)
    memory = [entry(0.0, 0.5), entry(2.0, 0.9, extent=3), entry(3.0, 0.1, extent=3)]
    assert method._factor([entry(0.1, 0.8)], memory, "sigmoid") == 1
    assert method._factor([entry(0.1, 0.8, extent=3)], memory, "sigmoid") > 1
    assert method._factor([entry(0.1, 0.8)], [], "sigmoid") == 0


def test_the_oldest_window_is_forgotten():
    method = DLTTA(capacity=2)
    state = begin(method, make_network(2), "sigmoid")
    images = torch.randn(3, 2, 6, 6)
    for image in images:
        segment(method, make_case(image[None]), state)
    found = torch.stack([each.feature for each in state.memory])
    scale, shift = (p.view(1, 2, 1, 1) for p in state.moving.tensors)
    last = functional.instance_norm(images[2:]) * scale + shift
    assert len(found) == 2
    torch.testing.assert_close(found[1], last.flatten().detach())


def test_features_are_those_of_the_segmentation_s_bottleneck_also_with_heads():
    torch.manual_seed(0)
    plain = DynUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[4, 6, 8],
        norm_name="batch",
    ).eval()
    windows = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        _, expected = _run(windows, plain)
        _, found = _run(windows, add_heads(plain, ["rotation", "denoising"]).eval())
    torch.testing.assert_close(found, expected)
    assert found.shape == (2, 8 * 4 * 4)
