"""What reaches MONAI Label and what is answered before: hosts, origins, names, sizes, errors."""

import asyncio
import json
from urllib.parse import urlencode

import pytest

from grata_monai.hosts.label.guard import Access, Guard

LOCAL = ("localhost:8000", "127.0.0.1:8000", "LocalHost", "[::1]:8000")


def ask(path="/info/", *, method="GET", body=(), app=None, access=None, **headers):
    """Send one request through the guard; give status, answer, and whether it got through."""
    sent, arrived = [], []
    path, _, query = path.partition("?")
    names = {"host": "127.0.0.1:8000", **headers}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in names.items()],
    }
    parts = iter(
        [{"type": "http.request", "body": part, "more_body": True} for part in body]
        + [{"type": "http.request", "body": b"", "more_body": False}]
    )

    async def receive():
        return next(parts)

    async def send(message):
        sent.append(message)

    async def monai_label(scope, receive, send):
        arrived.append(scope["path"])
        while (await receive()).get("more_body"):
            pass
        if app is not None:
            await app(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    asyncio.run(Guard(monai_label, access or Access())(scope, receive, send))
    content = b"".join(m.get("body", b"") for m in sent)
    return sent[0]["status"], json.loads(content), bool(arrived)


@pytest.mark.parametrize("host", LOCAL)
def test_who_calls_the_server_by_its_name_is_answered(host):
    assert ask(host=host) == (200, {}, True)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "a@evil"]
)  # fmt: skip
def test_another_host_is_refused(host):
    status, answer, arrived = ask(host=host)
    assert (status, arrived) == (421, False)
    assert answer["detail"].startswith("Host must be a name of this server.")


def test_the_operator_lists_further_hosts_and_the_size():
    access = Access.from_environment(
        {"GRATA_LABEL_HOSTS": "A.example, b", "GRATA_LABEL_BYTES": "9"}
    )
    assert ask(host="a.example", access=access)[0] == 200
    assert access.bytes == 9
    assert Access.from_environment({}) == Access()


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "all"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="GRATA_LABEL_BYTES must be a whole number above 0"):
        Access.from_environment({"GRATA_LABEL_BYTES": text})


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "http://localhost:8000"},
        {"sec_fetch_site": "cross-site"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_a_page_of_another_origin_is_refused_simple_requests_too(headers, method):
    status, answer, arrived = ask("/infer/m", method=method, content_type="text/plain", **headers)
    assert (status, arrived) == (403, False)
    assert answer["detail"].startswith("Origin must be this server's own")


def test_its_own_pages_may_ask():
    assert ask(origin="http://127.0.0.1:8000", sec_fetch_site="same-origin")[0] == 200


NAMES = ["../app/lib/evil_code", "/etc/passwd", "a/b", "a\\b", "..", ".hidden", "a\0b", "a\nb"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["image", "id", "label", "tag", "session_id"])
def test_a_path_is_no_name(key, name):
    status, answer, arrived = ask(f"/datastore/?{urlencode({key: name})}", method="PUT")
    assert (status, arrived) == (422, False)
    assert answer["detail"].startswith(f"{key} must be a plain name, and no path.")


def test_ordinary_names_pass():
    query = urlencode({"image": "case 3.v2_T2+DWI", "tag": "final"})
    assert ask(f"/datastore/label?{query}", method="PUT")[0] == 200
    assert ask(f"/infer/m?{urlencode({'image': '/studies/series'})}", method="POST")[2]


@pytest.mark.parametrize(
    "path",
    ["/proxy/dicom/wado", "/model/m", "//model/m", "/Model/m", "/train/", "/reload", "/wsi_infer/",
     "/datastore/dataset", "/datastore//dataset"],
)  # fmt: skip
def test_what_this_server_does_not_mean_to_offer_is_refused(path):
    status, _, arrived = ask(path, method="PUT")
    assert (status, arrived) == (403, False)


@pytest.mark.parametrize(
    "path", ["/session/..", "/session/.", "/../info/", "/infer/a\\..\\b", "/session/a\0b", "/a\nb"]
)
def test_a_path_through_folders_is_refused(path):
    status, _, arrived = ask(path, method="DELETE")
    assert (status, arrived) == (404, False)


def test_archives_are_not_unpacked():
    assert ask("/session/?uncompress=true", method="PUT")[0] == 403
    assert ask("/session/?uncompress=false", method="PUT")[0] == 200


@pytest.mark.parametrize(
    ("length", "body"),
    [("11", ()), ("x", ()), ("1", (b"123456", b"123456")), (None, (b"123456", b"123456"))],
    ids=["said", "said wrongly", "sent more than said", "sent without saying"],
)
def test_who_sends_too_much_is_stopped(length, body):
    headers = {} if length is None else {"content_length": length}
    status, answer, _ = ask(method="PUT", body=body, access=Access(bytes=10), **headers)
    assert status == 413
    assert "must send at most 10 bytes" in answer["detail"]


def test_as_much_as_is_allowed_arrives():
    assert ask(method="PUT", body=(b"12345", b"12345"), access=Access(bytes=10))[0] == 200


def test_a_failure_is_told_in_one_sentence_without_its_text(caplog):
    async def fail(scope, receive, send):
        raise KeyError("/srv/studies/name")

    status, answer, _ = ask(app=fail)
    assert (status, answer) == (500, {"detail": "the server failed (KeyError). Its log says when."})
    assert "name" not in caplog.text


def test_other_protocols_are_refused_and_the_life_of_the_server_is_not():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    async def send(message):
        seen.append(message.get("status", "body"))

    guard = Guard(app, Access())
    asyncio.run(guard({"type": "lifespan"}, None, send))
    asyncio.run(guard({"type": "websocket", "headers": []}, None, send))
    assert seen == ["lifespan", 403, "body"]
