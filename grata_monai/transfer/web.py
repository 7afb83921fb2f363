"""One DICOMweb service over HTTP: `requests` with bounds of bytes and time, TLS and errors of ours.

Decisions:

- An answer counts only if its end was seen: all bytes that its header announces, the last chunk,
  the closing boundary of a multipart message. What was cut may look whole.
- Parts of an answer are taken as bytes: a deflated data set of a peer could inflate to any size.
- Redirects are not followed, and the environment's proxies and netrc are not asked: data and
  credentials go to the named host or nowhere.
- Errors of `requests` hold URLs, and so UIDs: they are replaced, not chained.
"""

import http.client
import io
import json
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from grata_monai.core.errors import TransferError
from grata_monai.transfer.address import WebAddress
from grata_monai.transfer.clock import Clock
from grata_monai.transfer.retry import Retry, TransientError
from grata_monai.transfer.security import Security, authorization_header, client_context

__all__ = ["Answer", "Page", "WebService"]

SEARCH_BYTES = 32 * 2**20  # of one page; as Python's objects about twenty times as much
STORE_BYTES = 2**20
CHUNK = 64 * 2**10
LONGEST_WAIT_HEADER = 10  # digits

Answer = Any  # JSON of a peer: any type at all
_JSON = "application/dicom+json, application/json"
_SINGLE_PART = ("application/dicom", "application/octet-stream")
_INSTANCE_TYPE = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_NOT_TRANSIENT = (501, 505)
_TRANSIENT = (408, 425, 429)
_PAST_THE_END = (400, 404, 416)  # what services say to an offset beyond their list

_REMEDIES: Mapping[int, str] = {
    400: "Check the service's path, and whether it speaks DICOMweb.",
    401: "Set GRATA_TRANSFER_TOKEN, or GRATA_TRANSFER_USER and GRATA_TRANSFER_PASSWORD.",
    403: "Ask the service's administrator for access.",
    404: "Check the service's path and the UIDs.",
    405: "Check the service's path, and whether it allows this at all.",
    406: "Ask whether the service can send instances as they are stored.",
    409: "Look into the service's log for why it refuses the instance.",
    413: "Ask the service's administrator to allow larger instances.",
    415: "Ask whether the service takes this kind of instance.",
}


@dataclass(frozen=True)
class Page:
    """One answer to a search.

    Attributes:
        items: What is found, or whatever else the peer sends.
        has_more: Whether the peer says that it has left out some.
    """

    items: Answer
    has_more: bool = False


class WebService:
    """A DICOMweb service; every error is a `TransferError` without identifiers.

    Args:
        address: Of the service.
        security: Certificates and credentials.
        retry: Says how long to wait for an answer; trying again is left to the caller.
    """

    def __init__(self, address: WebAddress, security: Security, retry: Retry) -> None:
        self._url = f"{address.base_url}/studies"
        self._clock = Clock(retry.answer_seconds)
        self._session = _open_session(address, security, self._clock)
        self._timeout = (retry.connect_seconds, retry.answer_seconds)

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def search_studies(self, *, dates: str, modality: str = "", offset: int = 0) -> Page:
        """Ask for the studies of some days, such as ``20260101-`` (QIDO-RS)."""
        return self._search("", {"StudyDate": dates, "ModalitiesInStudy": modality}, offset)

    def search_series(
        self, study_uid: str, *, series_uid: str = "", modality: str = "", offset: int = 0
    ) -> Page:
        """Ask for the series of a study (QIDO-RS)."""
        filters = {"SeriesInstanceUID": series_uid, "Modality": modality}
        return self._search(f"{study_uid}/series", filters, offset)

    def search_instances(self, study_uid: str, series_uid: str, *, offset: int = 0) -> Page:
        """Ask for the instances of a series (QIDO-RS)."""
        return self._search(f"{study_uid}/series/{series_uid}/instances", {}, offset)

    def retrieve(self, uids: tuple[str, str, str], *, limit: int) -> bytes:
        """Get one instance (WADO-RS) as it is stored.

        Args:
            uids: Of study, series and instance.
            limit: Most bytes to accept.

        Returns:
            A DICOM file.

        Raises:
            TransferError: If the answer is larger, or no single instance.
        """
        path = "/{}/series/{}/instances/{}".format(*uids)
        with self._ask("GET", path, headers={"Accept": _INSTANCE_TYPE}) as response:
            _check_status(response)
            kind, boundary = _read_content_type(response)
            if kind in _SINGLE_PART:
                return bytes(self._read(response, limit))
            if kind != "multipart/related" or not boundary:
                raise TransferError(
                    "service must answer with a multipart message, it does not. "
                    "Check that its path leads to DICOMweb."
                )
            return _unpack(self._read(response, limit), boundary)

    def store(self, instance: bytes) -> tuple[int, Answer]:
        """Send one instance (STOW-RS); the boundary is one that nobody can foresee.

        Args:
            instance: A DICOM file.

        Returns:
            HTTP status (2xx, or 409 that carries reasons), and the JSON of the answer or None.
        """
        boundary = secrets.token_hex(24)
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary="{boundary}"',
            "Accept": "application/dicom+json",
        }
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = _Counted(b"".join((head, instance, f"\r\n--{boundary}--".encode())), self._clock)
        with self._ask("POST", "", headers=headers, data=body) as response:
            _check_status(response, but=409)  # says in its body why
            return response.status_code, _parse_json(self._read(response, STORE_BYTES))

    def _search(self, path: str, filters: Mapping[str, str], offset: int) -> Page:
        chosen: dict[str, Any] = {key: value for key, value in filters.items() if value}
        if offset:
            chosen["offset"] = offset
        where = f"/{path}" if path else ""
        with self._ask("GET", where, headers={"Accept": _JSON}, params=chosen) as response:
            if offset and response.status_code in _PAST_THE_END:
                return Page([])
            _check_status(response)
            content = self._read(response, SEARCH_BYTES)
            items = _parse_json(content) if content else []
            warning = response.headers.get("Warning", "").lower()  # PS3.18, 8.3.4.4
            has_more = "299" in warning and "additional result" in warning
        return Page([items] if isinstance(items, dict) else items, has_more)

    @contextmanager
    def _ask(
        self, method: str, path: str, **request: Any
    ) -> Generator[requests.Response, None, None]:
        """Ask, and lend the answer; all of it must have come within the clock's time."""
        with (
            self._clock.running("answer in full"),
            _translated(),
            self._session.request(
                method,
                self._url + path,
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
                **request,
            ) as response,
        ):
            yield response

    def _read(self, response: requests.Response, limit: int) -> bytearray:
        """Read a body to its end, as long as it keeps the limit."""
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise TransferError(
                "service must answer without compression, as it was asked to, it does not. "
                "Switch off the compression of its reverse proxy."
            )
        content = bytearray()
        for chunk in response.iter_content(CHUNK):
            content += chunk
            self._clock.move(len(chunk))
            if len(content) > limit:
                raise TransferError(
                    f"answer must have at most {limit} bytes, the service sends more. "
                    "Raise the limits if you trust it."
                )
        return content


