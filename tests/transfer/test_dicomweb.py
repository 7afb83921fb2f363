"""Fetching: whole or not at all, within bounds, and only what was asked for."""

import hashlib
import logging
import re

import pytest
from archive import INSTANCE, SERIES, Archive, listed

from grata_monai.core.errors import OutputError, TransferError
from grata_monai.transfer.dicomweb import FetchLimits
from grata_monai.transfer.exchange import fetch
from grata_monai.transfer.security import Security


@pytest.fixture
def archive(series, replies):
    return Archive(series, replies)


@pytest.fixture
def get(archive, start_web, retry, tmp_path):
    """Fetch the archive's study into a new folder."""

    def call(query="", **settings):
        web, folder = start_web(archive), tmp_path / "out"
        vars(call).update(web=web, folder=folder)
        return fetch(f"{web.address}?study={archive.study}{query}", folder, retry=retry, **settings)

    return call


def assert_nothing_kept(tmp_path):
    assert list(tmp_path.iterdir()) == []


def test_a_study_arrives_byte_for_byte_under_hashed_names(archive, get, series):
    seen = []
    fetched = get(progress=lambda done, of: seen.append((done, of)))
    expected = {
        hashlib.sha256(uid.encode()).hexdigest()[:32] + ".dcm": content
        for instances in archive.content.values()
        for uid, content in instances.items()
    }
    assert {file.name: file.read_bytes() for file in get.folder.iterdir()} == expected
    assert (fetched.series, fetched.instances) == (1, 8)
    assert fetched.size_bytes == sum(map(len, expected.values()))
    assert seen == [(n, 8) for n in range(1, 9)]
    assert all("transfer-syntax=*" in r.headers["Accept"] for r in get.web.requests[-8:])


def test_all_series_of_a_study_or_one_of_them(series, make_files, replies, start_web, tmp_path):
    archive = Archive([*series, *make_files(2, series=2)], replies)
    web = start_web(archive)
    address = f"{web.address}?study={archive.study}"
    both = fetch(address, tmp_path / "both")
    one = fetch(f"{address}&series={list(archive.content)[1]}", tmp_path / "one")
    assert (both.series, both.instances) == (2, 10)
    assert (one.series, one.instances) == (1, 2)


def test_a_modality_is_asked_for(get):
    get("&modality=MR")
    assert "Modality=MR" in get.web.requests[0].path


@pytest.mark.slow
def test_a_search_that_comes_in_pages_is_followed(archive, get, replies):
    uids = list(next(iter(archive.content.values())))
    archive.first = [
        replies.json(listed(SERIES, *archive.content)),
        replies.json([]),
        replies.json(listed(INSTANCE, *uids[:5])),
        replies.json(listed(INSTANCE, *uids[5:])),
        replies.json(listed(INSTANCE, *uids[:2])),  # ignores the offset: nothing new
    ]
    assert get().instances == 8


def test_a_single_part_that_is_not_wrapped_is_taken(archive, get, replies):
    uid = next(iter(archive.content))
    content = next(iter(archive.content[uid].values()))
    archive.content[uid] = dict([next(iter(archive.content[uid].items()))])
    archive.wrap = lambda file: replies.Reply(200, file, {"Content-Type": "application/dicom"})
    assert get(f"&series={uid}").size_bytes == len(content)


@pytest.mark.slow
def test_what_fails_for_now_is_tried_again(archive, get, replies, waits):
    archive.first = [
        replies.Reply(503, b"", {"Retry-After": "9"}),
        None,  # cuts the connection
        replies.json(listed(SERIES, *archive.content)),
        replies.Reply(429),
    ]
    assert get().instances == 8
    assert waits == [9, 2.0, 1.0]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 429])
def test_a_service_that_fails_on_is_given_up(archive, get, replies, waits, status, tmp_path):
    archive.first = [replies.Reply(status)] * 3
    with pytest.raises(TransferError, match=rf"answers HTTP {status}\. Tried 3 time"):
        get()
    assert waits == [1.0, 2.0]
    assert_nothing_kept(tmp_path)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "Set GRATA_TRANSFER_TOKEN"),
        (403, "Ask the service's administrator for access"),
        (404, "Check the service's path and the UIDs"),
        (501, "Ask its administrator"),
    ],
)
def test_a_refusal_is_final(archive, get, replies, waits, status, remedy):
    archive.first = [replies.Reply(status)]
    with pytest.raises(TransferError, match=rf"answers HTTP {status}\. {remedy}") as caught:
        get()
    assert waits == []
    assert archive.study not in str(caught.value)
    assert caught.value.__context__ is None  # what requests raises names the URL, and so the study


