"""A mask is told from the organ by size, place, pieces and contrast."""

import math

import numpy as np
import pytest

from grata_monai.adapt.organ import describe_organ, profile_organ


def make_box(start=(4, 4, 4), size=(8, 6, 4), shape=(20, 20, 20)):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return mask


def bright(mask, value=1.0):
    noise = np.random.default_rng(0).normal(0, 0.1, mask.shape)
    return (noise + value * mask).astype(np.float32)


def test_features_of_a_box_are_exact():
    mask = make_box()
    found = describe_organ(mask, bright(mask), (1.0, 2.0, 5.0))
    assert found["volume"] == pytest.approx(math.log(8 * 6 * 4 * 10 / 1000))
    assert found["extent 1"] == pytest.approx(math.log(12))
    assert found["position 0"] == pytest.approx(4 + 3.5 - 9.5)
    assert found["position 2"] == pytest.approx((4 + 1.5 - 9.5) * 5)
    assert found["fill"] == pytest.approx(1)
    assert found["pieces"] == 0
    assert found["share"] == 1
    assert found["contrast"] > 1.5


def test_the_largest_piece_counts_and_specks_do_not():
    mask = make_box()
    mask[0, 0, 0] = True
    found = describe_organ(mask, bright(mask), (1.0, 1.0, 1.0))
    assert found["pieces"] == 0
    assert found["volume"] == pytest.approx(math.log(0.192))
    mask |= make_box((14, 14, 14), (4, 4, 4))
    found = describe_organ(mask, bright(mask), (1.0, 1.0, 1.0))
    assert found["pieces"] == pytest.approx(math.log(2))
    assert found["share"] == pytest.approx(192 / (192 + 64 + 1))


def test_contrast_has_the_sign_of_the_organ():
    mask = make_box()
    dark = describe_organ(mask, bright(mask, -1.0), (1.0, 1.0, 1.0))
    assert dark["contrast"] < -1.5


def test_a_plane_has_an_area():
    mask = make_box((2, 2), (3, 4), (10, 10))
    assert describe_organ(mask, bright(mask), (2.0, 2.0))["volume"] == pytest.approx(math.log(48))


def test_an_empty_mask_has_no_features():
    assert (
        describe_organ(np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), np.float32), (1.0, 1.0, 1.0))
        is None
    )


@pytest.fixture(scope="module")
def profile():
    cases = []
    for grow in (-1, 0, 0, 1, 1, 2):
        mask = make_box(size=(8 + grow, 6, 4))
        cases.append(describe_organ(mask, bright(mask), (5.0, 5.0, 5.0)))
    return profile_organ(cases)


def judge(profile, mask):
    return profile.judge(describe_organ(mask, bright(mask), (5.0, 5.0, 5.0)))


def test_a_mask_like_the_labels_is_plausible(profile):
    found = judge(profile, make_box())
    assert found.distance <= profile.limit
    assert found.percentile < 100


@pytest.mark.parametrize(
    ("mask", "odd"),
    [
        (make_box(size=(2, 2, 1)), ("volume", "extent 0", "extent 2")),
        (make_box((12, 12, 15)), ("position 2",)),
    ],
)
def test_another_organ_is_not_and_the_oddest_feature_is_named(profile, mask, odd):
    found = judge(profile, mask)
    assert found.distance > profile.limit
    assert found.percentile == 100
    assert found.odd in odd
    assert not found.usual[0] <= found.value <= found.usual[1]
