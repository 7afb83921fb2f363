"""Whatever a DICOMweb service answers: a named failure, or a success instance by instance."""

import io
import json
from contextlib import suppress

import pydicom
import pytest
from archive import INSTANCE, SERIES, Archive, listed
from hostile_peer import hostile_peer

from grata_monai.core.errors import TransferError
from grata_monai.transfer.dicomweb import FetchLimits
from grata_monai.transfer.exchange import fetch, send
from grata_monai.transfer.retry import Retry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60, func_only=True),
]  # ends a hang; a loaded machine is slow

ONE_SECOND = Retry(attempts=1, connect_seconds=1, answer_seconds=1)
LOGIN = b"<!DOCTYPE html><title>JANE DOE, please log in</title>"
JSON, HTML = "application/dicom+json", "text/html"
EDGE = 'multipart/related; type="application/dicom"; boundary=edge'
PART = b"--edge\r\nContent-Type: application/dicom\r\n\r\n"
STUDY = "1.2.3"


def reply(body=b"", *, status=200, kind=JSON, headers=(), length=None):
    """Bytes of an HTTP answer; a `length` of "" leaves it out."""
    lines = [f"HTTP/1.1 {status} JANE DOE", f"Content-Type: {kind}", *headers]
    lines += [] if length == "" else [f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def say(*args, **options):
    """Answer, and keep the connection."""
    return lambda wire: wire.send(reply(*args, **options))


def say_and_close(*args, **options):
    def behave(wire):
        wire.send(reply(*args, **options))
        wire.connection.close()

    return behave


def nested(depth):
    return b"[" * depth + b"]" * depth


def uids(*texts):
    return json.dumps(listed(SERIES, *texts)).encode()


def serve(behave, *, reads=True):
    """Treat every request of a connection alike."""

    def run(wire):
        while not reads or wire.read_http():
            behave(wire)

    return hostile_peer(run)


def address_of(port, study):
    return f"dicomweb://127.0.0.1:{port}?study={study}"


def assert_names_nobody(caught, caplog):
    heard = str(caught.value) + caplog.text
    assert "JANE" not in heard
    assert caught.value.__cause__ is None or "JANE" not in str(caught.value.__cause__)


NO_LIST = "service must list valid UIDs, it lists something else"
NONE = "must have an instance of what is asked for, it has none"
CUT = "service must answer, the connection failed or was cut"
LATE = "peer must answer in full within 1 s, it takes longer"
SEARCH = {
    "a login page": (say(LOGIN, kind=HTML), NO_LIST),
    "a login page as JSON": (say(LOGIN), NO_LIST),
    "nothing": (say(), NONE),
    "204": (say(status=204), NONE),
    "an empty list": (say(b"[]"), NONE),
    "half of a JSON text": (say(uids("1.2")[:-9]), NO_LIST),
    "JSON of 100,000 levels": (say(nested(100_000)), NO_LIST),
    "JSON that is a number": (say(b"7"), NO_LIST),
    "JSON that is a text": (say(b'"JANE DOE"'), NO_LIST),
    "null": (say(b"null"), NO_LIST),
    "a list of lists": (say(b"[[]]"), NO_LIST),
    "a dictionary without UID": (say(b"{}"), NO_LIST),
    "a number of 10,000 digits": (say(b"[" + b"9" * 10_000 + b"]"), NO_LIST),
    "a UID that is a path": (say(uids("../../etc/passwd")), NO_LIST),
    "a UID that is a name": (say(uids("JANE^DOE")), NO_LIST),
    "a UID of 65 digits": (say(uids("1." + "2" * 63)), NO_LIST),
    "no UTF-8": (say(b'["\xff"]'), NO_LIST),
    "another series than asked for": (say(uids("1.2.4")), NONE),
    "a redirect": (say(status=302, headers=["Location: http://127.0.0.1:1/"]), "it redirects"),
    "300 without a place": (say(status=300), "it redirects"),
    "400": (say(LOGIN, status=400), "answers HTTP 400"),
    "404": (say(LOGIN, status=404), "answers HTTP 404"),
    "500": (say(LOGIN, status=500), "answers HTTP 500"),
    "gzip": (say(b"\x1f\x8b", headers=["Content-Encoding: gzip"]), "must answer without compress"),
    "less than its length": (say_and_close(b"[", length=99), CUT),
    "a last chunk that is missing": (
        say_and_close(b"2\r\n[]\r\n", headers=["Transfer-Encoding: chunked"], length=""),
        CUT,
    ),
    "a chunk of no size": (
        say_and_close(b"JANE\r\n", headers=["Transfer-Encoding: chunked"], length=""),
        CUT,
    ),
    "no HTTP": (lambda wire: wire.send(b"SSH-2.0-JANE\r\n\r\n"), CUT),
    "an end at once": (lambda wire: wire.connection.close(), CUT),
    "a length that is a name": (say_and_close(b"[]", length="JANE"), f"{CUT}|{NO_LIST}|{NONE}"),
    "a length below nothing": (say_and_close(b"[]", length=-5), f"{CUT}|{NO_LIST}|{NONE}"),
    "two lengths": (
        say_and_close(b"[]", headers=["Content-Length: 99"]),
        f"{CUT}|answer as DICOMweb does|{NONE}",
    ),
    "a switch of protocols": (say_and_close(status=101), f"answers HTTP 101|{CUT}"),
    "silence": (lambda wire: wire.wait(), "connection failed or was cut|within 1 s"),
    "headers byte by byte": (lambda wire: wire.drip(reply(b"[]")), LATE),
    "headers without end": (lambda wire: wire.flood(b"X: JANE\r\n"), CUT),
    "one header without end": (lambda wire: wire.flood(b"X" * 999), CUT),
    "100 Continue without end": (lambda wire: wire.flood(b"HTTP/1.1 100 Go on\r\n\r\n"), LATE),
    "a body byte by byte": (
        lambda wire: (wire.send(reply(length=99)), wire.drip(b"[" * 99)),
        LATE,
    ),
    "a body byte by byte without a length": (
        lambda wire: (wire.send(reply(length="")), wire.drip(b"[" * 99)),
        LATE,
    ),
    "a body without end": (
        lambda wire: (wire.send(reply(length="")), wire.flood(b"[" * 10**6)),
        "answer must have at most 33554432 bytes",
    ),
}


@pytest.mark.parametrize("name", SEARCH)
def test_a_search_answered_with(name, tmp_path, caplog):
    behave, message = SEARCH[name]
    with serve(behave) as port, pytest.raises(TransferError, match=message) as caught:
        fetch(address_of(port, f"{STUDY}&series=1.2.3.9"), tmp_path / "out", retry=ONE_SECOND)
    assert_names_nobody(caught, caplog)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def archive(series, replies):
    return Archive(series, replies)


@pytest.fixture
def get(archive, start_web, tmp_path):
    """Fetch the archive's study; `change` takes every request and the archive's own answer."""

    def call(change=lambda request, answer: answer, **settings):
        web = start_web(lambda request: change(request, archive(request)))
        address = f"{web.address}?study={archive.study}"
        return fetch(address, tmp_path / "out", retry=ONE_SECOND, **settings)

    return call


def ends_with(status, body=b""):
    """Answer so to every question behind the last item of a list."""

    def change(request, answer):
        is_past = "offset=" in request.path
        return type(answer)(status, body, {"Content-Type": JSON}) if is_past else answer

    return change


def ignores_the_offset(archive):
    return lambda request, _: archive(type(request)("GET", request.path.split("?")[0], {}, b""))


@pytest.mark.parametrize(("status", "body"), [(404, LOGIN), (400, LOGIN), (416, b""), (204, b"")])
def test_a_list_that_ends_with_a_status_is_complete(get, status, body):
    assert get(ends_with(status, body)).instances == 8


@pytest.mark.parametrize("body", [b"", b"[]"])
def test_a_list_that_ends_with_nothing_is_complete(get, body):
    assert get(ends_with(200, body)).instances == 8


def test_a_list_that_is_said_again_is_complete(archive, get):
    assert get(ignores_the_offset(archive)).instances == 8


def counts(count):
    """Say how many instances a series has."""

    def change(request, answer):
        if "/instances" in request.path or "offset" in request.path:
            return answer
        items = json.loads(answer.body)
        items[0]["00201209"] = {"vr": "IS", "Value": [count]}
        return type(answer)(200, json.dumps(items).encode(), {"Content-Type": JSON})

    return change


INFINITE, NONE_AT_ALL = float("inf"), float("nan")


@pytest.mark.parametrize("count", [8, "8", None, "JANE", 7, -3, INFINITE, NONE_AT_ALL, 10**300])
def test_a_count_that_is_met_or_is_none_changes_nothing(get, count):
    assert get(counts(count)).instances == 8


def test_a_list_shorter_than_the_peers_own_count_is_refused(get, tmp_path):
    with pytest.raises(TransferError, match=r"list all 9 instances that it counts .* lists 8"):
        get(counts(9))
    assert list(tmp_path.iterdir()) == []


def test_a_list_that_announces_more_and_does_not_bring_it_is_refused(get):
    def change(request, answer):
        answer.headers["Warning"] = '299 here: "There are 12 additional results"'
        return answer

    with pytest.raises(TransferError, match="says that there is more and does not list it"):
        get(change)


def test_a_list_without_end_is_refused(get, replies):
    pages = iter(range(10_000))
    with pytest.raises(TransferError, match="must end its list within 20 pages"):
        get(
            lambda *_: replies.json(listed(SERIES, f"1.2.{next(pages)}")),
            limits=FetchLimits(pages=20),
        )


def test_an_instance_in_two_series_is_refused(archive, get, replies):
    def change(request, answer):
        if "/instances" in request.path or "offset" in request.path:
            return answer
        return replies.json(listed(SERIES, *archive.content, "1.2.9"))

    archive.content["1.2.9"] = dict(next(iter(archive.content.values())))
    with pytest.raises(TransferError, match="must belong to one series, the service lists one twi"):
        get(change)


def renamed(content):
    """The same file under another SOPInstanceUID of the same length."""
    uid = str(pydicom.dcmread(io.BytesIO(content)).SOPInstanceUID)
    other = uid[:-1] + ("1" if uid[-1] != "1" else "2")
    return content.replace(uid.encode(), other.encode())


def part(content):
    return PART + content + b"\r\n--edge--"


def cut_file(content):
    return part(content[:-100])


RETRIEVE = {
    "a login page": (lambda _: reply(LOGIN, kind=HTML), "must answer with a multipart message"),
    "a login page as an instance": (
        lambda _: reply(LOGIN, kind="application/dicom"),
        "instance 1 of 8 is no DICOM instance",
    ),
    "a login page as a part": (lambda _: reply(part(LOGIN), kind=EDGE), "is no DICOM instance"),
    "nothing": (lambda _: reply(kind=EDGE), "must close its multipart message"),
    "204": (lambda _: reply(status=204, kind=""), "must answer with a multipart message"),
    "404": (lambda _: reply(status=404), "answers HTTP 404"),
    "406": (lambda _: reply(status=406), "answers HTTP 406"),
    "no boundary": (
        lambda file: reply(part(file), kind="multipart/related"),
        "must answer with a multipart message",
    ),
    "another boundary": (
        lambda file: reply(part(file), kind="multipart/related; boundary=JANE"),
        "must close its multipart message",
    ),
    "no last boundary": (
        lambda file: reply(part(file)[:-10], kind=EDGE),
        "must close its multipart message",
    ),
    "half of a last boundary": (
        lambda file: reply(part(file)[:-1], kind=EDGE),
        "must close its multipart message",
    ),
    "no part": (lambda _: reply(b"--edge--", kind=EDGE), "one instance, got"),
    "a part without end of its header": (
        lambda _: reply(b"--edge\r\nX: JANE\r\n--edge--", kind=EDGE),
        "must answer with one instance",
    ),
    "two parts": (
        lambda file: reply(PART + file + b"\r\n" + part(file), kind=EDGE),
        "one instance, got 2",
    ),
    "a file cut in its pixels": (
        lambda file: reply(cut_file(file), kind=EDGE),
        "instance 1 of 8 ends before its last pixel",
    ),
    "a file cut in its header": (
        lambda file: reply(part(file[:700]), kind=EDGE),
        "instance 1 of 8 cannot be read, or is cut within its header",
    ),
    "a file cut before its pixels": (
        lambda file: reply(part(file[: file.index(b"\xe0\x7f\x10\x00")]), kind=EDGE),
        "instance 1 of 8 ends before its last pixel",
    ),
    "another instance": (
        lambda file: reply(part(renamed(file)), kind=EDGE),
        "instance 1 of 8 is another one",
    ),
    "gzip": (
        lambda file: reply(part(file), kind=EDGE, headers=["Content-Encoding: gzip"]),
        "must answer without compression",
    ),
}


@pytest.mark.parametrize("name", RETRIEVE)
def test_an_instance_answered_with(name, archive, get, tmp_path, caplog):
    make, message = RETRIEVE[name]

    def retrieve(content):
        head, _, body = make(content).partition(b"\r\n\r\n")
        status, *lines = head.decode().splitlines()
        headers = dict(line.split(": ", maxsplit=1) for line in lines)
        return archive.replies.Reply(int(status.split()[1]), body, headers)

    archive.wrap = retrieve
    with pytest.raises(TransferError, match=message) as caught:
        get()
    assert_names_nobody(caught, caplog)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("drips", [False, True])
def test_an_instance_that_never_ends_is_given_up(archive, series, tmp_path, drips):
    """The list comes as it should, then the file without end, or byte by byte."""

    def behave(wire):
        while request := wire.read_http():
            path = request.split()[1].decode()
            found = archive(type("Asked", (), {"path": f"/dicom-web{path}"}))
            if "/instances/" not in path:
                wire.send(reply(found.body))
                continue
            wire.send(reply(PART, kind=EDGE, length=""))
            wire.drip(series[0].read_bytes()) if drips else wire.flood(bytes(10**6))

    limits = FetchLimits(instance_bytes=10**7)
    message = LATE if drips else "answer must have at most 10000000 bytes"
    with hostile_peer(behave) as port, pytest.raises(TransferError, match=message):
        fetch(address_of(port, archive.study), tmp_path / "out", retry=ONE_SECOND, limits=limits)
    assert list(tmp_path.iterdir()) == []


def stored(*uids, kind=None, **more):
    """The JSON of an answer to STOW-RS that names instances as stored."""
    items = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]
    for item in items:
        item.update({"00081150": {"vr": "UI", "Value": [kind]}} if kind else {})
    return json.dumps({"00081199": {"vr": "SQ", "Value": items}, **more}).encode()


