"""Equivariance: counted by hand on networks that follow a view, and on some that do not."""

import pytest
import torch

from grata_monai.adapt.equivariance import admit_views, measure_equivariance, overlap


def test_a_network_that_looks_at_voxels_one_by_one_is_equivariant():
    images = [torch.randn(1, 1, 6, 6), torch.randn(2, 1, 6, 4)]
    names = ["identity", "flip:0", "flip:0,1", "turn90:0,1", "turn180:0,1"]
    scores = measure_equivariance(lambda x: 3 * x - 1, images, names, activation="sigmoid")
    assert scores == dict.fromkeys(names, 1.0)


def test_equivariance_of_a_network_that_knows_left_from_right_is_counted_by_hand():
    where = torch.tensor([[1.0, 1.0, -1.0, -1.0]]).T  # foreground: the first two of four rows
    predict = where.expand(4, 3)[None, None].expand_as
    images = [torch.zeros(1, 1, 4, 3)]
    names = ["flip:1", "flip:0", "scale:2:0"]
    scores = measure_equivariance(predict, images, names, activation="sigmoid")
    assert scores["flip:1"] == 1
    assert scores["flip:0"] == 0
    # only rows 1 and 2 were seen; there the view maps back to the same foreground, row 1
    assert scores["scale:2:0"] == 1


def test_equivariance_counts_softmax_foreground_and_calls_two_empty_maps_equal():
    logits = torch.zeros(1, 3, 2, 2)
    logits[:, 1, 0, :] = 5.0  # class 1 above; elsewhere a tie, which the background wins
    scores = measure_equivariance(
        lambda x: logits, [torch.zeros(1, 1, 2, 2)], ["flip:0", "flip:1"], activation="softmax"
    )
    # class 2 is empty in both and does not count; class 1 moves away under flip:0
    assert scores == {"flip:0": 0.0, "flip:1": 1.0}


def test_equivariance_needs_a_case():
    with pytest.raises(ValueError, match="images must hold at least one case"):
        measure_equivariance(torch.neg, [], ["identity"], activation="sigmoid")


def test_views_above_the_minimum_are_admitted_and_the_identity_always():
    dice = {"flip:0": 0.95, "flip:1": 0.6, "identity": 1.0, "scale:1.25": 0.9}
    assert admit_views(dice, minimum=0.9) == ("identity", "flip:0", "scale:1.25")
    assert admit_views({"flip:1": 0.1}, minimum=0.9) == ("identity",)


def test_absent_classes_do_not_count_however_many_there_are():
    one, two = torch.zeros(2, 1, 3, 4)
    one[0, 0], two[0, 0] = torch.tensor([1.0, 1, 0, 0]), torch.tensor([0, 1.0, 1, 0])
    padded = [torch.cat([masks, torch.zeros(1, 102, 4)], 1) for masks in (one, two)]
    assert overlap(one, two).tolist() == overlap(*padded).tolist() == [0.5]
    assert overlap(torch.zeros(1, 5, 4), torch.zeros(1, 5, 4)).tolist() == [1.0]
