"""The report's table says what was done, and everything stays on the page."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from grata_monai.record.types import StepEntry, Views
from grata_monai.write.pictures import pages


@pytest.fixture(scope="module")
def sheet(make_case, masks):
    voxels = np.zeros(masks.shape, np.float32)
    return make_case(voxels=voxels, source=np.roll(masks, 1, axis=1)).sheet


@pytest.fixture(scope="module")
def long_sheet(sheet, source_record):
    """More of everything than a page has room for."""
    many = {k: f"segment of a {k}" for k in range(1, 30)}
    record = replace(
        source_record,
        reason="adaptation ended early because " + "of one thing and another " * 20,
        steps=sheet.record.steps * 10,
        views=Views(("flip:0", "turn:90") * 20, dropped={"a": "b " * 200}),
        environment=replace(
            source_record.environment, device="cuda:0 (a GPU)", versions={"monai": "1.6.1"}
        ),
    )
    return replace(sheet, names=many, record=record)


def table_texts(sheet):
    return [text.get_text() for text in pages._draw_table(sheet).texts]


def test_the_table_says_what_was_done(sheet, record):
    texts = table_texts(sheet)
    assert {"adapted", record.recipe_sha256, record.digest, "a" * 64, "b" * 64} <= set(texts)
    assert texts.count("+0.500") == 5  # the cosine of every step
    # 3 × 5 × 3 pixels of 0.75 × 0.5 × 3 mm; shifted by one of 5 rows
    row = texts.index("prostate")
    assert texts[row : row + 5] == ["prostate", "0.05", "0.05", "+0.0%", "0.800"]


def test_the_table_says_why_the_source_prediction_was_kept(sheet, source_record):
    texts = table_texts(replace(sheet, record=source_record))
    assert "source prediction kept" in texts
    assert "adapted prediction must be finite." in texts
    assert "none was taken" in texts


def test_without_the_source_mask_there_is_nothing_to_compare(sheet):
    texts = table_texts(replace(sheet, source=None))
    row = texts.index("prostate")
    assert texts[row : row + 5] == ["prostate", "–", "0.05", "–", "–"]


def test_however_much_there_is_to_say_it_stays_on_the_page(long_sheet):
    figure = pages._draw_table(long_sheet)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    border = pages.RIGHT_COLUMN * figure.dpi
    for text in figure.texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y0 >= 0, text.get_text()
        assert box.y1 <= figure.bbox.height
        assert box.x1 < border or box.x0 >= border - 1, text.get_text()
    texts = [text.get_text() for text in figure.texts]
    assert "and 38 more, see the record" in texts
    assert "and 21 more" in texts


def test_it_names_nobody(sheet, make_volume, read_back):
    source = read_back(make_volume().frames[0].file)
    texts = " ".join(table_texts(sheet))
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert str(source[keyword].value) not in texts


def test_a_step_shows_what_its_method_has(sheet):
    step = StepEntry(rate=1e-4, update_norm=0.25, loss=0.75)
    texts = table_texts(replace(sheet, record=replace(sheet.record, steps=(step,))))
    assert {"loss", "0.7500", "rate", "1.00e-04", "update", "2.50e-01"} <= set(texts)
    assert not {"auxiliary", "pseudo", "cosine"} & set(texts)
