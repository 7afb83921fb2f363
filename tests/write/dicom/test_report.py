"""The report is a valid encapsulated PDF that says what was done, on two pages that hold it all."""

import hashlib
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from grata_monai.write.dicom.case import describe_patient
from grata_monai.write.dicom.report import write_report
from grata_monai.write.pictures.pages import make_pdf


@pytest.fixture(scope="module")
def case(make_case, masks):
    voxels = np.random.default_rng(0).random(masks.shape).astype(np.float32)
    return make_case(voxels=voxels, source=np.roll(masks, 1, axis=1))


@pytest.fixture(scope="module")
def written(case, tmp_path_factory):
    return write_report(case, path=tmp_path_factory.mktemp("report") / "report.dcm")


@pytest.fixture
def report(written, read_back):
    return read_back(written.path)


def test_it_is_valid(written, find_dicom_errors):
    assert find_dicom_errors(written.path) == []


def test_it_is_valid_for_an_enhanced_source_and_an_empty_mask(
    case, make_volume, source_record, tmp_path, find_dicom_errors
):
    volume = make_volume("sagittal", is_enhanced=True)
    empty = np.zeros_like(case.masks)
    other = replace(case, volume=volume, masks=empty, source=empty, record=source_record)
    assert find_dicom_errors(write_report(other, path=tmp_path / "a.dcm").path) == []


def test_it_holds_a_pdf_of_two_pages_without_a_date(report, case):
    document = report.EncapsulatedDocument[: report.EncapsulatedDocumentLength]
    heading = describe_patient(case.volume)
    assert document == make_pdf(replace(case.sheet, heading=heading))
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


def test_it_belongs_to_the_patient_and_says_that_it_names_him(report, case, read_back):
    source = read_back(case.volume.frames[0].file)
    assert report.BurnedInAnnotation == "YES"
    assert report.PatientID == source.PatientID


def test_equal_cases_have_equal_documents_and_uids(case, written, report, tmp_path, read_back):
    slower = replace(case.record, seconds={"adaptation": 99.0})
    again = write_report(replace(case, record=slower), path=tmp_path / "again.dcm")
    digests = {
        hashlib.sha256(found.EncapsulatedDocument).hexdigest()
        for found in (report, read_back(again.path))
    }
    assert len(digests) == 1
    assert again.sop_instance_uid == written.sop_instance_uid
    assert again.series_uid == written.series_uid


def test_it_is_marked_as_research(report):
    assert report.SeriesDescription == "RESEARCH USE ONLY: report"
    assert "research use only" in report.DocumentTitle
