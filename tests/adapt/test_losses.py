"""Losses against sums done by hand with plain numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from grata_monai.adapt.losses import (
    CONSISTENCIES,
    ENTROPIES,
    balanced_entropy,
    consistency,
    entropy,
    entropy_half,
    foreground,
    probabilities,
    soft_dice,
)


def voxels(*channels: list[float]) -> Tensor:
    """Channels of one case as (1, k, n, 1)."""
    return torch.tensor(channels)[None, ..., None]


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def from_probabilities(*channels: list[float]) -> Tensor:
    return voxels(*[[logit(p) for p in channel] for channel in channels])


def from_exclusive(*channels: list[float]) -> Tensor:
    return voxels(*[[math.log(p) for p in channel] for channel in channels])


def bernoulli(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def shannon(*p: float) -> float:
    return -sum(q * math.log(q) for q in p)


def test_probabilities_by_hand():
    sigmoid = probabilities(from_probabilities([0.2, 0.9]), "sigmoid")
    assert sigmoid.flatten().tolist() == pytest.approx([0.2, 0.9])
    softmax = probabilities(from_exclusive([0.2], [0.5], [0.3]), "softmax")
    assert softmax.flatten().tolist() == pytest.approx([0.2, 0.5, 0.3])


def test_foreground_of_exclusive_classes_leaves_out_the_first():
    maps = torch.rand(1, 3, 2, 2)
    assert torch.equal(foreground(maps, "softmax"), maps[:, 1:])
    assert torch.equal(foreground(maps, "sigmoid"), maps)


def test_half_entropy_sums_channels_and_has_no_second_term():
    logits = from_probabilities([0.2, 0.9], [0.5, 0.6])
    term = lambda p: -p * math.log(p + 1e-6)  # noqa: E731
    expected = (term(0.2) + term(0.5) + term(0.9) + term(0.6)) / 2
    assert entropy_half(logits, "sigmoid").item() == pytest.approx(expected, rel=1e-5)


def test_half_entropy_of_exclusive_classes_is_their_entropy():
    logits = from_exclusive([0.2, 0.5], [0.8, 0.5])
    expected = (shannon(0.2, 0.8) + shannon(0.5, 0.5)) / 2
    assert entropy_half(logits, "softmax").item() == pytest.approx(expected, rel=1e-5)


def test_entropy_by_hand():
    logits = from_probabilities([0.2, 0.9], [0.5, 0.6])
    expected = (bernoulli(0.2) + bernoulli(0.5) + bernoulli(0.9) + bernoulli(0.6)) / 2
    assert entropy(logits, "sigmoid").item() == pytest.approx(expected, rel=1e-6)
    logits = from_exclusive([0.2, 0.1], [0.5, 0.6], [0.3, 0.3])
    expected = (shannon(0.2, 0.5, 0.3) + shannon(0.1, 0.6, 0.3)) / 2
    assert entropy(logits, "softmax").item() == pytest.approx(expected, rel=1e-6)


def test_balanced_entropy_weighs_each_predicted_class_alike():
    logits = from_exclusive([0.9, 0.8, 0.7, 0.2], [0.1, 0.2, 0.3, 0.8])
    background = (shannon(0.9, 0.1) + shannon(0.8, 0.2) + shannon(0.7, 0.3)) / 3
    expected = (background + shannon(0.2, 0.8)) / 2
    assert balanced_entropy(logits, "softmax").item() == pytest.approx(expected, rel=1e-6)


def test_balanced_entropy_of_independent_channels_weighs_inside_and_outside_alike():
    logits = from_probabilities([0.1, 0.2, 0.7], [0.1, 0.3, 0.4])
    first = ((bernoulli(0.1) + bernoulli(0.2)) / 2 + bernoulli(0.7)) / 2
    second = (bernoulli(0.1) + bernoulli(0.3) + bernoulli(0.4)) / 3  # nothing is inside
    assert balanced_entropy(logits, "sigmoid").item() == pytest.approx(first + second, rel=1e-6)


def test_consistency_of_independent_channels_is_the_mean_binary_cross_entropy():
    logits = from_probabilities([0.2, 0.9], [0.5, 0.6])
    target = voxels([0.0, 1.0], [0.3, 0.6])
    cross = lambda t, p: -t * math.log(p) - (1 - t) * math.log(1 - p)  # noqa: E731
    terms = [cross(0, 0.2), cross(1, 0.9), cross(0.3, 0.5), cross(0.6, 0.6)]
    assert consistency(logits, target, "sigmoid").item() == pytest.approx(sum(terms) / 4, rel=1e-6)
    weights = voxels([1.0, 0.5])
    expected = (terms[0] + terms[2] + 0.5 * (terms[1] + terms[3])) / 3
    weighed = consistency(logits, target, "sigmoid", weights)
    assert weighed.item() == pytest.approx(expected, rel=1e-6)


def test_consistency_of_exclusive_classes_is_the_soft_cross_entropy():
    logits = from_exclusive([0.2, 0.5], [0.8, 0.5])
    target = voxels([0.1, 1.0], [0.9, 0.0])
    first = -0.1 * math.log(0.2) - 0.9 * math.log(0.8)
    expected = (first - math.log(0.5)) / 2
    assert consistency(logits, target, "softmax").item() == pytest.approx(expected, rel=1e-6)
    weighed = consistency(logits, target, "softmax", voxels([1.0, 0.0]))
    assert weighed.item() == pytest.approx(first, rel=1e-6)


def test_soft_dice_by_hand():
    logits = from_probabilities([0.2, 0.9])
    target = voxels([0.0, 1.0])
    expected = 1 - 2 * 0.9 / (0.04 + 0.81 + 1)
    assert soft_dice(logits, target, "sigmoid").item() == pytest.approx(expected, abs=1e-5)
    weighed = soft_dice(logits, target, "sigmoid", voxels([0.0, 1.0]))
    assert weighed.item() == pytest.approx(1 - 2 * 0.9 / (0.81 + 1), abs=1e-5)


def test_soft_dice_of_exclusive_classes_ignores_the_background():
    logits = from_exclusive([0.2, 0.5], [0.8, 0.5])
    target = voxels([0.0, 1.0], [1.0, 0.0])
    expected = 1 - 2 * 0.8 / (0.64 + 0.25 + 1)
    assert soft_dice(logits, target, "softmax").item() == pytest.approx(expected, abs=1e-5)


def test_soft_dice_averages_over_cases():
    logits = from_probabilities([0.2, 0.9])
    target = voxels([0.0, 1.0])
    alone = soft_dice(logits, target, "sigmoid")
    empty = torch.full_like(logits, -200.0)
    both = soft_dice(
        torch.cat([logits, empty]), torch.cat([target, torch.zeros_like(target)]), "sigmoid"
    )
    assert both.item() == pytest.approx(alone.item() / 2, rel=1e-5)


def test_soft_dice_of_two_empty_maps_is_zero():
    logits = torch.full((1, 1, 3, 3), -200.0)
    assert soft_dice(logits, torch.zeros(1, 1, 3, 3), "sigmoid").item() == 0


def test_soft_dice_is_least_where_the_prediction_equals_a_soft_label():
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = soft_dice(logits, logits.detach().sigmoid(), "sigmoid")
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert gradient.abs().max().item() < 1e-6


def test_the_sum_of_consistency_and_soft_dice():
    logits, target = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    weights = torch.rand(1, 1, 4, 4)
    loss = CONSISTENCIES["consistency+soft_dice"](logits, target, "softmax", weights)
    expected = consistency(logits, target, "softmax", weights) + soft_dice(
        logits, target, "softmax", weights
    )
    assert loss.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("name", CONSISTENCIES)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_weights_of_one_change_nothing_and_voxels_without_weight_have_no_say(name, activation):
    loss = CONSISTENCIES[name]
    logits, target = torch.randn(2, 2, 3, 4, 2), torch.rand(2, 2, 3, 4, 2)
    plain = loss(logits, target, activation, None)
    ones = loss(logits, target, activation, torch.ones(1, 1, 3, 4, 2))
    torch.testing.assert_close(plain, ones)
    weights = torch.ones(1, 1, 3, 4, 2)
    weights[:, :, 0] = 0
    spoilt = logits.clone()
    spoilt[:, :, 0] = 50
    torch.testing.assert_close(
        loss(logits, target, activation, weights), loss(spoilt, target, activation, weights)
    )
    assert loss(logits, target, activation, torch.zeros(1, 1, 3, 4, 2)).item() == 0


@given(
    seed=st.integers(0, 1000),
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=3),
    channels=st.integers(2, 3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    size=st.sampled_from([1.0, 30.0, 300.0]),
    activation=st.sampled_from(["sigmoid", "softmax"]),
)
def test_every_loss_and_its_gradient_is_finite_in_any_precision(
    seed, shape, channels, dtype, size, activation
):
    generator = torch.Generator().manual_seed(seed)
    logits = size * torch.randn((2, channels, *shape), generator=generator)
    logits = logits.to(dtype).requires_grad_()
    target = torch.rand((2, channels, *shape), generator=generator)
    losses = [loss(logits, activation) for loss in ENTROPIES.values()]
    losses += [loss(logits, target, activation, None) for loss in CONSISTENCIES.values()]
    for value in losses:
        (gradient,) = torch.autograd.grad(value, logits, retain_graph=True)
        assert (value.dtype, value.shape) == (torch.float32, ())
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


def test_uniform_logits_have_the_greatest_entropy():
    zeros = torch.zeros(1, 3, 2, 2)
    for name in ("entropy", "balanced_entropy"):
        assert ENTROPIES[name](zeros, "softmax").item() == pytest.approx(math.log(3))
        assert ENTROPIES[name](zeros, "sigmoid").item() == pytest.approx(3 * math.log(2))


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation must be 'sigmoid' or 'softmax', got 'relu'"):
        probabilities(torch.zeros(1, 2, 2, 2), "relu")


def test_softmax_of_a_single_channel_is_refused():
    with pytest.raises(ValueError, match="at least 2 output channels, got 1"):
        entropy(torch.zeros(1, 1, 2, 2), "softmax")


def test_weights_of_another_shape_are_refused():
    logits = torch.zeros(2, 1, 4, 4)
    with pytest.raises(TypeCheckError, match="weights"):
        consistency(logits, logits, "sigmoid", torch.ones(2, 1, 4, 5))
