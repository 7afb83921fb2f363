"""Health, metrics and the page: worst first, closed to strangers."""

import socket
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress

import pytest
from certificates import make_client_tls
from hospital import free_port

from grata_monai.core.errors import DatasetError
from grata_monai.report.reviews import append_review, make_review
from grata_monai.report.rows import Row
from grata_monai.service import parts
from grata_monai.service import web as module
from grata_monai.service.config import ServiceConfig, read_config
from grata_monai.service.desk import Desk
from grata_monai.service.ledger import State
from grata_monai.service.parts import Web
from grata_monai.service.status import ALARMS, Health
from grata_monai.service.web import WebServer

PAIR = {"certificate": "pem", "key": "key"}
RULE = '{"destination": "archive", "priority": "normal"}'


def add(ledger, key, state, **values):
    series = ledger.receive(key, called="GRATA", rule=RULE)
    return ledger.move(series, state, **values)


@pytest.fixture
def health(config, ledger, spool):
    add(ledger, "green", State.DELIVERED, light="green", scanner="A")
    add(ledger, "red", State.DELIVERED, light="red", scanner="A")
    add(ledger, "waiting", State.QUEUED)
    add(ledger, "lost", State.QUARANTINED, reason="<script>")
    add(ledger, "stuck", State.SEGMENTED, reason="peer must listen, it does not.")
    return Health(config, ledger, spool, lambda: {"segment0": True, "deliver0": False})


def test_the_worst_come_first(health):
    now = health.look()
    assert [line.key for line in now.lines] == ["lost", "red", "waiting", "stuck", "green"]
    assert [line.position for line in now.lines if line.key == "waiting"] == [1]
    assert {alarm.name for alarm in now.alarms} == {"worker-down", "not-delivered", "quarantined"}
    (scanner,) = now.scanners
    assert (scanner.cases, scanner.red, scanner.amber, scanner.overridden) == (2, 50, 0, None)


def test_overrides_are_counted_from_reviews(health, spool):
    folder = spool.results("red", 1)
    folder.mkdir(parents=True)
    said = {"case": "v", "decision": "edit", "reader": "R", "digest": "d"}
    append_review(make_review(said, {"v": Row("v", "red", "")}), folder / "reviews.jsonl")
    (scanner,) = health.look().scanners
    assert (scanner.reviewed, scanner.overridden) == (1, 100)


@pytest.fixture
def ask(health, tmp_path):
    """Ask a server; it may want a token."""
    servers = []

    def start(**options):
        web = Web(address=f"127.0.0.1:{free_port()}", **options)
        servers.append(WebServer(web, health))

        def ask(path, headers=None, method="GET"):
            url = f"http://{web.address}{path}"
            request = urllib.request.Request(url, headers=headers or {}, method=method)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        return ask

    yield start
    for server in servers:
        server.close()


def test_every_answer(ask):
    get = ask()
    assert get("/healthz") == (200, "ok")
    status, names = get("/readyz")
    assert (status, "worker-down" in names) == (503, True)
    _, metrics = get("/metrics")
    assert 'grata_series{state="quarantined"} 1.0' in metrics
    assert 'grata_alarm{alarm="not-delivered"} 1.0' in metrics
    assert 'grata_scanner_percent{scanner="A",what="red"} 50.0' in metrics
    _, page = get("/")
    assert page.index("lost") < page.index("waiting")
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert ALARMS["quarantined"] in page


def test_who_asks_without_end_has_the_cases_looked_through_once_a_second(ask, monkeypatch):
    looks = []
    look = Health.look
    monkeypatch.setattr(module, "FRESH_SECONDS", 60.0)
    monkeypatch.setattr(Health, "look", lambda health: looks.append(1) or look(health))
    get = ask()
    assert {get(path)[0] for path in ("/readyz", "/metrics", "/", "/readyz")} == {200, 503}
    assert len(looks) == 1
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)
    other = ask()
    for _ in range(2):
        other("/readyz")
    assert len(looks) == 3


def test_strangers_get_nothing(ask, tmp_path):
    (tmp_path / "token").write_text("0123456789abcdef\n")
    get = ask(token=tmp_path / "token")
    assert [get(path)[0] for path in ("/", "/metrics")] == [401, 401]
    known = {"Authorization": "Bearer 0123456789abcdef"}
    assert get("/", known)[0] == 200
    assert get("/healthz", {"Host": "evil.example"})[0] == 400
    assert get("/", known, "DELETE")[0] == 405


