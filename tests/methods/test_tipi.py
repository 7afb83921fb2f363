"""TIPI: the divergence, against torch.distributions; the step is in `test_published_steps.py`."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, kl_divergence

from grata_monai.methods.tipi import TIPI, divergence


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 3, 4, 5)])
def test_divergence_is_that_of_torch_distributions(shape):
    one, two = torch.randn(shape), torch.randn(shape)

    def classes(logits: Tensor) -> Categorical:
        return Categorical(logits=logits.movedim(1, -1))

    expected = kl_divergence(classes(one), classes(two)).mean()
    torch.testing.assert_close(divergence(one, two, "softmax"), expected)
    expected = kl_divergence(Bernoulli(logits=one), Bernoulli(logits=two)).sum(1).mean()
    torch.testing.assert_close(divergence(one, two, "sigmoid"), expected)
    assert divergence(one, one, "softmax").item() == 0


def test_the_published_settings():
    method = TIPI()
    assert method.rate_per_window * 64 == pytest.approx(0.00025)
    assert method.epsilon * 255 == pytest.approx(2)
    assert (method.momentum, method.entropy_weight, method.is_online) == (0.9, 1.0, True)
