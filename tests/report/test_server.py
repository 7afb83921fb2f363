"""The server answers its own reader alone, serves reports alone, and keeps what he says."""

import http.client
import json
import socket
import threading
from argparse import Namespace
from contextlib import suppress

import pytest
from browser import Reader, chromium
from reported import report_case

from grata_monai.report import server as module
from grata_monai.report import write_case
from grata_monai.report.command import run_review
from grata_monai.report.reviews import read_reviews
from grata_monai.report.server import ReviewServer

SAID = {"case": "one", "decision": "edit", "reader": "Ada", "digest": "1" * 64}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_case(report_case("one"), folder)
    (folder / "one_record.json").write_text("{}")
    return folder


@pytest.fixture
def server(run_folder):
    (run_folder / "reviews.jsonl").unlink(missing_ok=True)
    server = ReviewServer(run_folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(server, path, *, method="GET", body=None, **headers):
    """Status and text; as the reader's browser asks, but for the headers given (None: without)."""
    port = server.server_port
    usual = {"Host": f"127.0.0.1:{port}", "Cookie": f"grata_{port}={server.token}"}
    if method == "POST":
        usual |= {"X-Grata-Review": "1", "Origin": f"http://127.0.0.1:{port}"}
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in {**usual, **changed}.items() if value is not None}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body=body, headers=sent)
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    connection.close()
    return answer.status, text


def test_the_printed_address_gives_the_cookie_that_everything_else_asks_for(server):
    assert server.address.startswith(f"http://127.0.0.1:{server.server_port}/?token=")
    assert ask(server, f"/?token={server.token}", Cookie=None)[0] == 303
    assert ask(server, "/?token=guess", Cookie=None)[0] == 403
    assert ask(server, "/index.html", Cookie=None)[0] == 403
    assert ask(server, "/index.html", Cookie="grata_1=x")[0] == 403
    assert "the worst first" in ask(server, "/")[1]


@pytest.mark.parametrize("path", ["/index.html", "/report/one.html", "/reviews?case=one"])
def test_another_host_s_name_is_refused(path, server):
    assert ask(server, path)[0] == 200
    assert ask(server, path, Host="evil.example")[0] == 403
    assert ask(server, path, Host=f"127.0.0.1.evil.example:{server.server_port}")[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/one_record.json",
        "/reviews.jsonl",
        "/report/one.json",
        "/report/../one_record.json",
        "/report/%2e%2e%2fone_record.json",
        "/report/..%2f..%2fetc%2fpasswd.html",
        "//etc/passwd",
        "/report/none.html",
    ],
)
def test_nothing_but_reports_is_served(path, server):
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("name", ["x" * 300, "a%00b"])
def test_a_name_that_no_file_can_have_is_answered(name, server):
    assert ask(server, f"/report/{name}.html")[0] in (400, 404)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, "[" * 9000, 400),
        ({"Content_Length": "9" * 5000}, "", 413),
        ({"Content_Length": "-1"}, "", 413),
        ({"Content_Length": "10001"}, "", 413),
    ],
)
def test_what_is_no_review_is_answered_and_not_taken_down(headers, body, status, server):
    assert ask(server, "/reviews", method="POST", body=body, **headers)[0] == status
    assert read_reviews(server.folder / "reviews.jsonl") == []


@pytest.mark.parametrize("begin", [b"", b"GET / HT", b"POST /reviews HTTP/1.1\r\nX: 1\r\n"])
def test_who_sends_byte_by_byte_is_cut_off(begin, server, monkeypatch):
    monkeypatch.setattr(module, "CONNECTION_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as client:
        client.sendall(begin)
        client.settimeout(0.05)
        with suppress(ConnectionError):
            while True:
                client.sendall(b"1")
                with suppress(TimeoutError):
                    if client.recv(999) == b"":
                        break
    assert ask(server, "/index.html")[0] == 200


def test_connections_are_counted(server):
    server._places = threading.BoundedSemaphore(1)
    place = ("127.0.0.1", server.server_port)
    with socket.create_connection(place) as one, socket.create_connection(place, 20) as two:
        with suppress(ConnectionError):
            assert two.recv(9) == b""
        one.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"403" in one.recv(999)


def test_a_link_that_leads_out_of_the_folder_is_not_followed(server, run_folder, tmp_path):
    (tmp_path / "secret.html").write_text("secret")
    link = run_folder / "report" / "link.html"
    link.symlink_to(tmp_path / "secret.html")
    try:
        assert ask(server, "/report/link.html")[0] == 404
    finally:
        link.unlink()


def test_a_review_is_kept_and_listed(server, run_folder):
    assert ask(server, "/reviews", method="POST", body=json.dumps(SAID))[0] == 201
    (review,) = read_reviews(run_folder / "reviews.jsonl")
    assert (review.case, review.decision, review.reader) == ("one", "edit", "Ada")
    assert json.loads(ask(server, "/reviews?case=one")[1])[0]["decision"] == "edit"
    assert json.loads(ask(server, "/reviews?case=two")[1]) == []
    assert "Ada" in ask(server, "/control")[1]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"X_Grata_Review": None},
        {"Cookie": None},
        {"Host": "evil.example"},
    ],
)
def test_another_site_cannot_review(headers, server, run_folder):
    assert ask(server, "/reviews", method="POST", body=json.dumps(SAID), **headers)[0] == 403
    assert not (run_folder / "reviews.jsonl").exists()


@pytest.mark.parametrize(
    ("body", "status"), [("{", 400), ("{}", 400), ("x" * 10_001, 413), ('"text"', 400)]
)
def test_what_is_no_review_is_refused(body, status, server, run_folder):
    assert ask(server, "/reviews", method="POST", body=body)[0] == status
    assert not (run_folder / "reviews.jsonl").exists()


@pytest.mark.slow
def test_a_reader_accepts_a_mask_in_the_browser(server, run_folder):
    with chromium() as browser:
        reader = Reader(browser)
        reader.context.set_offline(False)
        page = reader.page
        page.goto(server.address)
        page.click("text=one")
        page.fill("input[name=reader]", "Ada")
        page.click("text=Accept")
        page.locator("#reviews li").wait_for(timeout=20_000)
        assert "accept by Ada" in page.inner_text("#reviews")
        assert reader.faults == []
    assert [review.decision for review in read_reviews(run_folder / "reviews.jsonl")] == ["accept"]


def test_a_folder_without_reports_is_refused(tmp_path):
    with pytest.raises(ValueError, match="DIR must hold reports in report/"):
        run_review(Namespace(folder=tmp_path, port=0))
