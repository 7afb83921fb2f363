"""The shape annotations are checked while the tests run: a wrong shape must be refused."""

import pytest
import torch
from jaxtyping import TypeCheckError

from grata_monai.adapt.losses import consistency


def test_logits_without_spatial_axes_are_refused():
    with pytest.raises(TypeCheckError, match="logits"):
        consistency(torch.zeros(2), torch.zeros(2), "sigmoid")


def test_two_arguments_must_agree_in_their_shapes():
    with pytest.raises(TypeCheckError, match="target_probabilities"):
        consistency(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 5), 0.5), "sigmoid")
