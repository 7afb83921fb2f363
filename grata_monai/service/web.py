"""Serve health, metrics and a page by HTTP; nothing can be changed here."""

import asyncio
import hmac
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from grata_monai.core.errors import TransferError
from grata_monai.service.page import render_page
from grata_monai.service.parts import Web
from grata_monai.service.status import Health, Snapshot
from grata_monai.transfer.address import is_loopback, parse_host_port

__all__ = ["WebServer", "make_app"]

STARTING_SECONDS = 20.0
FRESH_SECONDS = 1.0
CONNECTION_SECONDS = 30.0  # from its first byte to its last, whatever a client sends or reads
MOST_CONNECTIONS = 64
MOST_HEADER_BYTES = 2**14
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class WebServer:
    """A server in a thread of its own.

    Args:
        web: Where to listen, and who may ask.
        health: Looks at the service.

    Raises:
        TransferError: If the address is not free.
    """

    def __init__(self, web: Web, health: Health) -> None:
        host, port = parse_host_port(web.address)
        config = uvicorn.Config(
            make_app(web, health),
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            http=_Bounded,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES,
            ssl_certfile=web.certificate,
            ssl_keyfile=web.key,
            ssl_ca_certs=str(web.client_ca) if web.client_ca else None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if web.client_ca else ssl.CERT_NONE,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()
        end = time.monotonic() + STARTING_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                raise TransferError(
                    "web.address must be a free address of this machine, it is not. "
                    "Choose another one."
                )
            time.sleep(0.02)

    def close(self) -> None:
        """Stop."""
        self._server.should_exit = True
        self._thread.join(timeout=10)

    def _run(self) -> None:
        with suppress(SystemExit):  # uvicorn's answer to a port that is taken
            self._server.run()


class _Bounded(H11Protocol):
    """A connection with an end, one of not too many."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many."""
        super().connection_made(transport)
        self._end = self.loop.call_later(CONNECTION_SECONDS, transport.abort)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


def make_app(web: Web, health: Health) -> Starlette:
    """Make the application.

    Args:
        web: Who may ask.
        health: Looks at the service.

    Returns:
        It, for any server.
    """
    token, recent = web.read_token(), _Recent(health)
    registry = CollectorRegistry()
    registry.register(_Metrics(recent))

    def for_known(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """Answer only who bears the token, if there is one."""

        def ask(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            is_known = not token or hmac.compare_digest(given.encode(), token.encode())
            return answer(request) if is_known else _refuse()

        return ask

    def live(request: Request) -> Response:
        return PlainTextResponse("ok")

    def ready(request: Request) -> Response:
        look = recent.look()
        names = " ".join(alarm.name for alarm in look.alarms)
        return PlainTextResponse(names or "ready", 200 if look.is_ready else 503)

    def metrics(request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE)

    def page(request: Request) -> Response:
        now = recent.look()
        reports = {line.key: len(health.list_reports(line.key)) for line in now.lines}
        return HTMLResponse(render_page(now, reports if web.is_closed else None))

    def report(request: Request) -> Response:
        return _send_report(health, **request.path_params) if web.is_closed else _refuse()

    host, _ = parse_host_port(web.address)
    names = ["127.0.0.1", "localhost", "[::1]"] if is_loopback(host) else ["*"]
    return Starlette(
        routes=[
            Route("/", for_known(page)),
            Route("/healthz", live),
            Route("/readyz", ready),
            Route("/metrics", for_known(metrics)),
            Route(
                "/reports/index.html", lambda _: RedirectResponse("/")
            ),  # "All cases" of a report
            Route("/reports/{key}/{number:int}", for_known(report)),
        ],
        # another site must not reach a page on loopback by a name of its own
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=names)],
    )


def _send_report(health: Health, key: str, number: int) -> Response:
    """A volume's page, which shows images."""
    files = health.list_reports(key)
    if not 1 <= number <= len(files):
        return PlainTextResponse("There is no such report.", 404)
    return FileResponse(files[number - 1], headers={"Cache-Control": "no-store"})


class _Recent:
    """What the service looks like: looked at once a second, whoever asks how often.

    Health and readiness are told to anybody, and each look goes through all cases.
    """

    def __init__(self, health: Health) -> None:
        self._health, self._lock = health, threading.Lock()
        self._last: Snapshot | None = None
        self._until = 0.0

    def look(self) -> Snapshot:
        """Look now, or give what was seen within the last second."""
        with self._lock:
            if self._last is None or time.monotonic() >= self._until:
                self._last = self._health.look()
                self._until = time.monotonic() + FRESH_SECONDS
            return self._last


class _Metrics(Collector):
    """Computes every number when it is asked for."""

    def __init__(self, recent: "_Recent") -> None:
        self._recent = recent

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Make all metrics."""
        now = self._recent.look()
        yield _gauge(
            "series", "Series by state", ["state"], {(k,): v for k, v in now.counts.items()}
        )
        yield _gauge(
            "oldest_seconds", "Age of the oldest open series", [], {(): now.oldest_seconds}
        )
        yield _gauge("disk_free_bytes", "Free disk", [], {(): now.free_gib * 2**30})
        yield _gauge("ready", "Whether new work is taken", [], {(): float(now.is_ready)})
        yield _gauge(
            "worker_up",
            "Whether a worker runs",
            ["worker"],
            {(k,): v for k, v in now.workers.items()},
        )
        yield _gauge(
            "alarm", "Alarms that hold", ["alarm"], {(alarm.name,): 1.0 for alarm in now.alarms}
        )
        shares = {}
        for scanner in now.scanners:
            shares[scanner.name, "amber"], shares[scanner.name, "red"] = scanner.amber, scanner.red
            if scanner.overridden is not None:
                shares[scanner.name, "overridden"] = scanner.overridden
        yield _gauge("scanner_percent", "Share of a scanner's masks", ["scanner", "what"], shares)


def _gauge(name: str, text: str, labels: list[str], values: Any) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"grata_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), float(value))
    return family


def _refuse() -> Response:
    headers = {"WWW-Authenticate": "Bearer"}
    return PlainTextResponse("A token is needed: Authorization: Bearer TOKEN", 401, headers)