class _Counted(io.BytesIO):
    """A body to send, that grants the clock the time for what is read of it."""

    def __init__(self, content: bytes, clock: Clock) -> None:
        super().__init__(content)
        self._clock = clock

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on."""
        block = super().read(size)
        self._clock.move(len(block))
        return block


class _Adapter(HTTPAdapter):
    """Lets the clock see every connection; with TLS settings of ours, if there are some."""

    def __init__(self, clock: Clock, **settings: Any) -> None:
        self._clock, self._settings = clock, settings
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*args, **{**kwargs, **self._settings})
        pools = self.poolmanager.pool_classes_by_scheme
        self.poolmanager.pool_classes_by_scheme = {
            scheme: _watched(pool, self._clock) for scheme, pool in pools.items()
        }


def _watched(pool: Any, clock: Clock) -> Any:
    """The class of a pool whose connections the clock sees."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            clock.watch(self.sock)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


class _Authorization(requests.auth.AuthBase):
    """Sets the Authorization header; its `repr` shows nothing."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._value
        return request


def _open_session(address: WebAddress, security: Security, clock: Clock) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.headers["Accept-Encoding"] = "identity"
    # without a context of ours, requests would ask for a key's password on the terminal
    tls = {"ssl_context": client_context(security)} if address.is_encrypted else {}
    session.mount(f"http{'s' * address.is_encrypted}://", _Adapter(clock, **tls))
    if address.is_encrypted:
        session.verify = str(security.ca) if security.ca else True
    value = authorization_header(address, security)
    if value:
        session.auth = _Authorization(value)
    return session


def _read_content_type(response: requests.Response) -> tuple[str, bytes]:
    """The media type, and the boundary of a multipart message or nothing."""
    message = Message()
    message["Content-Type"] = response.headers.get("Content-Type", "")
    return message.get_content_type(), (message.get_boundary() or "").encode()


def _unpack(content: bytearray, boundary: bytes) -> bytes:
    """Take the only part out of a multipart message (RFC 2046, 5.1.1)."""
    content[:0] = b"\r\n"  # so that the first delimiter looks like the others
    delimiter = b"\r\n--" + boundary
    end = content.rfind(delimiter + b"--")
    if end < 0:
        raise TransientError("service must close its multipart message, it ends before.")
    parts = content.count(delimiter) - 1
    start = content.find(b"\r\n\r\n", content.find(delimiter), end)
    if parts != 1 or start < 0:
        raise TransferError(
            f"service must answer with one instance, got {parts}. "
            "Check that its path leads to DICOMweb."
        )
    return bytes(memoryview(content)[start + 4 : end])


def _parse_json(content: bytearray) -> Answer:
    """Read JSON; whatever is none is None."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


@contextmanager
def _translated() -> Generator[None, None, None]:
    """Turn what a request raises into our errors; `from None`, as the originals name UIDs."""
    try:
        yield
    except TransferError:
        raise
    except requests.exceptions.SSLError:
        raise TransferError(
            "service must have a certificate that we trust, for the host of the address, and "
            "take ours if it wants one; TLS failed. Check ca, certificate, key and host name."
        ) from None
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
        raise TransientError("service must answer, the connection failed or was cut.") from None
    except (OSError, HTTPError, http.client.HTTPException, ValueError, LookupError) as error:
        raise TransferError(
            f"service must answer as DICOMweb does, it does not ({type(error).__name__}). "
            "Check the service's path."
        ) from None


def _check_status(response: requests.Response, *, but: int = 200) -> None:
    """Raise unless the status is a success, or the one that the caller looks into itself."""
    status = response.status_code
    if 200 <= status < 300 or status == but:
        return
    if 300 <= status < 400:
        raise TransferError(
            "service must answer itself, it redirects. Give the address that it redirects to."
        )
    message = f"service must answer with success, it answers HTTP {status}."
    if status in _TRANSIENT or (status >= 500 and status not in _NOT_TRANSIENT):
        wait = response.headers.get("Retry-After", "")
        is_number = wait.isascii() and wait.isdigit() and len(wait) <= LONGEST_WAIT_HEADER
        raise TransientError(message, wait_seconds=float(wait) if is_number else 0.0)
    raise TransferError(f"{message} {_REMEDIES.get(status, 'Ask its administrator.')}")
