"""Cosine, step size and perturbation against arithmetic."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from grata_monai.adapt.alignment import cosine, gradients, is_finite, perturbed, step_size


def test_cosine_spans_all_parameters_together():
    first = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
    second = [torch.tensor([0.0, 1.0]), torch.tensor([1.0])]
    # (3·0 + 0·1 + 4·1) / (5 · √2)
    assert float(cosine(first, second)) == pytest.approx(4 / (5 * 2**0.5))


def test_cosine_with_a_zero_gradient_is_zero():
    assert float(cosine([torch.zeros(3)], [torch.ones(3)])) == 0


@pytest.mark.parametrize(("agreement", "rate"), [(-1, 0), (0, 0.25), (0.5, 0.5625), (1, 1)])
def test_step_size_is_the_square_of_the_half_shifted_cosine(agreement, rate):
    value = step_size(torch.tensor(float(agreement)), base_rate=1.0)
    assert float(value) == pytest.approx(rate)


def test_step_size_refuses_what_is_no_cosine():
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\], got 2.0"):
        step_size(torch.tensor(2.0), base_rate=1.0)


@given(st.floats(-1, 1), st.floats(0, 10))
def test_step_size_never_exceeds_the_base_rate(agreement, base_rate):
    assert 0 <= float(step_size(torch.tensor(agreement), base_rate=base_rate)) <= base_rate * 1.0001


@given(st.floats(0, 5), st.integers(0, 99))
def test_perturbation_is_undone_bit_for_bit(length, seed):
    generator = torch.Generator().manual_seed(seed)
    parameter = nn.Parameter(torch.randn(7, generator=generator))
    gradient = torch.randn(7, generator=generator)
    before = parameter.detach().clone()
    with perturbed([parameter], [gradient], length):
        torch.testing.assert_close(parameter.detach(), before - length * gradient)
    assert torch.equal(parameter, before)


def test_perturbation_is_undone_after_an_interrupt():
    parameter = nn.Parameter(torch.ones(3))
    with pytest.raises(KeyboardInterrupt), perturbed([parameter], [torch.ones(3)], 0.3):
        raise KeyboardInterrupt
    assert torch.equal(parameter.detach(), torch.ones(3))


def test_a_parameter_outside_the_loss_has_a_zero_gradient():
    used, unused = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.ones(2))
    found = gradients((used**2).sum(), [used, unused])
    assert [g.tolist() for g in found] == [[4.0], [0.0, 0.0]]


def test_infinity_and_nan_are_not_finite():
    assert is_finite([torch.ones(2)])
    assert not is_finite([torch.ones(2), torch.tensor([float("inf")])])
    assert not is_finite([torch.tensor([float("nan")])])
