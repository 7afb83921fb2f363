"""The page says what the code does: its tables against objects, constants and a listening peer."""

import re

import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, evt

from grata_monai.phantom.dicom import TRANSFER_SYNTAXES, write_series
from grata_monai.read.dicom.policy import modality_of
from grata_monai.transfer.address import AeAddress
from grata_monai.transfer.commitment import Commitment, _listening, _Report
from grata_monai.transfer.retry import Retry
from grata_monai.transfer.security import Security
from grata_monai.write.dicom.outputs import OUTPUTS
from grata_monai.write.dicom.segmentation import SEGMENTATION_KINDS
from tools.compliance import dicom_example
from tools.compliance.dicom_example import write_examples
from tools.compliance.dicom_tables import (
    METADATA,
    TAKEN,
    render_network,
    render_read,
    render_syntaxes,
    render_taken,
)

PAGE = "docs/reference/dicom-conformance.md"
VALID = {"AS": "060Y", "CS": "YES", "DA": "20200101", "DS": "2", "PN": "A^B", "TM": "010203"}
PARTICULAR = {
    "LossyImageCompression": "01",
    "LossyImageCompressionMethod": "ISO_10918_1",
    "PatientSex": "M",
}
IMAGE_ONLY = ("Lossy", "PositionReference")  # attributes that other definitions lack


@pytest.fixture(scope="module")
def page(repository) -> str:
    return (repository / PAGE).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def examples(repository) -> list[dicom_example.Example]:
    return write_examples(repository / METADATA)


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


def test_every_class_that_is_read_is_one_that_triage_takes(repository):
    found = {row[1]: row[2] for row in rows(render_read(repository))[1:]}
    assert len(found) == 6
    assert all(modality_of(uid) == modality for uid, modality in found.items())
    assert all(UID(uid).name in render_read(repository) for uid in found)


def test_every_transfer_syntax_is_read_or_named_as_refused(repository):
    text = render_syntaxes(repository)
    read = {row[1]: row[3] for row in rows(text)[1:]}
    paragraphs = re.findall(r"^Refused as `\w+`: (.*)\.$", text, re.MULTILINE)
    refused = {name for paragraph in paragraphs for name in paragraph.split("; ")}
    for uid in AllTransferSyntaxes:
        assert (str(uid) in read) != (uid.name in refused)
    tested = {uid for uid, is_tested in read.items() if is_tested == "yes"}
    deflated = "1.2.840.10008.1.2.1.99"
    assert tested == {str(uid) for uid in TRANSFER_SYNTAXES} - {deflated}


def test_the_page_names_kind_encoding_and_attributes_of_every_object(examples, page):
    found = {row[0]: row for row in rows(page) if len(row) == 8}
    labels = [output.label for output in OUTPUTS.values()]
    assert [each.name for each in examples] == [*SEGMENTATION_KINDS, *labels]
    for each in examples:
        row = found[each.name]
        assert row[2:4] == [each.dataset.SOPClassUID, each.dataset.Modality]
        assert row[5:7] == [each.syntax.name, "ISO_IR 192"]
        assert all(
            f"({element.tag.group:04X},{element.tag.element:04X})" in page
            for element in each.dataset
        )


def test_the_page_is_about_this_version(page, repository):
    project = (repository / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)[1]
    assert f"Product: grata_monai {version}," in page


def test_objects_have_no_private_element(examples):
    assert not any(e.tag.is_private for each in examples for e in each.dataset.iterall())


def test_what_is_said_to_be_taken_over_is_taken_over(repository, monkeypatch):
    keywords = [key for _, keys in TAKEN[:3] for key in keys]
    write = write_series

    def write_with_everything(folder, *arguments):
        for file in write(folder, *arguments):
            dataset = pydicom.dcmread(file)
            for key in keywords:
                setattr(dataset, key, PARTICULAR.get(key) or VALID.get(dictionary_VR(key), "text"))
            dataset.DeidentificationMethodCodeSequence = []
            dataset.save_as(file)

    monkeypatch.setattr(dicom_example, "write_series", write_with_everything)
    image_only = {key for key in keywords if key.startswith(IMAGE_ONLY)}
    for each in write_examples(repository / METADATA):
        expected = set(keywords) - (image_only if each.name not in SEGMENTATION_KINDS else set())
        assert {key for key in expected if key not in each.dataset} == set()
        assert each.dataset.PatientName == "A^B"


def test_the_table_of_what_is_taken_over_names_every_keyword(repository):
    assert len(rows(render_taken(repository))) == 1 + sum(len(keys) for _, keys in TAKEN)


def test_the_parameters_are_those_of_an_association(repository):
    values = dict(row[:2] for row in rows(render_network(repository)))
    assert values["AE title, unless the address names one"] == AeAddress("h", 1, "A").calling
    assert "1.2.840.10008.1.20.1" in values["storage commitment: SOP class"]
    assert values["largest PDU received"] == f"{AE().maximum_pdu_size} bytes"


def test_the_listener_answers_verification_as_the_page_says(page):
    assert "| Verification (C-ECHO) | no | yes, while it listens" in page
    report = _Report(UID("1.2.3"), frozenset())
    address = AeAddress("127.0.0.1", 11112, "PEER", is_encrypted=False)
    port = _free_port()
    wait = Commitment(reply=f"127.0.0.1:{port}")
    with _listening(report, address, security=Security(), retry=Retry(), wait=wait):
        entity = AE(ae_title="PEER")
        entity.add_requested_context("1.2.840.10008.1.1")
        association = entity.associate("127.0.0.1", port, ae_title=address.calling)
        assert association.send_c_echo().Status == 0
        association.release()


def _free_port() -> int:
    server = AE()
    server.add_supported_context("1.2.840.10008.1.1")
    listening = server.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda _: 0)]
    )
    port = listening.socket.getsockname()[1]
    listening.shutdown()
    return int(port)
