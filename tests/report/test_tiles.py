"""Tiles show the slices that differ most, with outlines where the masks lie."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reported import GREEN, report_case, report_organs

from grata_monai.report.pages import render_case
from grata_monai.report.tiles import choose_frames, cut_doubt, cut_tiles, draw_thumbnail
from grata_monai.write.pictures.colours import PALETTE

SPACING = 2.0


@pytest.fixture
def block():
    """A block of 20 × 20 voxels in slices 2 to 7; the source missed most of slice 5."""
    kept = np.zeros((60, 60, 10), np.uint8)
    kept[20:40, 20:40, 2:8] = 1
    source = kept.copy()
    source[20:38, :, 5] = 0
    source[20:22, :, 3] = 0
    affine = np.diag([-SPACING, -SPACING, 6.0, 1.0])
    fields = {"voxels": kept * 5.0, "kept": kept, "source": source, "affine_ras": affine}
    return report_case(marked=(kept | source << 1).astype(np.uint8), **fields)


def test_the_slices_that_differ_most_come_first_then_others_of_the_organ(block):
    sheet = block.sheets["axial"]
    assert choose_frames(sheet, 1) == [5]
    assert choose_frames(sheet, 2) == [3, 5]
    assert set(choose_frames(sheet, 4)) > {3, 5}
    assert choose_frames(replace(sheet, source=None), 2) == [2, 7]


def test_outlines_lie_in_millimetres_around_the_pixels(block):
    tile = next(t for t in cut_tiles(block)["axial"] if t.number == 6)
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", tile.kept[1]), dtype=float)
    width, height = tile.size
    assert np.ptp(points, axis=0) == pytest.approx([40.0, 40.0], abs=0.2)
    assert points.mean(axis=0) == pytest.approx([width / 2, height / 2], abs=2.5)
    assert tile.differs == pytest.approx(18 * 20 * 0.04)
    assert len(tile.views) == 2
    assert tile.views[0] == tile.kept[1]
    assert tile.views[1] == tile.source[1]


def test_doubt_is_where_some_magnifications_mark_and_others_do_not(block):
    found = cut_doubt(block)
    assert found is not None
    slices, tiles = found
    assert (slices.plane, slices.numbers) == ("axial", tuple(range(1, 11)))
    assert [(number, area) for _, number, area in slices.unsure] == [
        (4, pytest.approx(2 * 20 * 0.04)),
        (6, pytest.approx(18 * 20 * 0.04)),
    ]
    assert slices.kept[5] == pytest.approx(20 * 20 * 0.04) == slices.largest
    assert slices.source[5] == pytest.approx(2 * 20 * 0.04)
    assert [(tile.number, tile.doubtful) for tile in tiles] == [
        (4, pytest.approx(1.6)),
        (6, pytest.approx(14.4)),
    ]
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", tiles[1].doubt), dtype=float)
    assert np.ptp(points, axis=0) == pytest.approx([40.0, 36.0], abs=0.2) or (
        np.ptp(points, axis=0) == pytest.approx([36.0, 40.0], abs=0.2)
    )


def test_without_magnifications_nothing_is_said_about_their_doubt(block):
    assert cut_doubt(replace(block, marked=None)) is None
    alone = replace(GREEN, focus=replace(GREEN.focus, windows=GREEN.focus.windows[:1]))
    assert cut_doubt(replace(block, text=alone.to_json())) is None


def test_a_scale_bar_takes_less_than_a_third_of_a_tile(block):
    for tile in cut_tiles(block)["axial"]:
        assert 10 <= tile.bar <= 0.3 * tile.size[0]


def test_every_plane_has_tiles_with_a_picture(block):
    tiles = cut_tiles(block)
    assert {plane: len(cut) for plane, cut in tiles.items()} == {
        "axial": 6,
        "coronal": 3,
        "sagittal": 3,
    }
    picture = Image.open(io.BytesIO(base64.b64decode(tiles["coronal"][0].picture)))
    assert picture.mode == "L"
    assert max(picture.size) <= 320


def test_an_empty_mask_has_tiles_without_outlines():
    empty = np.zeros((20, 20, 6), np.uint8)
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    case = report_case(voxels=empty * 1.0, kept=empty, source=empty, marked=None, affine_ras=affine)
    assert [tile.kept for tile in cut_tiles(case)["axial"] if tile.kept] == []


def test_several_labels_have_an_outline_and_a_colour_each():
    case = report_organs()
    outlined = [tile for tile in cut_tiles(case)["axial"] if tile.kept]
    assert outlined
    assert {label for tile in outlined for label in (*tile.kept, *tile.source)} == {1, 2}
    colours = {volume.name: volume.colour for volume in case.volumes()}
    assert colours == {"left": "#E69F00", "right": "#56B4E9", "absent": "#009E73"}
    assert [volume.colour for volume in report_case().volumes()] == [""]
    picture = Image.open(io.BytesIO(draw_thumbnail(case)))
    drawn = {colour for _, colour in picture.getcolors(picture.width * picture.height)}
    assert {colour for colour in drawn if len(set(colour)) > 1} == set(PALETTE[:2])


def test_a_page_says_that_colours_come_again_where_there_are_too_few():
    names = {number: f"organ {number}" for number in range(1, 9)}
    told = "There are 7 colours, then they come again"
    assert told in render_case(replace(report_organs(), names=names))
    assert told not in render_case(report_organs())


def test_a_thumbnail_is_small_and_shows_both_outlines(block):
    picture = Image.open(io.BytesIO(draw_thumbnail(block)))
    assert picture.size <= (128, 96)
    colours = {colour for _, colour in picture.getcolors(picture.width * picture.height)}
    assert {(230, 159, 0), (86, 180, 233)} <= colours
