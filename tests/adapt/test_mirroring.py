"""What a network says of mirror images holds for every view, and left stays left."""

import json

import pytest
import torch
from monai.inferers import SlidingWindowInferer

from grata_monai import GraTaInferer, Record
from grata_monai.adapt.mirroring import Mirroring
from grata_monai.adapt.views import admissible_views, parse_view
from grata_monai.core.errors import RecipeError

SIDES = Mirroring(pairs=((1, 2),))


class KnowsItsSides(torch.nn.Module):
    """Marks what is bright: as class 1 in the half with small indices, as class 2 in the other."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.InstanceNorm3d(1, affine=True)

    def forward(self, images):
        bright = self.norm(images) * 8
        place = torch.linspace(-1, 1, images.shape[2]).view(1, 1, -1, 1, 1)
        return torch.cat([-bright, bright - 40 * place.relu(), bright - 40 * (-place).relu()], 1)


@pytest.fixture
def image():
    image = torch.zeros(1, 1, 16, 16, 16)
    image[:, :, 2:6, 5:11, 5:11] = 1
    image[:, :, 10:14, 5:11, 5:11] = 1
    return image + 0.01 * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))


def test_labels_change_places_where_left_and_right_did_and_nowhere_else():
    maps = torch.arange(12.0).view(1, 3, 4)[..., None]
    mirrored = parse_view("flip:0", SIDES).invert(maps)
    assert torch.equal(mirrored, maps.flip(2)[:, [0, 2, 1]])
    assert torch.equal(parse_view("flip:1", SIDES).invert(maps), maps.flip(3))


def test_a_network_takes_only_the_views_that_it_knows():
    names = ("identity", "flip:0", "flip:1", "flip:0,1", "turn180:0,1", "turn180:1,2")
    given = {"spatial_shape": (4, 4, 4)}
    kept, dropped = admissible_views(names, **given, mirroring=Mirroring(axes=(1,)))
    assert [view.name for view in kept] == ["identity", "flip:1", "turn180:0,1", "turn180:1,2"]
    assert dropped["flip:0,1"] == "the network takes no images mirrored along axis 0"
    kept, dropped = admissible_views(names, **given, mirroring=SIDES)
    assert list(dropped) == ["turn180:0,1"]
    assert "left into right" in dropped["turn180:0,1"]


@pytest.mark.parametrize("mirroring", [{"pairs": [[1, 2]]}, {"axes": []}, {"axes": [1, 2]}])
def test_left_stays_left(image, mirroring):
    recipe = {"base": "views", "focus_views": []}
    inferer = GraTaInferer(SlidingWindowInferer((16, 16, 16)), recipe, mirroring=mirroring)
    pred = inferer(image, KnowsItsSides().eval())
    labels = pred.argmax(1)[0]
    assert set(labels[:8].unique().tolist()) == {0, 1}
    assert set(labels[8:].unique().tolist()) == {0, 2}
    record = Record.from_json(pred.meta["grata"])
    assert ("flip:0" in record.views.dropped) == ("axes" in mirroring)


def test_without_mirrored_views_an_uncalibrated_guard_keeps_the_source(image):
    inferer = GraTaInferer(SlidingWindowInferer((16, 16, 16)), mirroring={"axes": []})
    record = Record.from_json(inferer(image, KnowsItsSides().eval()).meta["grata"])
    assert (record.outcome, record.verdict.light) == ("source", "amber")
    assert "takes no mirrored views" in record.reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"axes": [3]}, "must be 0, 1 or 2, got 3"),
        ({"pairs": [[1, 2], [2, 3]]}, "must name each channel once"),
        ({"pairs": [[1]]}, "must be as"),
        ({"side": 0}, "must have the keys axes, pairs, side_axis, got 'side'"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_inferer_is_built(given, message):
    with pytest.raises(RecipeError, match=message):
        GraTaInferer(SlidingWindowInferer((16, 16, 16)), mirroring=given)


def test_a_pair_beyond_the_output_channels_is_an_error():
    with pytest.raises(RecipeError, match="must name output channels, got 7 of 3"):
        parse_view("flip:0", Mirroring(pairs=((1, 7),))).invert(torch.zeros(1, 3, 4, 4))


def test_lists_of_a_configuration_are_taken():
    given = json.loads('{"axes": [0, 1], "pairs": [[1, 2]], "side_axis": 0}')
    assert Mirroring.resolve(given) == Mirroring((0, 1), ((1, 2),))
