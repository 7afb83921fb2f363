"""Peers on the loopback interface: pynetdicom's own server, a small DICOMweb fake, certificates."""

import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
from certificates import make_certificates, make_server_tls
from pynetdicom import AE, evt

from grata_monai.phantom import make_case
from grata_monai.phantom.dicom import SeriesOptions, write_series
from grata_monai.transfer.retry import Retry

CALLED, CALLING = "ARCHIVE", "GRATA_MONAI"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
SUCCESS = 0x0000


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have credentials; no test may send them anywhere."""
    for name in ("TOKEN", "USER", "PASSWORD"):
        monkeypatch.delenv(f"GRATA_TRANSFER_{name}", raising=False)


@pytest.fixture(scope="session")
def volume() -> tuple[Any, Any]:
    """Stored values (columns, rows, slices) and their affine."""
    case = make_case(0, spacing=(4.0, 4.0, 6.0), spatial_shape=(32, 32, 8))
    image = np.asarray(case.image).reshape(32, 32, 8)
    image = np.round(1000 * (image - image.min()) / np.ptp(image)).astype(np.int16)
    return image, np.asarray(case.affine_ras, dtype=np.float64)


@pytest.fixture(scope="session")
def make_files(volume: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Path]]:
    """Write the volume, or some of its slices, as a DICOM series."""

    def make(slices: int = 8, **options: Any) -> list[Path]:
        image, affine_ras = volume
        folder = tmp_path_factory.mktemp("series")
        chosen = SeriesOptions(**options)
        return write_series(folder, image[..., :slices], affine_ras, options=chosen)

    return make


@pytest.fixture(scope="session")
def series(make_files: Callable[..., list[Path]]) -> list[Path]:
    """The files of a small MR series."""
    return make_files()


@pytest.fixture
def waits() -> list[float]:
    """How long `retry` has waited, without waiting."""
    return []


@pytest.fixture
def retry(waits: list[float]) -> Retry:
    """Three attempts, the longest waits, and none of them real."""
    return Retry(
        attempts=3, sleep=waits.append, draw=lambda: 1.0, connect_seconds=5, answer_seconds=5
    )


@pytest.fixture
def free_port() -> int:
    """A port of the loopback interface on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Peer:
    """A running DICOM server.

    Attributes:
        server: pynetdicom's.
        received: Data sets, in the order in which they came.
        contexts: Of each association: the proposed pairs of kind and encodings.
    """

    server: Any
    received: list[pydicom.Dataset] = field(default_factory=list)
    contexts: list[list[tuple[str, list[str]]]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.server.socket.getsockname()[1])

    @property
    def address(self) -> str:
        return f"dicom://{CALLED}@127.0.0.1:{self.port}"


@pytest.fixture
def start_peer() -> Iterator[Callable[..., Peer]]:
    """Start DICOM servers that end with the test."""
    servers = []

    def start(
        *,
        statuses: Callable[[int], int] = lambda number: SUCCESS,
        kinds: Any = ((MR_IMAGE, None),),
        handlers: Any = (),
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> Peer:
        peer = Peer(None)
        count = iter(range(1, 10_000))

        def keep(event: Any) -> int:
            status = statuses(next(count))
            if status == SUCCESS or status >> 12 == 0xB:
                dataset = event.dataset
                dataset.file_meta = event.file_meta
                peer.received.append(dataset)
            return status

        def note(event: Any) -> None:
            proposed = event.assoc.requestor.primitive.presentation_context_definition_list
            peer.contexts.append(
                [(str(c.abstract_syntax), list(map(str, c.transfer_syntax))) for c in proposed]
            )

        entity = AE(CALLED)
        entity.require_called_aet = True
        entity.require_calling_aet = [CALLING]
        for kind, syntaxes in kinds:
            entity.add_supported_context(kind, syntaxes) if syntaxes else (
                entity.add_supported_context(kind)
            )
        bound = [(evt.EVT_C_STORE, keep), (evt.EVT_REQUESTED, note), *handlers]
        peer.server = entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=bound, ssl_context=tls
        )
        servers.append(peer.server)
        return peer

    yield start
    for server in servers:
        server.shutdown()


@dataclass
class Request:
    """What the fake of a DICOMweb service was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """What the fake answers."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Web:
    """A running fake of a DICOMweb service."""

    server: http.server.ThreadingHTTPServer
    requests: list[Request] = field(default_factory=list)
    scheme: str = "dicomweb"

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_address[1]}/dicom-web"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    web: Any = None
    answer: Any = None

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = bytearray()
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            self._serve(bytes(body))
        else:
            self._serve(self.rfile.read(int(self.headers["Content-Length"])))

    def _serve(self, body: bytes) -> None:
        request = Request(self.command, self.path, dict(self.headers), body)
        self.web.requests.append(request)
        reply = type(self).answer(request)
        if reply is None:  # cut the connection
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def start_web() -> Iterator[Callable[..., Web]]:
    """Start fakes of DICOMweb services that end with the test."""
    servers = []

    def start(answer: Callable[[Request], Reply | None], tls: ssl.SSLContext | None = None) -> Web:
        handler: Any = type("Handler", (_Handler,), {"answer": staticmethod(answer)})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # clients may leave
        web = Web(server)
        handler.web = web
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
            web.scheme = "dicomwebs"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return web

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def _json(content: Any, status: int = 200) -> Reply:
    body = json.dumps(content).encode()
    return Reply(status, body, {"Content-Type": "application/dicom+json"})


def _multipart(*parts: bytes) -> Reply:
    body = b"".join(
        b"\r\n--edge\r\nContent-Type: application/dicom\r\n\r\n" + part for part in parts
    )
    kind = 'multipart/related; type="application/dicom"; boundary=edge'
    return Reply(200, body + b"\r\n--edge--", {"Content-Type": kind})


@pytest.fixture
def replies() -> SimpleNamespace:
    """Makers of answers: `json`, `multipart`, and `Reply` for the rest."""
    return SimpleNamespace(json=_json, multipart=_multipart, Reply=Reply)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates, see `make_certificates`."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def server_tls(certificates: Path) -> Callable[..., ssl.SSLContext]:
    """Make TLS settings of a peer."""
    return partial(make_server_tls, certificates)