def failed(*codes, uid="1.2.3"):
    items = [
        {"00081155": {"Value": [uid]}, "00081197": {"vr": "US", "Value": [code]}} for code in codes
    ]
    return {"00081198": {"vr": "SQ", "Value": items}}


def refuse(code):
    return reply(json.dumps(failed(code)).encode(), status=409)


UNSURE = "instance 1 of 1 must be confirmed, the service's answer .* does not name it as stored"
STORE = {
    "a login page": (lambda _: reply(LOGIN, kind=HTML), UNSURE),
    "a login page as JSON": (lambda _: reply(LOGIN), UNSURE),
    "nothing": (lambda _: reply(), UNSURE),
    "204": (lambda _: reply(status=204), UNSURE),
    "XML": (lambda _: reply(b"<NativeDicomModel/>", kind="application/dicom+xml"), UNSURE),
    "half of a JSON text": (lambda uid: reply(stored(uid)[:-9]), UNSURE),
    "JSON of 100,000 levels": (lambda _: reply(nested(100_000)), UNSURE),
    "an empty dictionary": (lambda _: reply(b"{}"), UNSURE),
    "an empty list": (lambda _: reply(b"[]"), UNSURE),
    "null": (lambda _: reply(b"null"), UNSURE),
    "a number": (lambda _: reply(b"7"), UNSURE),
    "an empty sequence": (lambda _: reply(stored()), UNSURE),
    "a sequence of null": (lambda _: reply(b'{"00081199": {"Value": null}}'), UNSURE),
    "a sequence of texts": (lambda _: reply(b'{"00081199": {"Value": ["JANE"]}}'), UNSURE),
    "another instance": (lambda _: reply(stored("1.2.3")), UNSURE),
    "another kind": (lambda uid: reply(stored(uid, kind="1.2.3")), UNSURE),
    "two answers in a list": (lambda uid: reply(b"[" + stored(uid) + b",{}]"), UNSURE),
    "202 without a word": (lambda _: reply(status=202), UNSURE),
    "stored and failed": (lambda uid: reply(stored(uid, **failed(0xC000))), "reason C000"),
    "another one failed": (
        lambda uid: reply(stored(uid, **failed(0xA900, uid="1.2.9"))),
        "instance 1 of 1 must be stored, the service refuses it .* reason A900",
    ),
    "failed without a reason": (
        lambda _: reply(b'{"00081198": {"Value": [{}]}}'),
        "reason 0000",
    ),
    "a reason of 4,000 digits": (lambda _: refuse(10**4000), "reason 0000"),
    "a reason that is a name": (lambda _: refuse("JANE"), "reason 0000"),
    "out of resources": (lambda _: refuse(0xA700), "reason A700"),
    "409 without a word": (lambda _: reply(status=409), "HTTP 409, reason 0000"),
    "409 that names it as stored": (lambda uid: reply(stored(uid), status=409), "HTTP 409, reason"),
    "307": (lambda _: reply(status=307, headers=["Location: http://127.0.0.1:1/"]), "it redirects"),
    "401": (lambda _: reply(LOGIN, status=401), "answers HTTP 401"),
    "413": (lambda _: reply(LOGIN, status=413), "answers HTTP 413"),
    "503": (lambda _: reply(LOGIN, status=503), "answers HTTP 503"),
    "an answer of 2 MiB": (lambda uid: reply(stored(uid) + b" " * 2**21), "at most 1048576 bytes"),
    "less than its length": (lambda uid: reply(stored(uid), length=10**4), CUT),
}