def test_a_redirect_is_not_followed(archive, get, replies):
    archive.first = [replies.Reply(302, b"", {"Location": "http://127.0.0.1:1/"})]
    with pytest.raises(TransferError, match=r"must answer itself, it redirects"):
        get()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[1]",
        b"[{}]",
        b'[{"0020000E": {"Value": ["../../etc"]}}]',
        b'[{"0020000E": {"Value": [7]}}]',
        b'[{"0020000E": {"Value": ["DOE^JANE"]}}]',
        b"7",
    ],
)
def test_an_answer_that_is_no_list_of_uids_is_refused(archive, get, replies, body, tmp_path):
    archive.first = [replies.Reply(200, body, {"Content-Type": "application/json"})]
    with pytest.raises(
        TransferError, match=r"service must (list valid UIDs|answer as DICOMweb)"
    ) as e:
        get()
    assert "DOE" not in str(e.value)
    assert_nothing_kept(tmp_path)


@pytest.mark.parametrize("kind", ["none", "two", "text", "cut"])
def test_an_answer_that_is_no_single_instance_is_refused(archive, get, replies, kind, tmp_path):
    uid = next(iter(archive.content))
    content = next(iter(archive.content[uid].values()))
    messages = {
        "none": "must answer with one instance, got 0",
        "two": "must answer with one instance, got 2",
        "text": "must answer with a multipart message",
        "cut": r"must close its multipart message, it ends before\. Tried 3 time",
    }
    answers = {
        "none": replies.multipart(),
        "two": replies.multipart(content, content),
        "text": replies.Reply(200, b"sorry", {"Content-Type": "text/plain"}),
        "cut": replies.Reply(
            200, b"--edge\r\nno end of header", {"Content-Type": "multipart/related; boundary=edge"}
        ),
    }
    archive.wrap = lambda _: answers[kind]
    with pytest.raises(TransferError, match=messages[kind]):
        get(f"&series={uid}")
    assert_nothing_kept(tmp_path)


@pytest.mark.slow
def test_an_instance_of_another_series_refuses_the_whole_answer(archive, get, make_files, tmp_path):
    other = make_files(1, series=7)[0]
    uid, instances = next(iter(archive.content.items()))
    instances[list(instances)[3]] = other.read_bytes()
    with pytest.raises(TransferError, match=r"instance 4 of 8 is another one\. Nothing was kept"):
        get(f"&series={uid}")
    assert_nothing_kept(tmp_path)


@pytest.mark.slow
def test_a_part_that_is_no_dicom_refuses_the_whole_answer(archive, get, tmp_path):
    instances = next(iter(archive.content.values()))
    instances[next(iter(instances))] = b"<html>" * 99
    with pytest.raises(TransferError, match=r"instance 1 of 8 is no DICOM instance"):
        get()
    assert_nothing_kept(tmp_path)


def test_a_series_that_is_not_there_is_said(archive, get):
    archive.content = {}
    with pytest.raises(TransferError, match=r"must have an instance of what is asked for.*Check"):
        get()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"instances": 7}, r"must list at most 7 more series or instances, it lists 8"),
        ({"instance_bytes": 1000}, r"answer must have at most 1000 bytes, the service sends more"),
        ({"total_bytes": 10_000}, r"answer must have at most \d+ bytes, the service sends more"),
    ],
)
def test_too_much_is_refused(get, limits, message, tmp_path):
    with pytest.raises(TransferError, match=message):
        get(limits=FetchLimits(**limits))
    assert_nothing_kept(tmp_path)


def test_a_search_without_end_is_refused(archive, get, replies):
    archive.first = [
        replies.json(listed(SERIES, *(f"1.2.{page}.{n}" for n in range(50)))) for page in range(9)
    ]
    with pytest.raises(TransferError, match="must list at most 200 more series"):
        get()


