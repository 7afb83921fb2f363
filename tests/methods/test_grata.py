"""GraTa as a method gives what the inferer gives."""

import math
from dataclasses import replace

import pytest
import torch
from monai.inferers import SimpleInferer
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from grata_monai import GraTaInferer
from grata_monai.adapt.case import OnlineMemory
from grata_monai.adapt.network import hash_weights
from grata_monai.adapt.recipe import CLINICAL, PAPER, Recipe
from grata_monai.core.errors import AdaptationError
from grata_monai.methods.grata import GraTaClinical, GraTaMethod, GraTaPaper
from grata_monai.methods.method import Case


def make_network(dims: int, channels: int) -> nn.Module:
    torch.manual_seed(1)
    return DynUNet(
        spatial_dims=dims,
        in_channels=1,
        out_channels=channels,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[4, 6, 8],
        norm_name="batch",
    ).eval()


def make_case(images: Tensor, network: nn.Module, activation: str) -> Case:
    with torch.no_grad():
        source = network(images)
    return Case(
        images=images,
        windows=images,
        extents=torch.tensor([[[-1.0, 1.0]] * (images.ndim - 2)]),
        source=source,
        predict=lambda images, network: network(images),
        activation=activation,
        seed=0,
    )


@pytest.mark.parametrize("recipe", [PAPER, CLINICAL], ids=["paper", "clinical"])
@pytest.mark.parametrize(("channels", "activation"), [(1, "sigmoid"), (3, "softmax")])
@pytest.mark.parametrize("dims", [2, 3])
def test_logits_are_the_inferers(recipe, channels, activation, dims):
    network = make_network(dims, channels)
    before = hash_weights(network)
    images = torch.rand(1, 1, *[8] * dims)
    recipe = replace(recipe, base_rate=1e-2, on_failure="raise", source_below=0.0)
    expected = GraTaInferer(SimpleInferer(), recipe, activation=activation)(images, network)
    method, case = GraTaMethod(recipe), make_case(images, network, activation)
    found = method.segment(case, method.start(network, activation))
    torch.testing.assert_close(found, expected.as_tensor(), rtol=0, atol=0)
    assert not torch.allclose(found, case.source, atol=1e-4)
    assert hash_weights(network) == before
    with torch.inference_mode():
        inside = make_case(images.clone(), network, activation)
        assert inside.windows.is_inference()
        again = method.segment(inside, method.start(network, activation))
    torch.testing.assert_close(again, found, rtol=0, atol=0)


def test_weights_and_moments_go_on_online_as_in_the_inferer():
    network = make_network(2, 1)
    online = replace(PAPER, base_rate=1e-2, memory="online", on_failure="raise")
    inferer = GraTaInferer(SimpleInferer(), online, memory=OnlineMemory())
    method = GraTaPaper(replace(PAPER, base_rate=1e-2, on_failure="raise"))
    state = method.start(network, "sigmoid")
    for _ in range(3):
        images = torch.rand(1, 1, 8, 8)
        found = method.segment(make_case(images, network, "sigmoid"), state)
        expected = inferer(images, network).as_tensor()
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("on_failure", ["source", "raise"])
def test_a_failed_case_moves_nothing(on_failure):
    network = make_network(2, 1)
    method = GraTaPaper(replace(PAPER, on_failure=on_failure))
    state = method.start(network, "sigmoid")
    method.segment(make_case(torch.rand(1, 1, 8, 8), network, "sigmoid"), state)
    before = hash_weights(state.memory.adapter.network)
    bad = make_case(torch.full((1, 1, 8, 8), torch.nan), network, "sigmoid")
    if on_failure == "raise":
        with pytest.raises(AdaptationError, match="must be finite"):
            method.segment(bad, state)
    else:
        assert method.segment(bad, state) is bad.source
    assert hash_weights(state.memory.adapter.network) == before


def test_names_protocols_and_refusals():
    assert (GraTaPaper.name, GraTaClinical.name) == ("grata-paper", "grata-clinical")
    assert (GraTaPaper().recipe, GraTaClinical().recipe) == (PAPER, CLINICAL)
    assert GraTaPaper().is_online
    assert not GraTaClinical().is_online
    bare = nn.Conv2d(1, 1, 1)
    assert "no normalisation layer" in GraTaPaper().refusal(bare, "sigmoid")
    assert GraTaMethod(Recipe("whole", parameters=("all",))).refusal(bare, "sigmoid") == ""


def test_notes_say_what_guard_and_cosines_said_of_the_case():
    network = make_network(3, 2)
    case = make_case(torch.rand(1, 1, 8, 8, 8), network, "softmax")
    free = replace(CLINICAL, source_below=0.0, on_failure="raise", calibrated_for=None)
    clinical = GraTaMethod(free)
    state = clinical.start(network, "softmax")
    assert math.isnan(clinical.notes(state).cosine)
    clinical.segment(case, state)
    notes = clinical.notes(state)
    assert -1 <= notes.cosine <= 1
    assert 0 <= notes.agreement <= 1
    assert notes.kept in {"views", "adapted"}
    assert notes.light in {"green", "amber", "red"}
    paper = GraTaPaper(replace(PAPER, on_failure="raise"))
    state = paper.start(network, "softmax")
    paper.segment(case, state)
    assert math.isfinite(paper.notes(state).cosine)
    assert paper.notes(state).light == ""  # it has no guard