def read_uid(request):
    content = request.split(b"\r\n\r\n", maxsplit=2)[2]
    return str(pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True).SOPInstanceUID)


def answering(make):
    def run(wire):
        with suppress(OSError):
            if request := wire.read_http():
                wire.send(make(read_uid(request)))
        wire.connection.close()

    return hostile_peer(run)


@pytest.mark.parametrize("name", STORE)
def test_a_store_answered_with(name, series, caplog):
    make, message = STORE[name]
    with answering(make) as port, pytest.raises(TransferError, match=message) as caught:
        send(series[:1], f"dicomweb://127.0.0.1:{port}", retry=ONE_SECOND)
    assert_names_nobody(caught, caplog)


UNUSUAL = {
    "in a list": lambda uid: reply(b"[" + stored(uid) + b"]"),
    "as text": lambda uid: reply(stored(uid), kind="text/plain"),
    "with its kind": lambda uid: reply(stored(uid, kind="1.2.840.10008.5.1.4.1.1.4")),
    "with a padded UID": lambda uid: reply(stored(uid + "\0")),
    "beside another": lambda uid: reply(stored("1.2.3", uid)),
    "with status 201": lambda uid: reply(stored(uid), status=201),
    "without a length": lambda uid: reply(stored(uid), length=""),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_store_is_confirmed(name, series):
    with answering(UNUSUAL[name]) as port:
        report = send(series[:2], f"dicomweb://127.0.0.1:{port}", retry=ONE_SECOND)
    assert report.instances == 2


SLOW_STORE = {
    "silence": (lambda wire: (wire.read_http(), wire.wait()), "cut|within 1 s"),
    "a file that is not read": (lambda wire: wire.ended.wait(), "cut|takes longer"),
    "headers byte by byte": (lambda wire: (wire.read_http(), wire.drip(reply())), "takes longer"),
    "an end before the file is read": (lambda wire: wire.connection.recv(10), CUT),
}


@pytest.mark.parametrize("name", SLOW_STORE)
def test_a_store_is_given_up_after(name, series):
    behave, message = SLOW_STORE[name]
    with hostile_peer(behave) as port, pytest.raises(TransferError, match=message):
        send(series[:1], f"dicomweb://127.0.0.1:{port}", retry=ONE_SECOND)


def test_an_instance_that_is_listed_under_its_series_only_is_fetched(archive, get, replies):
    """A peer that leaves the offset out of account and wraps a single item in no list."""
    uid, instances = next(iter(archive.content.items()))
    archive.content = {uid: dict([next(iter(instances.items()))])}

    def change(request, answer):
        if "/instances/" in request.path:
            return answer
        is_series = request.path.split("?")[0].endswith("/series")
        tag, only = (SERIES, uid) if is_series else (INSTANCE, next(iter(archive.content[uid])))
        return replies.json(listed(tag, only)[0])

    assert get(change).instances == 1


def test_what_is_tried_is_no_less_than_it_was():
    assert len(SEARCH) + len(RETRIEVE) + len(STORE) + len(SLOW_STORE) >= 90
