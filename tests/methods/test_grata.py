"""GraTa as a method: its steps are data, and its state survives what the guard turns down."""

from dataclasses import replace

import pytest
import torch
from method_case import Case, begin, segment
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from grata_monai import GraTa, OnlineMemory
from grata_monai.adapt.episode import run_episode
from grata_monai.adapt.network import hash_weights
from grata_monai.adapt.recipe import PAPER, Recipe
from grata_monai.core.errors import AdaptationError
from grata_monai.methods.grata import GraTaMethod


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
    )


@pytest.mark.parametrize(("channels", "activation"), [(1, "sigmoid"), (3, "softmax")])
@pytest.mark.parametrize("dims", [2, 3])
def test_its_steps_are_those_of_grata(channels, activation, dims):
    network = make_network(dims, channels)
    before, images = hash_weights(network), torch.rand(1, 1, *[8] * dims)
    recipe = PAPER.changed(base_rate=1e-2, steps=2)
    adapter = GraTa(network, recipe, activation=activation)
    expected = list(adapter.adapt(images))
    method, case = GraTaMethod(recipe.steps), make_case(images, network, activation)
    state = begin(method, network, activation)
    found = segment(method, case, state)
    torch.testing.assert_close(found, adapter.predict(images), rtol=0, atol=0)
    assert not torch.allclose(found, case.source, atol=1e-4)
    assert hash_weights(state.network) == hash_weights(adapter.network)
    assert hash_weights(network) == before
    assert [step.update_norm > 0 for step in expected] == [True, True]


@pytest.mark.parametrize("on_failure", ["source", "raise"])
def test_a_failed_case_moves_nothing_that_goes_on(on_failure):
    network, memory = make_network(2, 1), OnlineMemory()
    recipe = PAPER.changed(on_failure=on_failure, memory="online")
    good = make_case(torch.rand(1, 1, 8, 8), network, "sigmoid")
    episode = good.episode(GraTaMethod(recipe.steps))
    run_episode(network, replace(episode, recipe=recipe, memory=memory))
    before = hash_weights(memory.state.network)
    assert before != hash_weights(network)
    bad = make_case(torch.full((1, 1, 8, 8), torch.nan), network, "sigmoid")
    episode = replace(bad.episode(episode.method), recipe=recipe, memory=memory)
    if on_failure == "raise":
        with pytest.raises(AdaptationError, match="must be finite"):
            run_episode(network, episode)
    else:
        kept = run_episode(network, episode)
        assert "must be finite" in kept.reason
    assert hash_weights(memory.state.network) == before


def test_names_and_what_is_not_supported():
    bare = nn.Conv2d(1, 1, 1)
    assert "no normalisation layer" in GraTaMethod().unsupported(bare)
    whole = Recipe("whole").changed(parameters=["all"])
    assert GraTaMethod(whole.steps).unsupported(bare) == ""
