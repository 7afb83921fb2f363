"""The sheet shows each contour where it lies, at the patient's proportions, and names nobody."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection

from grata_monai.write.pictures.colours import FINAL_COLOUR as FINAL
from grata_monai.write.pictures.colours import PALETTE
from grata_monai.write.pictures.colours import SOURCE_COLOUR as SOURCE
from grata_monai.write.pictures.figure import PAPER, SCREEN, draw_sheet, render_sheet
from grata_monai.write.pictures.sheet import Sheet, choose_bar


@pytest.fixture(scope="module")
def volume(make_volume):
    return replace(make_volume("axial"), rows=120, columns=160)  # 90 × 80 mm


@pytest.fixture(scope="module")
def sheet(volume, record):
    """Frames 1 to 3 hold the prostate; the source missed a part, most of it in frame 2."""
    shape = (5, 120, 160)
    voxels = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)
    mask, source = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    mask[1:4, 40:70, 50:94] = 1
    source[1:4, 40:60, 50:94] = 1
    source[2, 40:50, 50:94] = 0
    return Sheet(voxels, mask, volume.affine_lps, record, {1: "prostate"}, source)


def tiles(figure):
    """Axes that show a slice, by the number written into them; the overview comes first."""
    named = [(axes, [text.get_text() for text in axes.texts]) for axes in figure.axes]
    return [(axes, texts) for axes, texts in named if axes.images]


def has_colour(pixels, colour):
    return bool((np.abs(pixels.astype(int) - colour).max(axis=-1) <= 2).any())


def test_equal_sheets_have_equal_pixels(sheet):
    pixels = render_sheet(sheet)
    assert (pixels.shape, pixels.dtype) == ((1200, 1600, 3), np.uint8)
    np.testing.assert_array_equal(pixels, render_sheet(replace(sheet)))


def test_both_masks_are_drawn_in_their_colours(sheet):
    pixels = render_sheet(sheet)
    assert has_colour(pixels, FINAL)
    assert has_colour(pixels, SOURCE)


def test_without_the_source_there_is_one_contour_and_one_name(sheet):
    alone = replace(sheet, source=None)
    assert not has_colour(render_sheet(alone), SOURCE)
    (legend,) = draw_sheet(alone).legends
    assert [text.get_text() for text in legend.texts] == ["final mask"]
    assert alone.facts() == ["prostate 4.5 ml, 31 mm across", "recipe grata"]


def test_several_labels_have_a_colour_each_and_a_legend(sheet):
    halves = np.where(np.arange(160) < 72, 1, 2).astype(np.uint8)
    names = {1: "left", 2: "a name of more than twenty-four letters", 3: "absent"}
    several = replace(
        sheet, mask=sheet.mask * halves, source=sheet.source * halves, names=names, heading=""
    )
    masks, labels = draw_sheet(several).legends
    assert [text.get_text() for text in masks.texts] == ["source network", "final mask"]
    assert {line.get_color() for line in masks.get_lines()} == {SCREEN.ink}
    assert [text.get_text() for text in labels.texts] == ["left", "a name of more than twe…"]
    assert [line.get_color() for line in labels.get_lines()] == ["#E69F00", "#56B4E9"]
    pixels = render_sheet(several)
    assert all(has_colour(pixels, colour) for colour in PALETTE[:2])
    assert not has_colour(pixels, PALETTE[2])


def test_a_hundred_labels_have_a_legend_of_two_rows(sheet):
    many = sheet.mask.copy()
    many[2, 45:65, 55:60] = np.arange(1, 101).reshape(20, 5)
    _, labels = draw_sheet(replace(sheet, mask=many, names={})).legends
    told = [text.get_text() for text in labels.texts]
    assert (told[0], told[-1], len(told)) == ("segment 1", "and 89 more", 12)


def test_contours_are_lines_around_the_pixels_of_their_own_frame(sheet):
    for axes, texts in tiles(draw_sheet(sheet))[1:]:
        final, source = (c for c in axes.collections if isinstance(c, LineCollection))
        (outline,) = final.get_segments()  # x is the column, y the row
        assert outline.min(axis=0).tolist() == [49.5, 39.5]
        assert outline.max(axis=0).tolist() == [93.5, 69.5]
        is_worst = "image 3" in texts
        assert source.get_segments()[0].min(axis=0).tolist() == [49.5, 49.5 if is_worst else 39.5]
        assert source.get_linestyle()[0][1] is not None, "dashed"
        assert final.get_linestyle()[0][1] is None, "solid"


def test_a_millimetre_is_as_long_down_as_across_and_rows_go_down(sheet):
    figure = draw_sheet(sheet)
    FigureCanvasAgg(figure).draw()
    for axes, _ in tiles(figure):
        origin, down, along = axes.transData.transform([(60, 60), (60, 61), (61, 60)])
        row, column = down - origin, along - origin
        assert row[1] < 0 < column[0]  # the canvas counts from below
        assert -row[1] / 0.75 == pytest.approx(column[0] / 0.5, rel=1e-6)


def test_a_scale_bar_is_as_long_as_it_says(sheet):
    for axes, texts in tiles(draw_sheet(sheet))[1:]:
        (bar,) = axes.lines
        length = np.ptp(bar.get_xdata()) * 0.5
        assert f"{length:.0f} mm" in texts
        assert length == choose_bar(np.ptp(axes.get_xlim()) * 0.5)
    assert [choose_bar(width) for width in (10.0, 40.0, 100.0, 200.0, 1000.0)] == [
        5,
        10,
        20,
        50,
        100,
    ]


def test_patient_and_study_are_drawn_where_they_are_given(sheet):
    heading = "Phantom Ada · P-1"
    named = draw_sheet(replace(sheet, heading=heading))
    assert heading in [text.get_text() for text in named.texts]
    assert "P-1" not in " ".join(text.get_text() for text in draw_sheet(sheet).texts)


def test_tiles_bear_the_numbers_that_they_are_given(sheet):
    assert sheet.numbers == (1, 2, 3, 4, 5)
    drawn = tiles(draw_sheet(replace(sheet, numbers=(9, 7, 5, 3, 1))))
    shown = [next(text for text in texts if text.startswith("image")) for _, texts in drawn]
    assert shown == ["image 5", "image 7", "image 5", "image 3"]
    with pytest.raises(ValueError, match="numbers must be one per frame, 5, got 2"):
        replace(sheet, numbers=(1, 2))


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("axial", ("R", "L", "A", "P")),
        ("sagittal", ("A", "P", "H", "F")),
        ("coronal", ("R", "L", "H", "F")),
        ("feet-first", ("L", "R", "A", "P")),
        ("oblique", ("RA", "LP", "AFL", "PHR")),
    ],
)
def test_letters_name_the_edges_as_a_pacs_does(make_volume, masks, record, name, letters):
    sheet = Sheet(np.zeros(masks.shape, np.float32), masks, make_volume(name).affine_lps, record)
    assert sheet.letters() == letters
    _, texts = tiles(draw_sheet(sheet))[0]
    assert tuple(texts[-4:]) == letters


def test_slices_spread_evenly_and_the_most_changed_one_is_among_them(volume, record):
    shape = (41, 120, 160)
    mask = np.zeros(shape, np.uint8)
    mask[5:36, 40:70, 50:94] = 1
    source = mask.copy()
    voxels = np.zeros(shape, np.float32)
    sheet = Sheet(voxels, mask, volume.affine_lps, record, source=source)
    assert sheet.choose_frames() == list(range(5, 36, 3))
    assert sheet.most_changed is None
    source[21, 40:50, 50:94] = 0
    changed = replace(sheet, source=source)
    assert changed.most_changed == 21
    assert changed.choose_frames() == [5, 8, 11, 14, 17, 21, 23, 26, 29, 32, 35]
    named = [texts for _, texts in tiles(draw_sheet(changed)) if "largest change" in texts]
    assert len(named) == 1
    assert "image 22" in named[0]


def test_the_crop_holds_both_masks_and_leaves_room(sheet):
    rows, columns = sheet.crop(aspect=1.0)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (15, 95, 12, 132)  # 60 × 60 mm
    whole = np.zeros_like(sheet.mask)
    whole[:, :, ::159] = 1
    assert replace(sheet, mask=whole).crop(aspect=1.0) == (slice(0, 120), slice(0, 160))


def test_nothing_segmented_is_said_and_shown_on_whole_frames(sheet):
    empty = np.zeros_like(sheet.mask)
    nothing = replace(sheet, mask=empty, source=empty)
    assert nothing.facts()[0] == "NOTHING SEGMENTED"
    shown = tiles(draw_sheet(nothing))
    assert len(shown) == 5
    assert {(*axes.get_xlim(), *axes.get_ylim()) for axes, _ in shown} == {
        (-0.5, 159.5, 119.5, -0.5)
    }
    assert not has_colour(render_sheet(replace(nothing, voxels=sheet.voxels * 0))[130:1000], FINAL)


def test_the_header_says_volume_agreement_recipe_and_research(sheet):
    texts = " ".join(text.get_text() for text in draw_sheet(sheet).texts)
    # 3 × 30 × 44 pixels of 0.75 × 0.5 × 3 mm; the source has 20 + 10 + 20 of the 90 rows
    # the longest distance in a slice: 30 rows of 0.75 mm and 44 columns of 0.5 mm
    assert "prostate 4.5 ml (source 2.5 ml, +80%), 31 mm across" in texts
    assert f"Dice to source {2 * 50 / (90 + 50):.3f}" in texts
    assert "recipe grata" in texts
    assert "RESEARCH USE ONLY" in texts
    assert "Adapted in 5 steps." in texts


def test_an_unchanged_mask_is_said_to_be_unchanged(sheet):
    same = replace(sheet, source=sheet.mask)
    assert "no pixel changed" in same.facts()
    assert same.dice() == 1


def test_the_reason_why_the_source_prediction_was_kept_is_in_the_header(sheet, source_record):
    assert "adapted prediction must be finite" in replace(sheet, record=source_record).verdict


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_voxels_without_contrast_are_drawn_all_the_same(sheet, value):
    pixels = render_sheet(replace(sheet, voxels=np.full_like(sheet.voxels, value)))
    assert has_colour(pixels, FINAL)


def test_paper_is_white_and_a_screen_is_black(sheet):
    assert render_sheet(sheet, theme=PAPER)[-1, 0].tolist() == [255, 255, 255]
    assert render_sheet(sheet, theme=SCREEN)[-1, 0].tolist() == [0, 0, 0]


def test_any_label_is_plain_text(sheet):
    assert render_sheet(replace(sheet, names={1: "前列腺 $x_1$ 100 %"})).any()


def test_a_label_without_a_name_goes_by_its_number(sheet):
    mask = sheet.mask.copy()
    mask[1, 0, 0] = 7
    assert replace(sheet, mask=mask).labels() == {1: "prostate", 7: "segment 7"}


def test_drawing_leaves_no_trace_in_matplotlib(sheet):
    before = dict(mpl.rcParams)
    draw_sheet(sheet)
    assert dict(mpl.rcParams) == before
    pyplot = __import__("sys").modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


@pytest.mark.parametrize("name", ["voxels", "source"])
def test_arrays_of_another_shape_are_refused(sheet, name):
    with pytest.raises(ValueError, match=rf"{name} must be \(frames, rows, columns\) = \(5, 120"):
        replace(sheet, **{name: getattr(sheet, name)[:, ::2]})
