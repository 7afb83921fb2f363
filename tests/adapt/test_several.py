"""Several organs, and large predictions: each part by itself, and never two whole ones."""

import gc

import pytest
import torch
from monai.inferers import SlidingWindowInferer

from grata_monai import GraTaInferer, Record
from grata_monai.adapt import footprint
from grata_monai.adapt.organs import find_organs
from grata_monai.adapt.patches import PatchPlan

WINDOW = PatchPlan((16, 16, 16))
RECIPE = {"base": "clinical", "steps": 1, "calibrated_for": None, "source_below": 0.0}


class Bright(torch.nn.Module):
    """Marks what is brighter than a threshold: as class 1, 2, … by the brightness."""

    def __init__(self, classes):
        super().__init__()
        self.norm = torch.nn.BatchNorm3d(1)
        self.levels = torch.arange(classes).view(1, -1, 1, 1, 1) / 4

    def forward(self, images):
        return -40 * (self.norm(images) - self.levels).abs()


class Above(torch.nn.Module):
    """Marks what is brighter than a threshold, in one channel."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm3d(1)

    def forward(self, images):
        return 40 * (self.norm(images) - 0.125)


def make_image(shape=(40, 40, 20)):
    image = torch.zeros(1, 1, *shape)
    image[:, :, 4:12, 4:12, 4:12] = 0.25
    image[:, :, 26:34, 24:34, 6:14] = 0.5
    return image + 0.01 * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))


def infer(image, network, recipe=RECIPE, **settings):
    inferer = GraTaInferer(SlidingWindowInferer((16, 16, 16)), recipe, **settings)
    pred = inferer(image, network.eval())
    return pred, Record.from_json(pred.meta["grata"])


def test_every_organ_has_a_verdict_and_the_worst_is_the_cases():
    pred, record = infer(make_image(), Bright(4))
    organs = record.organs.entries
    assert [round(x) for organ in organs for x in organ.centre] == [30, 28, 10, 8, 8, 8]
    assert all(organ.kept == "adapted" for organ in organs)
    assert record.outcome == "adapted"
    order = ["red", "amber", "green"]
    assert record.verdict.light == min((o.light for o in organs), key=order.index)
    assert record.organs.way == "whole"
    assert set(pred.argmax(1).unique().tolist()) == {0, 1, 2}


def test_organs_beyond_the_stated_number_take_green_away():
    _, record = infer(make_image(), Bright(4), {**RECIPE, "organs": 1, "amber_below": 0.0})
    assert (len(record.organs.entries), record.organs.left_out) == (1, 1)
    assert record.verdict.light == "amber"
    assert "1 further organ(s) were not looked at" in record.verdict.reason


def test_one_piece_is_one_organ_whatever_else_is_marked():
    _, record = infer(make_image(), Bright(4), single_piece=True)
    assert record.organs.way == ""
    assert record.organs.entries == ()


def test_an_organ_that_another_ones_window_shows_is_not_looked_at_twice():
    masks = torch.zeros(1, 1, 40, 40, 40, dtype=torch.uint8)
    masks[..., 10:20, 10:20, 10:20] = 1
    masks[..., 12:14, 12:14, 21:22] = 2  # beside it, in the same window
    masks[..., 30:33, 30:33, 30:33] = 1  # 27 of 1000 voxels: a splinter
    organs, left_out = find_organs(masks, "softmax", WINDOW, most=4)
    assert [(organ.channel, organ.voxels) for organ in organs] == [(None, 1000)]
    assert left_out == 0


def test_of_a_noisy_prediction_only_so_many_pieces_are_told_apart():
    masks = torch.zeros(1, 1, 96, 96, 96, dtype=torch.uint8)
    masks[..., ::2, ::2, ::2] = 1  # 110592 pieces
    masks[..., 48:52, 0:4, 0:4] = 1
    organs, left_out = find_organs(masks, "softmax", WINDOW, most=2)
    assert organs[0].voxels == 4**3 + 12  # with the noise that touches its sides
    assert len(organs) == 1
    assert left_out == 0  # beside it, all are splinters


@pytest.mark.parametrize("most", [1, 2])
def test_noise_alone_is_at_most_64_pieces(most):
    masks = torch.zeros(1, 1, 96, 96, 96, dtype=torch.uint8)
    masks[..., ::48, ::8, ::8] = 1
    organs, left_out = find_organs(masks, "softmax", WINDOW, most=most)
    assert len(organs) == most
    assert most + left_out <= 64


def test_what_does_not_fit_a_window_is_taken_apart_by_classes():
    masks = torch.zeros(1, 2, 40, 40, 40, dtype=torch.bool)
    masks[:, 0, 2:38, 10:18, 10:18] = True
    masks[:, 1, 34:38, 10:18, 10:18] = True
    organs, _ = find_organs(masks, "sigmoid", WINDOW, most=4)
    assert [(organ.channel, organ.location.extent) for organ in organs] == [
        (0, (36, 8, 8)),
        (1, (4, 8, 8)),
    ]


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(footprint, "LARGEST_WHOLE", 0)


@pytest.mark.usefixtures("small_memory")
def test_made_anew_the_prediction_outside_of_what_changed_is_the_sources():
    image, network = make_image(), Bright(4)
    pred, record = infer(image, network, keep_source=True)
    assert record.organs.way == "parts"
    assert record.outcome == "adapted"
    plain = SlidingWindowInferer((16, 16, 16))(image, network)
    assert torch.equal(pred.meta["grata_source"], plain)
    far = (slice(None), slice(None), slice(0, 2), slice(36, 40))
    torch.testing.assert_close(pred.as_tensor()[far].softmax(1), plain[far].softmax(1))
    assert infer(image, network)[1].digest == record.digest


@pytest.mark.usefixtures("small_memory")
def test_what_is_kept_of_the_source_is_the_source_to_the_byte():
    image, network = make_image(), Bright(4)
    pred, record = infer(image, network, {**RECIPE, "mirror_margin": 1.0})
    assert (record.outcome, record.verdict.kept) == ("source", "source")
    assert [organ.kept for organ in record.organs.entries] == ["source", "source"]
    assert torch.equal(pred.as_tensor(), SlidingWindowInferer((16, 16, 16))(image, network))


@pytest.mark.usefixtures("small_memory")
def test_where_too_little_memory_is_free_the_source_is_kept_and_the_reason_names_both(
    monkeypatch,
):
    monkeypatch.setattr("grata_monai.adapt.several.free_bytes", lambda device: 0)
    pred, record = infer(make_image(), Bright(4))
    assert record.outcome == "source"
    assert record.verdict.light == "amber"
    assert "of memory, 0.0 are free" in record.reason
    assert pred.shape[1] == 4


@pytest.mark.usefixtures("small_memory")
def test_a_large_case_in_which_nothing_is_found_is_red():
    _, record = infer(torch.zeros(1, 1, 40, 40, 20), Bright(4))
    assert (record.outcome, record.verdict.light) == ("source", "red")
    assert "found nothing" in record.reason


@pytest.mark.usefixtures("small_memory")
def test_never_are_there_two_whole_predictions():
    most, whole = [], 105 * 64**3

    class Counting(SlidingWindowInferer):
        def __call__(self, inputs, network, *args, **kwargs):
            if inputs.shape[2:] == (64, 64, 64):
                gc.collect()
                alive = [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor)]
                most.append(sum(tensor.numel() >= whole // 2 for tensor in alive))
            return super().__call__(inputs, network, *args, **kwargs)

    inferer = GraTaInferer(Counting((16, 16, 16)), {**RECIPE, "focus_views": ["identity"]})
    pred = inferer(make_image((64, 64, 64)), Bright(105).eval())
    assert Record.from_json(pred.meta["grata"]).organs.way == "parts"
    assert most == [0, 0]  # once for the source, once at the end, and none lay there before


def make_kidneys():
    image = torch.zeros(1, 1, 40, 40, 20)
    image[:, :, 4:12, 4:12, 4:12] = image[:, :, 28:36, 26:34, 6:14] = 0.25
    return image + 0.01 * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_two_kidneys_under_one_label_are_both_looked_at_and_both_kept(activation):
    network = Bright(2) if activation == "softmax" else Above()
    pred, record = infer(make_kidneys(), network, activation=activation)
    assert len(record.organs.entries) == 2
    mask = pred.argmax(1) if activation == "softmax" else pred[:, 0] > 0
    assert int(mask[0, 4:12, 4:12, 4:12].sum()) == int(mask[0, 28:36, 26:34, 6:14].sum()) == 512


def test_splinters_that_nobody_looked_at_take_green_away():
    image = torch.zeros(1, 1, 40, 40, 20)
    image[:, :, 2:14, 2:14, 2:14] = 0.25
    for x in range(24, 40, 5):
        image[:, :, x : x + 4, 24:28, 4:8] = image[:, :, x : x + 4, 32:36, 4:8] = 0.25
    _, record = infer(image, Bright(2), {**RECIPE, "amber_below": 0.0})
    assert len(record.organs.entries) == 1
    assert "% of what is marked was not looked at" in record.verdict.reason
    assert record.verdict.light != "green"