def test_reports_are_for_those_whom_a_token_lets_in(ask, spool, tmp_path):
    folder = spool.results("red", 1) / "report"
    folder.mkdir(parents=True)
    for name in ("b", "a"):
        (folder / f"{name}.html").write_text(f"<title>{name}</title>")
    (folder.parents[1] / "secret.html").write_text("none of the reports")
    get = ask()
    assert "/reports/" not in get("/")[1]
    assert "only where a token or certificates close it" in get("/")[1]
    assert get("/reports/red/1")[0] == 401
    (tmp_path / "token").write_text("0123456789abcdef\n")
    get, known = ask(token=tmp_path / "token"), {"Authorization": "Bearer 0123456789abcdef"}
    assert get("/reports/red/1")[0] == 401
    page = get("/", known)[1]
    links = ['href="/reports/red/1">report 1<', 'href="/reports/red/2">report 2<']
    assert [link in page for link in links] == [True, True]
    assert "/reports/green/" not in page
    assert [get(f"/reports/red/{n}", known)[1] for n in (1, 2)] == [
        "<title>a</title>",
        "<title>b</title>",
    ]
    wrong = ("red/0", "red/3", "red/a", "stranger/1", "waiting/1", "..%2fsecret.html/1")
    assert {get(f"/reports/{path}", known)[0] for path in wrong} == {404}
    assert "Cases, the worst first" in get("/reports/index.html", known)[1]


def test_certificates_count_only_where_there_is_tls(certificates):
    files = {name: certificates / f"server.{end}" for name, end in PAIR.items()}
    authority = certificates / "ca.pem"
    with pytest.raises(ValueError, match="certificate must be given where key or client_ca is"):
        Web(client_ca=authority)
    assert not Web(**files).is_closed
    assert Web(client_ca=authority, **files).is_closed


SLOW = {
    "header": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
    "body": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n",
    "nothing": b"",
    "chunks": b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.fixture
def connect(health):
    """Connect to a server as somebody who sends what he likes."""
    port = free_port()
    server = WebServer(Web(address=f"127.0.0.1:{port}"), health)
    yield lambda: socket.create_connection(("127.0.0.1", port), timeout=20)
    server.close()


def is_answered(client):
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return b"200 OK" in client.recv(9999)


def send_for_ever(client):
    """Send a byte now and then until the server ends the connection."""
    with suppress(ConnectionError, BrokenPipeError):
        while True:
            client.sendall(b"1")
            client.settimeout(0.05)
            try:
                if client.recv(9999) == b"":
                    return
            except TimeoutError:
                continue


@pytest.mark.parametrize("begin", SLOW.values(), ids=SLOW)
def test_who_sends_byte_by_byte_is_cut_off(connect, monkeypatch, begin):
    monkeypatch.setattr(module, "CONNECTION_SECONDS", 0.5)
    with connect() as client:
        client.sendall(begin)
        send_for_ever(client)
    with connect() as client:
        assert is_answered(client)


def test_connections_are_counted_and_headers_measured(connect, monkeypatch):
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 3)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect()) for _ in range(3)]
        assert all(map(is_answered, clients))
        with connect() as one, suppress(ConnectionError):
            assert one.recv(9) == b""
    with connect() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 2**16)
        assert b"400 Bad Request" in client.recv(9999)


def test_over_tls_a_browser_needs_a_certificate(health, certificates):
    files = {name: certificates / f"server.{end}" for name, end in PAIR.items()}
    web = Web(address=f"127.0.0.1:{free_port()}", client_ca=certificates / "ca.pem", **files)
    server = WebServer(web, health)
    try:
        url = f"https://{web.address}/healthz"
        known = make_client_tls(certificates, "client")
        with urllib.request.urlopen(url, context=known, timeout=30) as answer:
            assert answer.read() == b"ok"
        for context in (make_client_tls(certificates), make_client_tls(certificates, "stranger")):
            with pytest.raises(OSError, match=r"alert|reset|EOF|closed"):
                urllib.request.urlopen(url, context=context, timeout=30)
    finally:
        server.close()


def test_an_operator_cancels_and_retries(config, ledger, health):
    desk = Desk(config)
    assert desk.retry("lost") == "lost is tried again"
    assert ledger.get("lost").edition == 2
    assert desk.cancel("wait") == "waiting is cancelled"
    assert ledger.get("waiting").reason == "cancelled"
    assert "ALARM not-delivered: archive" in desk.status()
    desk.switch("pause")
    assert ledger.read_setting("mode") == "pause"


def test_an_operator_s_mistyped_folder_is_refused_and_not_made(config):
    with pytest.raises(
        DatasetError, match=r"folder must be that of a service .* 'service' is none"
    ):
        Desk(config)
    assert not config.folder.exists()


def test_every_alarm_is_in_the_documentation(repository):
    page = (repository / "docs" / "how-to" / "run-the-service.md").read_text()
    assert [name for name in ALARMS if f"| `{name}` |" not in page] == []


def test_every_key_of_the_configuration_is_in_the_documentation(repository):
    page = (repository / "docs" / "reference" / "service.md").read_text()
    kinds = [ServiceConfig, *(getattr(parts, name) for name in parts.__all__)]
    models = [kind for kind in kinds if hasattr(kind, "model_fields")]
    keys = {f.alias or n for model in models for n, f in model.model_fields.items()}
    assert sorted(key for key in keys if f"`{key}`" not in page and f"[{key}]" not in page) == []


def test_the_example_of_the_documentation_is_a_configuration(repository, tmp_path):
    example = (repository / "deploy" / "service.toml").read_text()
    (tmp_path / "service.toml").write_text(example)
    assert read_config(tmp_path / "service.toml").routes[0].called == "GRATA"
