"""The report is a valid encapsulated PDF that says what was done, on two pages that hold it all."""

import hashlib
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from grata_monai.write.dicom import pages
from grata_monai.write.dicom.report import write_report
from grata_monai.write.pictures.sheet import Sheet


@pytest.fixture(scope="module")
def sheet(make_volume, masks, segments, record):
    voxels = np.random.default_rng(0).random(masks.shape).astype(np.float32)
    source = np.roll(masks, 1, axis=1)
    return Sheet(voxels, masks, make_volume("axial"), record, segments, source)


@pytest.fixture(scope="module")
def written(sheet, tmp_path_factory):
    return write_report(sheet, path=tmp_path_factory.mktemp("report") / "report.dcm")


@pytest.fixture
def report(written, read_back):
    return read_back(written.path)


@pytest.fixture(scope="module")
def long_sheet(sheet, segments, source_record):
    """More of everything than a page has room for."""
    many = tuple(replace(segments[0], number=k, label=f"segment of a {k}") for k in range(1, 30))
    record = replace(
        source_record,
        reason="adaptation ended early because " + "of one thing and another " * 20,
        steps=sheet.record.steps * 10,
        views={"weak": ["flip:0", "turn:90"] * 20, "prediction": [], "dropped": {"a": "b " * 200}},
        environment={"device": "cuda:0 (a GPU)", "seed": 0, "versions": {"monai": "1.6.1"}},
    )
    return replace(sheet, segments=many, record=record)


def table_texts(sheet):
    return [text.get_text() for text in pages._draw_table(sheet).texts]


def test_it_is_valid(written, find_dicom_errors):
    assert find_dicom_errors(written.path) == []


def test_it_is_valid_for_an_enhanced_source_and_an_empty_mask(
    sheet, make_volume, source_record, tmp_path, find_dicom_errors
):
    volume = make_volume("sagittal", is_enhanced=True)
    empty = np.zeros_like(sheet.mask)
    other = replace(sheet, volume=volume, mask=empty, source=empty, record=source_record)
    assert find_dicom_errors(write_report(other, path=tmp_path / "a.dcm").path) == []


def test_it_holds_a_pdf_of_two_pages_without_a_date(report, sheet):
    document = report.EncapsulatedDocument[: report.EncapsulatedDocumentLength]
    assert document == pages.make_pdf(sheet)
    assert document.startswith(b"%PDF-")
    assert document.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type /Page\b", document)) == 2
    assert b"CreationDate" not in document
    assert len(report.EncapsulatedDocument) % 2 == 0
    assert report.MIMETypeOfEncapsulatedDocument == "application/pdf"


def test_its_fonts_are_embedded(report):
    fonts = re.findall(rb"/Type /Font\b.*?/Subtype /(\w+)", report.EncapsulatedDocument, re.DOTALL)
    assert set(fonts) == {b"Type3"}  # a Type 3 font is a drawing in the file itself


@pytest.mark.skipif(shutil.which("gs") is None, reason="ghostscript is not installed")
def test_ghostscript_reads_its_text(report, tmp_path):
    (tmp_path / "a.pdf").write_bytes(
        report.EncapsulatedDocument[: report.EncapsulatedDocumentLength]
    )
    command = ["gs", "-q", "-dSAFER", "-dBATCH", "-dNOPAUSE", "-sDEVICE=txtwrite", "-o", "-"]
    done = subprocess.run([*command, tmp_path / "a.pdf"], capture_output=True, check=True)
    text = " ".join(done.stdout.decode().split())
    assert "What was done to this case" in text
    assert text.count("RESEARCH USE ONLY") == 2


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


def test_it_names_nobody(report, sheet, read_back):
    source = read_back(sheet.volume.frames[0].file)
    texts = " ".join(table_texts(sheet))
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert str(source[keyword].value) not in texts
    assert report.BurnedInAnnotation == "NO"
    assert report.PatientID == source.PatientID


def test_equal_cases_have_equal_documents_and_uids(sheet, written, report, tmp_path, read_back):
    slower = replace(sheet.record, seconds={"adaptation": 99.0})
    again = write_report(replace(sheet, record=slower), path=tmp_path / "again.dcm")
    digests = {
        hashlib.sha256(found.EncapsulatedDocument).hexdigest()
        for found in (report, read_back(again.path))
    }
    assert len(digests) == 1
    assert again.sop_instance_uid == written.sop_instance_uid
    assert again.series_uid != written.series_uid


def test_it_is_marked_as_research(report):
    assert report.SeriesDescription == "RESEARCH USE ONLY: report"
    assert "research use only" in report.DocumentTitle