def test_a_compressed_answer_is_refused_before_it_can_inflate(archive, get, replies):
    archive.first = [replies.Reply(200, b"\x1f\x8b" * 99, {"Content-Encoding": "gzip"})]
    with pytest.raises(TransferError, match="must answer without compression"):
        get()


@pytest.mark.parametrize("name", ["series", "instances", "pages", "instance_bytes", "total_bytes"])
def test_limits_are_above_zero(name):
    with pytest.raises(ValueError, match=f"{name} must be above 0, got 0"):
        FetchLimits(**{name: 0})


def test_a_folder_with_something_in_it_is_left_alone(archive, get, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    with pytest.raises(OutputError, match="must be new or empty"):
        get()
    assert get.web.requests == []
    assert (tmp_path / "out" / "mine").read_text() == "kept"


@pytest.mark.slow
def test_an_empty_folder_is_filled_and_a_missing_parent_refused(
    archive, start_web, retry, tmp_path
):
    (tmp_path / "out").mkdir()
    address = f"{start_web(archive).address}?study={archive.study}"
    assert fetch(address, str(tmp_path / "out"), retry=retry).instances == 8
    with pytest.raises(OutputError, match="must lie in one that exists"):
        fetch(address, tmp_path / "a" / "b", retry=retry)


def test_a_service_that_nobody_runs_is_tried_again_then_given_up(free_port, retry, waits, tmp_path):
    with pytest.raises(TransferError, match=r"connection failed or was cut\. Tried 3 time"):
        fetch(f"dicomweb://127.0.0.1:{free_port}?study=1.2", tmp_path / "out", retry=retry)
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("dicom://A@127.0.0.1", "source must be a DICOMweb address, C-GET and C-MOVE are not"),
        ("dicomweb://127.0.0.1", r"source must name a study, it does not\. Add \?study=UID"),
        ("dicomweb://pacs.example?study=1.2", "address must be encrypted or on this machine"),
    ],
)
def test_a_source_that_cannot_be_fetched_is_refused(source, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fetch(source, tmp_path / "out")


def test_the_token_goes_into_the_header_and_nowhere_else(
    archive, get, replies, monkeypatch, caplog, tmp_path
):
    monkeypatch.setenv("GRATA_TRANSFER_TOKEN", "hunter2")
    archive.first = [None, replies.Reply(404)]
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(TransferError, match="answers HTTP 404") as caught,
    ):
        get()
    assert get.web.requests[0].headers["Authorization"] == "Bearer hunter2"
    for text in (str(caught.value), repr(caught.value), caplog.text):
        assert "hunter2" not in text


def test_logs_of_a_whole_fetch_hold_no_uid_and_no_name(archive, get, caplog):
    with caplog.at_level(logging.DEBUG):
        get()
    assert "Fetched 8 instance(s) from dicomweb://127.0.0.1" in caplog.text
    assert not re.search(r"\d+\.\d+\.\d+\.\d+\.\d+", caplog.text)


def test_tls_checks_the_service_and_shows_our_certificate(
    archive, start_web, server_tls, certificates, retry, waits, tmp_path
):
    web = start_web(archive, tls=server_tls(is_mutual=True))
    address = f"{web.address}?study={archive.study}"
    trusted = {"ca": certificates / "ca.pem"}
    own = {"certificate": certificates / "client.pem", "key": certificates / "client.key"}
    fetched = fetch(address, tmp_path / "out", security=Security(**trusted, **own), retry=retry)
    assert fetched.instances == 8
    with pytest.raises(TransferError, match=r"certificate that we trust.*Check ca, certificate"):
        fetch(address, tmp_path / "b", security=Security(**own), retry=retry)
    assert waits == []


def test_a_certificate_for_another_host_is_not_believed(
    archive, start_web, server_tls, certificates, retry, tmp_path
):
    web = start_web(archive, tls=server_tls())
    address = f"{web.address}?study={archive.study}".replace("127.0.0.1", "localhost")
    security = Security(ca=certificates / "ca.pem")
    with pytest.raises(TransferError, match="certificate that we trust, for the host of the"):
        fetch(address, tmp_path / "out", security=security, retry=retry)
