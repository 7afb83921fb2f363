"""Stand before MONAI Label and let pass only requests that this server means to answer.

An ASGI middleware that knows HTTP alone: who asks (Host, Origin), for what (paths, names), how much
(bytes). What it refuses never reaches MONAI Label.
"""

import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

__all__ = ["Access", "Guard", "Refused", "check_name"]

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

GIBIBYTE = 2**30
NAME = re.compile(r"\w[\w.+ -]{0,199}")
NAMED = ("image", "id", "label", "tag", "session_id")
"""Parameters of a request that become names of files on the server."""
ODD_PATH = re.compile(r"(^|/)\.\.?(/|$)|[\\\x00-\x1f\x7f]")
NOTHING_ELSE = "this server segments images, and offers nothing else."
NO_TRAINING = (
    "this server does not train. Submitted labels are kept; `python -m grata_monai label collect` "
    "gathers them for calibrate and train."
)
CLOSED = re.compile(
    r"/+(batch|datastore/+dataset|infer/wsi_v2|logs|model|proxy|reload|scoring|train|wsi_infer)(/|$)",
    re.IGNORECASE,
)
"""What MONAI Label offers besides: requests sent on elsewhere, weights exchanged, training, what
others asked for, an archive of all studies that nobody removes, and tasks in processes of their
own, which nothing here stands before."""


@dataclass(frozen=True)
class Access:
    """Who may ask, and how much may be sent.

    Attributes:
        hosts: Names by which this server is called, in lower case and without port. A page of
            another name that points to this machine (DNS rebinding) is told apart by this.
        bytes: At most so many may one request send.
    """

    hosts: frozenset[str] = field(
        default_factory=lambda: frozenset({"localhost", "127.0.0.1", "::1"})
    )
    bytes: int = 2 * GIBIBYTE

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Access":
        """Read ``GRATA_LABEL_HOSTS``, names with commas, and ``GRATA_LABEL_BYTES``.

        Raises:
            ValueError: If the number of bytes is no whole number above 0.
        """
        own = cls()
        more = environment.get("GRATA_LABEL_HOSTS", "").lower().split(",")
        text = environment.get("GRATA_LABEL_BYTES", str(own.bytes))
        if not text.isdecimal() or int(text) == 0:
            raise ValueError(
                f"GRATA_LABEL_BYTES must be a whole number above 0, got {text!r}. "
                f"Leave it out for {own.bytes}."
            )
        return cls(own.hosts | {name.strip() for name in more if name.strip()}, int(text))


class Refused(Exception):  # noqa: N818  # an answer, not a fault
    """A request that is answered here.

    Args:
        status: Of HTTP.
        reason: For the client: what must be, and what to do.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Guard:
    """The middleware.

    Args:
        app: MONAI Label's application.
        access: Who may ask.
    """

    def __init__(self, app: App, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Check one request, then hand it on; answer in one sentence what is refused or fails."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if scope["type"] != "http":
                raise Refused(403, "requests must be HTTP.")
            self._check(scope)
            await self.app(scope, self._counted(receive), sending)
        except Refused as refused:
            logger.warning("request refused: %s", refused.reason)
            if not begun:
                await _answer(send, refused.status, refused.reason)
        except Exception as error:
            kind = type(error).__name__
            logger.error("request failed: %s", kind)
            if not begun:
                await _answer(send, 500, f"the server failed ({kind}). Its log says when.")

    def _check(self, scope: Message) -> None:
        headers = {key.decode("latin-1").lower(): value.decode("latin-1")
                   for key, value in scope["headers"]}  # fmt: skip
        self._check_host(headers)
        if ODD_PATH.search(scope["path"]):
            raise Refused(404, "the path must lead to something, and not through folders.")
        if CLOSED.match(scope["path"]):
            raise Refused(403, NO_TRAINING if "train" in scope["path"] else NOTHING_ELSE)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.access.bytes:
            raise self._too_large()
        may_be_path = scope["path"].lstrip("/").startswith("infer/")  # looked at in `requests`
        for name, value in parse_qsl(scope["query_string"].decode("latin-1"), True):
            if name in NAMED and value and not (name == "image" and may_be_path):
                check_name(name, value)
            if name == "uncompress" and value.lower() not in ("0", "false", "no", "off"):
                raise Refused(403, "uncompress must be false: send images, no archives.")

    def _check_host(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if _host_name(host) not in self.access.hosts:
            hint = "Its operator lists them in GRATA_LABEL_HOSTS."
            raise Refused(421, f"Host must be a name of this server. {hint}")
        origin = headers.get("origin")
        is_foreign = origin is not None and _place(origin) != host.lower()
        if is_foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise Refused(403, "Origin must be this server's own, or none: pages cannot ask here.")

    def _counted(self, receive: Receive) -> Receive:
        """Count what is sent: a client need not say its length, or may lie."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.access.bytes:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> Refused:
        return Refused(
            413, f"a request must send at most {self.access.bytes} bytes. Send one image at a time."
        )


def check_name(what: str, name: str) -> None:
    """Refuse what is no plain name of an image, such as a path.

    Args:
        what: Of the request, for the message.
        name: As the client sent it.

    Raises:
        Refused: If so.
    """
    if not NAME.fullmatch(name):
        hint = "/datastore/ lists them."
        raise Refused(422, f"{what} must be a plain name, and no path. {hint}")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


async def _answer(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
