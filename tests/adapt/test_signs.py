"""Signs of a prediction are zero where nothing speaks against it."""

import math
from dataclasses import replace

import pytest
import torch

from grata_monai.adapt.profile import Shift, SourceProfile
from grata_monai.adapt.shape import ShapeModel
from grata_monai.adapt.signs import measure_entropy, measure_signs

PROFILE = SourceProfile("0" * 64, 4, {}, (0.5, 1.0, 1.0, 2.0))


def make_maps(inside):
    """Softmax maps of a cube whose foreground has this probability."""
    maps = torch.zeros(1, 2, 6, 6, 6)
    maps[:, 0] = 1
    maps[:, 0, 2:4, 2:4, 2:4], maps[:, 1, 2:4, 2:4, 2:4] = 1 - inside, inside
    return maps


def binary(p):
    return -(p * math.log(p) + (1 - p) * math.log(1 - p)) / math.log(2)


@pytest.mark.parametrize(("inside", "expected"), [(1.0, 0.0), (0.9, binary(0.9)), (0.2, 1.0)])
def test_entropy_is_that_of_the_mask_alone(inside, expected):
    assert measure_entropy(make_maps(inside), "softmax") == pytest.approx(expected, abs=1e-5)


def test_classes_of_a_sigmoid_are_uncertain_each_for_itself():
    maps = torch.full((1, 2, 4, 4, 4), 0.9)
    maps[:, 1] = 0.5
    expected = (binary(0.9) + 1) / 2
    assert measure_entropy(maps, "sigmoid") == pytest.approx(expected, abs=1e-5)


def measure(maps, distance=1.0, profile=PROFILE, **given):
    return measure_signs(
        maps,
        make_maps(1.0),
        images=torch.zeros(1, 1, 6, 6, 6),
        spacing=None,
        activation="softmax",
        profile=profile,
        shift=Shift(0.0, distance),
        **given,
    )


def test_nothing_speaks_against_a_sure_mask_of_a_case_at_home():
    assert measure(make_maps(1.0)) == {"shift": 0.0, "entropy": 0.0, "change": 0.0}


def test_a_foreign_case_counts_by_the_logarithm_of_its_distance():
    assert measure(make_maps(1.0), 3.0)["shift"] == pytest.approx(math.log(3), abs=1e-5)
    assert measure(make_maps(1.0), 0.1)["shift"] == 0


def test_views_are_also_told_by_disagreement_and_change():
    moved = make_maps(1.0).roll(1, 2)
    found = measure(moved, consistency=0.8)
    assert found["disagreement"] == pytest.approx(0.2)
    assert found["change"] == pytest.approx(0.5)


def test_another_form_counts_by_the_logarithm_of_its_distance():
    full = ShapeModel((1.0,) * 512, (), (), rest=0.04, distances=(0.5, 0.5, 1.0))
    known = replace(PROFILE, shape=full)
    assert measure(make_maps(1.0), profile=known)["shape"] == 0
    stairs = make_maps(1.0)
    stairs[:, :, 3, 3] = stairs[:, :, 0, 3]  # three quarters of the box
    distance = math.sqrt(0.25 / 0.04)
    assert measure(stairs, profile=known)["shape"] == pytest.approx(math.log(distance / 0.5))
    empty = make_maps(1.0)
    empty[:, 0], empty[:, 1] = 1, 0
    assert measure(empty, profile=known)["shape"] == 3


def test_a_profile_without_labels_knows_no_form():
    assert PROFILE.shape is None
    assert "shape" not in measure(make_maps(1.0))
    assert SourceProfile.from_json(PROFILE.to_json().replace(',"shape":null', "")) == PROFILE
