"""Serve a run's pages to one reader on this machine, and take down what he decides.

Only loopback. Whoever opens the printed address gets a cookie for its token; a request without it,
under another host's name, or sent by another site, is refused. Nothing but reports is served.
"""

import hmac
import json
import logging
import re
import secrets
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from grata_monai.core.errors import GrataError
from grata_monai.report.control import render_control
from grata_monai.report.index import write_index
from grata_monai.report.reviews import LOG, append_review, make_review, read_reviews
from grata_monai.report.rows import FOLDER, read_rows

__all__ = ["ReviewServer"]

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
LONGEST_REQUEST = 10_000  # bytes of a review
CONNECTION_SECONDS = 20.0  # whatever a client sends or reads
MOST_CONNECTIONS = 32
KINDS: Mapping[str, str] = {".html": "text/html; charset=utf-8", ".png": "image/png"}
LENGTH = re.compile("[0-9]{1,9}")
PAGE = re.compile(rf"/(index\.html|{FOLDER}/[^/\\]+\.(?:html|png))")


class ReviewServer(ThreadingHTTPServer):
    """A run's pages on loopback.

    Args:
        folder: The run's folder; its index is written anew.
        port: Of 127.0.0.1; 0 takes a free one.

    Raises:
        OutputError: If the index cannot be written.
        OSError: If the port is taken.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder.resolve()
        self.token = secrets.token_urlsafe(24)
        write_index(self.folder)
        self.rows = {row.case: row for row in read_rows(self.folder)}
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__((HOST, port), _Request)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, unless there are too many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log for developers: a client that goes away is no matter for a reader."""
        logger.debug("a request could not be answered", exc_info=True)

    @property
    def address(self) -> str:
        """What the reader opens."""
        return f"http://{HOST}:{self.server_port}/?token={self.token}"


class _Request(BaseHTTPRequestHandler):
    server: ReviewServer
    server_version, sys_version = "grata_monai", ""

    def setup(self) -> None:
        """Begin, with an end."""
        super().setup()
        self._end = threading.Timer(CONNECTION_SECONDS, self._cut)
        self._end.daemon = True
        self._end.start()

    def finish(self) -> None:
        """End."""
        self._end.cancel()
        super().finish()

    def _cut(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        """Serve a page, the control chart, or the reviews of a case."""
        url = urlsplit(self.path)
        asked = parse_qs(url.query)
        if not self._is_our_host():
            self._refuse(HTTPStatus.FORBIDDEN, "This server answers to its own address only.")
        elif url.path == "/" and self._is_token(asked.get("token", [""])[0]):
            cookie = f"{self._cookie}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
            moved = {"Location": "/index.html", "Set-Cookie": cookie}
            self._answer(b"", "text/plain", HTTPStatus.SEE_OTHER, moved)
        elif not self._is_known():
            self._refuse(HTTPStatus.FORBIDDEN, "Open the address that the program printed.")
        elif url.path == "/control":
            self._attempt(self._send_control)
        elif url.path == "/reviews":
            self._attempt(partial(self._send_reviews, asked.get("case", [""])[0]))
        else:
            path = unquote("/index.html" if url.path == "/" else url.path)
            self._attempt(partial(self._send_page, path))

    def do_POST(self) -> None:
        """Take down a review."""
        length = self.headers.get("Content-Length", "")
        is_ours = self._is_our_host() and self._is_known() and self._is_same_site()
        if not is_ours:
            self._refuse(HTTPStatus.FORBIDDEN, "Reviews come from the pages of this server only.")
        elif urlsplit(self.path).path != "/reviews":
            self._refuse(HTTPStatus.NOT_FOUND, "There is nothing of this name.")
        elif not LENGTH.fullmatch(length) or int(length) > LONGEST_REQUEST:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "A review is shorter.")
        else:
            self._attempt(partial(self._take_review, self.rfile.read(int(length))))

    def log_message(self, format: str, *args: Any) -> None:
        """Log for developers only: addresses hold the token and the cases' names."""
        logger.debug("request answered")

    @property
    def _cookie(self) -> str:
        return f"grata_{self.server.server_port}"  # browsers share cookies between ports

    def _is_our_host(self) -> bool:
        """Whether the address was typed, and not another site's name that points here."""
        port = self.server.server_port
        return self.headers.get("Host", "") in (f"{HOST}:{port}", f"localhost:{port}")

    def _is_same_site(self) -> bool:
        """Whether a page of ours sent it: others cannot set this header without being asked."""
        origin = self.headers.get("Origin")
        is_from_us = origin is None or origin == f"http://{self.headers.get('Host')}"
        return is_from_us and self.headers.get("X-Grata-Review") == "1"

    def _is_known(self) -> bool:
        try:
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            return False
        return self._cookie in cookies and self._is_token(cookies[self._cookie].value)

    def _is_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self.server.token.encode())

    def _send_page(self, path: str) -> None:
        found = PAGE.fullmatch(path)
        file = self.server.folder / found[1] if found else None
        is_inside = file is not None and file.resolve().is_relative_to(self.server.folder)
        if file is None or not is_inside or not file.is_file():
            self._refuse(HTTPStatus.NOT_FOUND, "There is no such report.")
        else:
            self._answer(file.read_bytes(), KINDS[file.suffix])

    def _send_control(self) -> None:
        page = render_control(self.server.rows.values(), read_reviews(self.server.folder / LOG))
        self._answer(page.encode(), KINDS[".html"])

    def _send_reviews(self, case: str) -> None:
        found = [asdict(r) for r in read_reviews(self.server.folder / LOG) if r.case == case]
        self._answer(json.dumps(found).encode(), "application/json")

    def _take_review(self, body: bytes) -> None:
        review = make_review(json.loads(body), self.server.rows)
        append_review(review, self.server.folder / LOG)
        self._answer(b"{}", "application/json", HTTPStatus.CREATED)

    def _attempt(self, action: Any) -> None:
        try:
            action()
        except (GrataError, ValueError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except (OSError, RecursionError) as error:  # a name too long, JSON too deep
            self._refuse(HTTPStatus.BAD_REQUEST, f"This cannot be answered: {type(error).__name__}")

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self.close_connection = True
        self._answer(text.encode(), "text/plain; charset=utf-8", status)

    def _answer(
        self,
        content: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        fixed = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }
        for name, value in {**fixed, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
