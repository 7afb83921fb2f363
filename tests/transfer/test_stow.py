"""STOW-RS: every instance is confirmed, or its failure is an error with its code."""

import io

import pydicom
import pytest

from grata_monai.core.errors import DicomError, TransferError
from grata_monai.transfer.commitment import Commitment
from grata_monai.transfer.exchange import send


def item(uid="1.2.3", **codes):
    tags = {"reason": "00081197", "warning": "00081196"}
    values = {tags[name]: {"vr": "US", "Value": [code]} for name, code in codes.items()}
    return {"00081155": {"vr": "UI", "Value": [uid]}, **values}


def answer(*, stored=(), failed=()):
    sequences = {"00081199": stored, "00081198": failed}
    return {tag: {"vr": "SQ", "Value": list(items)} for tag, items in sequences.items() if items}


def sent_uid(request):
    """SOPInstanceUID of the instance in a request."""
    part = request.body.split(b"\r\n\r\n", maxsplit=1)[1]
    return str(pydicom.dcmread(io.BytesIO(part), stop_before_pixels=True).SOPInstanceUID)


@pytest.fixture
def put(start_web, replies, retry, series):
    """Send two instances to a service with these answers, then ones that confirm."""

    def call(*first, files=series[:2], **settings):
        queue = list(first)

        def reply(request):
            return queue.pop(0) if queue else replies.json(answer(stored=[item(sent_uid(request))]))

        web = start_web(reply)
        vars(call).update(web=web)
        return send(files, web.address, retry=retry, **settings)

    return call


def test_each_instance_goes_in_one_request_byte_for_byte(put, series):
    seen = []
    report = put(progress=lambda done, of: seen.append((done, of)))
    assert report.instances == 2
    assert report.warnings == {}
    assert str(report) == f"stored 2 instance(s) at {put.web.address}"
    assert seen == [(1, 2), (2, 2)]
    for request, file in zip(put.web.requests, series, strict=False):
        assert (request.method, request.path) == ("POST", "/dicom-web/studies")
        assert request.headers["Content-Type"].startswith("multipart/related; type=")
        assert file.read_bytes() in request.body


def test_a_large_instance_arrives_whole(put, make_files, tmp_path, series):
    dataset = pydicom.dcmread(series[0])
    dataset.Rows = dataset.Columns = 1024
    dataset.PixelData = bytes(2 * 1024 * 1024)
    dataset.save_as(tmp_path / "large.dcm")
    put(files=[tmp_path / "large.dcm"])
    assert (tmp_path / "large.dcm").read_bytes() in put.web.requests[0].body


def test_the_boundary_cannot_be_foreseen(put):
    put()
    first, second = (request.headers["Content-Type"] for request in put.web.requests)
    assert first != second


def test_a_file_that_is_named_twice_is_sent_once(put, series):
    assert put(files=[series[0], series[0]]).instances == 1


def test_a_warning_is_counted(put, replies, series):
    uid = pydicom.dcmread(series[0]).SOPInstanceUID
    report = put(replies.json(answer(stored=[item(uid, warning=0xB000)]), 202))
    assert report.warnings == {0xB000: 1}
    assert "warning B000: 1 time(s)" in str(report)


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (409, 0x0122, "does not take this kind of object"),
        (409, 0x0124, "let this AE title or account store"),
        (202, 0xA900, "validate it"),
        (200, 0xC123, "cannot understand the object"),
        (409, 0x0110, "Look into the peer's log"),
    ],
)
def test_a_failed_instance_is_an_error_with_its_code(put, replies, waits, status, code, remedy):
    with pytest.raises(
        TransferError, match=rf"instance 1 of 2 .*\(HTTP {status}, reason {code:04X}\)\..*{remedy}"
    ) as caught:
        put(replies.json(answer(failed=[item("1.2.999", reason=code)]), status))
    assert "1.2.999" not in str(caught.value)
    assert waits == []


def test_out_of_resources_is_tried_again(put, replies, waits):
    failed = replies.json(answer(failed=[item(reason=0xA700)]), 409)
    assert put(failed, replies.Reply(500)).instances == 2
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "Set GRATA_TRANSFER_TOKEN"), (413, "allow larger instances")]
)
def test_a_refused_request_is_final(put, replies, waits, status, remedy):
    with pytest.raises(TransferError, match=rf"HTTP {status}\. .*{remedy}"):
        put(replies.Reply(status))
    assert waits == []


def test_what_is_no_dicom_is_refused_before_anything_is_sent(put, series, tmp_path):
    path = tmp_path / "DOE_JANE.dcm"
    path.write_bytes(b"no DICOM")
    with pytest.raises(DicomError, match=r"instance 2 of 2 must be a DICOM file") as caught:
        put(files=[series[0], path])
    assert put.web.requests == []
    assert "DOE" not in str(caught.value)


def test_a_destination_names_only_the_service(series, retry):
    with pytest.raises(ValueError, match=r"must name the service only, it has a query"):
        send(series, "dicomweb://127.0.0.1?study=1.2", retry=retry)
    with pytest.raises(ValueError, match=r"commitment must be asked by C-STORE"):
        send(series, "dicomweb://127.0.0.1", retry=retry, commitment=Commitment())
