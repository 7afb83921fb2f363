"""What tests of methods share: tiny networks of every kind, a case, and the laws of the interface.

Helpers are fixtures that return functions, since test folders are not importable:

- ``kind``: (dims, norm, activation), one of eight; a test that asks for it runs eight times.
- ``make_network(dims, norm, activation)``: convolution, norm, ReLU, twice, then logits.
- ``make_case(network, activation, dims)``: an image of 12 voxels per axis, two windows of 8.
- ``check_laws(method, network, case)``: what every method owes; returns the logits.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from method_case import Case, begin, segment
from torch import Tensor, nn

from grata_monai.adapt.method import Method
from grata_monai.adapt.network import hash_weights

KINDS = [
    (dims, norm, activation)
    for dims in (3, 2)
    for norm in ("batch", "instance")
    for activation in ("softmax", "sigmoid")
]


@pytest.fixture(params=KINDS, ids=["-".join(map(str, kind)) for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> tuple[int, str, str]:
    """One kind of network: number of spatial axes, normalisation, activation."""
    return request.param


@pytest.fixture
def make_network() -> Callable[..., nn.Module]:
    """Make a network in evaluation mode: 3 classes with softmax, 2 channels with sigmoid.

    `norm` is ``batch`` (with statistics, scale and shift far from the identity), ``instance``
    (affine), ``plain_instance`` (without scale and shift) or ``none``.
    """

    def make(dims: int = 3, norm: str = "batch", activation: str = "softmax") -> nn.Module:
        torch.manual_seed(1)
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        layers: list[nn.Module] = []
        for width in (1, 4):
            layers += [conv(width, 4, 3, padding=1), _make_norm(dims, norm), nn.ReLU()]
        network = nn.Sequential(*layers, conv(4, 3 if activation == "softmax" else 2, 1))
        with torch.no_grad():
            for layer in network:
                if getattr(layer, "running_mean", None) is not None:
                    layer.running_mean.normal_(std=0.2)
                    layer.running_var.uniform_(0.05, 0.5)
                if norm in ("batch", "instance") and getattr(layer, "num_features", 0):
                    layer.weight.uniform_(0.5, 1.5)
                    layer.bias.uniform_(-0.5, 0.5)
        return network.eval()

    return make


def _make_norm(dims: int, norm: str) -> nn.Module:
    if norm == "none":
        return nn.Identity()
    if norm == "batch":
        return {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](4)
    return {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims](4, affine=norm == "instance")


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """Make a case for a network; keywords replace fields of the case, `images` comes first.

    Windows are the two opposite corners of the image, in an extent of 8, or the whole image where
    it is smaller. Predictions are the network's own on whatever it is given.
    """

    def make(network: nn.Module, activation: str = "softmax", dims: int = 3, **fields: Any) -> Case:
        generator = torch.Generator().manual_seed(2)
        images = fields.pop("images", torch.rand(1, 1, *[12] * dims, generator=generator))
        shape = images.shape[2:]
        corners = [[slice(0, 8)] * dims, [slice(max(0, n - 8), n) for n in shape]]
        with torch.no_grad():
            source = network(images)
        settings = {
            "images": images,
            "windows": torch.cat([images[(..., *corner)] for corner in corners]),
            "extents": torch.tensor(
                [[_extent(c, n) for c, n in zip(corner, shape, strict=True)] for corner in corners]
            ),
            "source": source,
            "predict": run,
            "activation": activation,
        }
        return Case(**{**settings, **fields})

    return make


def run(images: Tensor, network: nn.Module) -> Tensor:
    """Predict without an inferer."""
    return network(images)


def _extent(part: slice, length: int) -> list[float]:
    last = max(length - 1, 1)
    return [2 * part.start / last - 1, 2 * (min(part.stop, length) - 1) / last - 1]


@pytest.fixture
def check_laws() -> Callable[[Method, nn.Module, Case], Tensor]:
    """Segment a case three times, once under inference mode, and check what every method owes.

    The network and the image stay bit for bit as they were and get no gradients; starting anew,
    the same case gets the same logits, which are finite and of the source's shape.
    """

    def check(method: Method, network: nn.Module, case: Case) -> Tensor:
        weights, images = hash_weights(network), case.images.clone()
        windows, source = case.windows.clone(), case.source.clone()
        modes = [module.training for module in network.modules()]
        hooks = [len(module._forward_hooks) for module in network.modules()]
        assert method.unsupported(network) == ""

        first, second = (
            segment(method, case, begin(method, network, case.activation)) for _ in range(2)
        )
        with torch.inference_mode():
            copied = Case(
                **{
                    **vars(case),
                    "images": case.images.clone(),
                    "windows": case.windows.clone(),
                    "source": case.source.clone(),
                }
            )
            assert copied.windows.is_inference()
            third = segment(method, copied, begin(method, network, case.activation))

        assert first.shape == case.source.shape
        assert first.dtype == torch.float32
        assert bool(torch.isfinite(first).all())
        assert not first.requires_grad
        assert torch.equal(first, second)
        assert torch.equal(first, third)
        assert hash_weights(network) == weights
        assert torch.equal(case.images, images)
        assert torch.equal(case.windows, windows)
        assert torch.equal(case.source, source)
        assert [module.training for module in network.modules()] == modes
        assert [len(module._forward_hooks) for module in network.modules()] == hooks
        assert all(p.grad is None and p.requires_grad for p in network.parameters())
        return first

    return check
