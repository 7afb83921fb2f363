"""Laws of the methods that take gradient steps, on small networks of every kind."""

import dataclasses

import pytest
import torch
from method_case import Case, begin, segment
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from grata_monai.adapt.method import Method
from grata_monai.adapt.network import hash_weights
from grata_monai.methods.affine_consistency import AffineConsistency
from grata_monai.methods.detta import DeTTA
from grata_monai.methods.memo import MEMO
from grata_monai.methods.shape_moments import ShapeMoments, ShapePrior
from grata_monai.methods.student import TeST
from grata_monai.methods.tipi import TIPI
from grata_monai.methods.ttt import TTT
from grata_monai.networks import add_heads

RATE = 1e-2
METHODS = {
    method.name: method
    for method in (
        TTT(rate=RATE, steps=2, copies=2),
        TIPI(rate_per_window=RATE, is_online=False),
        TeST(rate=RATE, teacher_steps=1, student_steps=2),
        ShapeMoments(rate=RATE, steps=2),
        DeTTA(rate=RATE, steps=2),
        MEMO(rate=RATE),
        AffineConsistency(rate=RATE, steps=2, pairs=2, members=2),
    )
}
KINDS = [
    (dims, norm, activation)
    for dims in (2, 3)
    for norm in ("batch", "instance")
    for activation in ("softmax", "sigmoid")
]
every_method = pytest.mark.parametrize("name", METHODS)
every_kind = pytest.mark.parametrize(("dims", "norm", "activation"), KINDS)


def make_network(dims: int, norm: str, activation: str) -> nn.Module:
    torch.manual_seed(1)
    network = DynUNet(
        spatial_dims=dims,
        in_channels=1,
        out_channels=3 if activation == "softmax" else 2,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[4, 6, 8],
        norm_name=(norm, {"affine": True}),
    )
    return add_heads(network, ["denoising", "rotation"]).eval()


def run(images: Tensor, network: nn.Module) -> Tensor:
    return network(images)


def make_case(network: nn.Module, activation: str, dims: int, seed: int = 0) -> Case:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(1, 1, *[12] * dims, generator=generator)
    parts = [(..., *[slice(start, start + 8)] * dims) for start in (0, 4)]
    reach = [[-1, 2 * 7 / 11 - 1], [2 * 4 / 11 - 1, 1]]
    with torch.no_grad():
        source = network(images)
    return Case(
        images=images,
        windows=torch.cat([images[part] for part in parts]),
        extents=torch.tensor([[extent] * dims for extent in reach]),
        source=source,
        predict=run,
        activation=activation,
        seed=seed,
    )


def prepare(name: str, dims: int) -> Method:
    """Give the method that needs one a prior for two foreground channels."""
    method = METHODS[name]
    if isinstance(method, ShapeMoments):
        prior = ShapePrior((9.0, 20.0), ((0.0,) * dims, (0.25,) * dims))
        return dataclasses.replace(method, prior=prior)
    return method


@every_method
@every_kind
def test_the_network_stays_and_the_same_case_gets_the_same_new_logits(name, dims, norm, activation):
    network, method = make_network(dims, norm, activation), prepare(name, dims)
    case = make_case(network, activation, dims)
    before, images = hash_weights(network), case.images.clone()
    assert method.unsupported(network) == ""
    first, second = (segment(method, case, begin(method, network, activation)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == case.source.shape
    assert bool(torch.isfinite(first).all())
    assert not torch.allclose(first, case.source, atol=1e-4)
    assert hash_weights(network) == before
    assert torch.equal(case.images, images)
    assert not any(parameter.grad is not None for parameter in network.parameters())


@every_method
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_inference_mode_of_the_caller_changes_nothing(name, norm):
    network, method = make_network(3, norm, "softmax"), prepare(name, 3)
    case = make_case(network, "softmax", 3)
    expected = segment(method, case, begin(method, network, "softmax"))
    with torch.inference_mode():
        inside = make_case(network, "softmax", 3)
        assert inside.windows.is_inference()
        found = segment(method, inside, begin(method, network, "softmax"))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@every_method
def test_another_seed_draws_other_views(name):
    network, method = make_network(2, "instance", "softmax"), prepare(name, 2)
    cases = [make_case(network, "softmax", 2, seed) for seed in (0, 1)]
    one, two = (segment(method, case, begin(method, network, "softmax")) for case in cases)
    assert torch.equal(one, two) == (name == "shape_moments")  # which draws nothing


@every_method
def test_refusals_say_why(name):
    plain = DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[4, 6, 8],
        norm_name="batch",
    )
    expected = {
        "ttt": "DynUNet was trained without a head for 'rotation'",
        "detta": "DynUNet was trained without a head for 'denoising'",
        "shape_moments": "sizes and centroids of the source are not known",
        "tipi": "",
    }
    reason = METHODS[name].unsupported(plain)
    assert reason.startswith(expected.get(name, ""))
    assert (reason == "") == (name not in ("ttt", "detta", "shape_moments"))


def test_a_network_without_normalisation_is_refused_where_scales_and_shifts_move():
    bare = nn.Conv3d(1, 2, 1)
    for method in (TIPI(), AffineConsistency(parameters=("norm",))):
        assert "has no normalisation layer" in method.unsupported(bare)
    assert AffineConsistency().unsupported(bare) == ""
