"""One DICOMweb service over HTTP: dicomweb-client with bounds, TLS and errors of ours.

Decisions:

- Parts of an answer are taken as bytes. dicomweb-client would parse them in this process, where a
  deflated data set of a peer could inflate to any size.
- Redirects are not followed, and the environment's proxies and netrc are not asked: data and
  credentials go to the named host or nowhere.
- Errors of `requests` hold URLs, and so UIDs: they are replaced, not chained.
"""

import json
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
from dicomweb_client.web import DICOMwebClient
from requests.adapters import HTTPAdapter

from grata_monai.core.errors import TransferError
from grata_monai.transfer.address import WebAddress
from grata_monai.transfer.retry import Retry, TransientError
from grata_monai.transfer.security import Security, authorization_header, client_context

__all__ = ["Answer", "WebService"]

BOUNDED_ANSWER = 64 * 2**20  # bytes of an answer that is no instance
CHUNK = 2**20
LONGEST_WAIT_HEADER = 10  # digits

Answer = Any  # JSON of a peer: any type at all
_SINGLE_PART = ("application/dicom", "application/octet-stream")
_INSTANCE_TYPE = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_NOT_TRANSIENT = (501, 505)
_TRANSIENT = (408, 425, 429)

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


class WebService:
    """A DICOMweb service; every error is a `TransferError` without identifiers.

    Args:
        address: Of the service.
        security: Certificates and credentials.
        retry: Says how long to wait for an answer; trying again is left to the caller.
    """

    def __init__(self, address: WebAddress, security: Security, retry: Retry) -> None:
        self._bound = _Bound()
        self._session = _open_session(address, security, self._bound)
        self._client = _Client(
            url=address.base_url,
            session=self._session,
            callback=self._bound,
            chunk_size=CHUNK,
            timeout=(retry.connect_seconds, retry.answer_seconds),
        )
        self._client.set_http_retry_params(retry=False)  # ours waits as the caller says
        self._client.host = address.authority  # it would leave the port out of the Host header

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def search_series(self, study_uid: str, *, modality: str = "", offset: int = 0) -> Answer:
        """Ask for the series of a study (QIDO-RS)."""
        filters = {"Modality": modality} if modality else {}
        with _translated(), self._bound.limited(BOUNDED_ANSWER):
            return self._client.search_for_series(
                study_uid, search_filters=filters, offset=offset or None
            )

    def search_instances(self, study_uid: str, series_uid: str, *, offset: int = 0) -> Answer:
        """Ask for the instances of a series (QIDO-RS)."""
        with _translated(), self._bound.limited(BOUNDED_ANSWER):
            return self._client.search_for_instances(study_uid, series_uid, offset=offset or None)

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
        with _translated(), self._bound.limited(limit):
            parts = list(self._client.iter_parts(uids))
        if len(parts) != 1:
            raise TransferError(
                f"service must answer with one instance, got {len(parts)}. "
                "Check that its path leads to DICOMweb."
            )
        return parts[0]

    def store(self, instance: bytes) -> tuple[int, Answer]:
        """Send one instance (STOW-RS).

        Args:
            instance: A DICOM file.

        Returns:
            HTTP status (2xx, or 409 that carries reasons), and the JSON of the answer or None.
        """
        with _translated(), self._bound.limited(BOUNDED_ANSWER):
            response = self._client.post_instance(instance)
            return response.status_code, _read_json(response)


class _Client(DICOMwebClient):
    """dicomweb-client's requests and multipart coding, without its parsing of datasets."""

    def iter_parts(self, uids: tuple[str, str, str]) -> Iterator[bytes]:
        """Yield the parts of an answer to WADO-RS for one instance."""
        study, series, instance = uids
        url = f"{self.base_url}/studies/{study}/series/{series}/instances/{instance}"
        with self._http_get(url, headers={"Accept": _INSTANCE_TYPE}, stream=True) as response:
            if response.headers.get("Content-Type", "").lower().startswith(_SINGLE_PART):
                yield response.content  # some services do not wrap a single part
            else:
                for part in self._decode_multipart_message(response, stream=True):
                    yield bytes(part)

    def post_instance(self, instance: bytes) -> requests.Response:
        """Post one part by STOW-RS; the boundary is one that nobody can foresee."""
        content_type = (
            f'multipart/related; type="application/dicom"; boundary="{secrets.token_hex(24)}"'
        )
        body = self._encode_multipart_message([instance], content_type)
        headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
        try:
            return self._http_post(f"{self.base_url}/studies", body, headers)
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code == 409:
                return error.response  # says in its body why
            raise


class _Bound:
    """Stops reading an answer that is longer than allowed; a response hook of `requests`."""

    def __init__(self) -> None:
        self._limit = BOUNDED_ANSWER

    @contextmanager
    def limited(self, limit: int) -> Generator[None, None, None]:
        """Set the limit of the answers in a block."""
        self._limit = limit
        try:
            yield
        finally:
            self._limit = BOUNDED_ANSWER

    def __call__(self, response: requests.Response, **_: Any) -> requests.Response:
        """Count what is read of a response."""
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            response.close()
            raise TransferError(
                "service must answer without compression, as it was asked to, it does not. "
                "Switch off the compression of its reverse proxy."
            )
        response.iter_content = _counted(response, self._limit)  # type: ignore[method-assign]
        return response


def _counted(response: requests.Response, limit: int) -> Callable[..., Iterator[bytes]]:
    read = response.iter_content

    def iterate(chunk_size: int | None = 1, _: bool = False) -> Iterator[bytes]:
        count = 0
        for chunk in read(chunk_size):
            count += len(chunk)
            if count > limit:
                response.close()
                raise TransferError(
                    f"answer must have at most {limit} bytes, the service sends more. "
                    "Raise the limits if you trust it."
                )
            yield chunk

    return iterate


class _TlsAdapter(HTTPAdapter):
    """Uses our TLS settings, and never asks for a key's password on the terminal."""

    def __init__(self, security: Security) -> None:
        self._context = client_context(security)
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool of connections with our TLS settings."""
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)


class _Authorization(requests.auth.AuthBase):
    """Sets the Authorization header; its `repr` shows nothing."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._value
        return request


def _open_session(address: WebAddress, security: Security, bound: _Bound) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    session.headers["Accept-Encoding"] = "identity"
    if address.is_encrypted:
        session.mount("https://", _TlsAdapter(security))
        session.verify = str(security.ca) if security.ca else True
    value = authorization_header(address, security)
    if value:
        session.auth = _Authorization(value)
    return session


def _read_json(response: requests.Response) -> Answer:
    """Read JSON; an empty answer, XML or text is None."""
    if "json" not in response.headers.get("Content-Type", "").lower():
        return None
    try:
        return json.loads(response.content)
    except ValueError:
        return None


@contextmanager
def _translated() -> Generator[None, None, None]:
    """Turn what a request raises into our errors; `from None`, as the originals name UIDs."""
    try:
        yield
    except requests.HTTPError as error:
        raise _explain_status(error.response) from None
    except requests.exceptions.SSLError:
        raise TransferError(
            "service must have a certificate that we trust, for the host of the address, and "
            "take ours if it wants one; TLS failed. Check ca, certificate, key and host name."
        ) from None
    except requests.TooManyRedirects:
        raise TransferError(
            "service must answer itself, it redirects. Give the address that it redirects to."
        ) from None
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
        raise TransientError("service must answer, the connection failed or was cut.") from None
    except (requests.RequestException, ValueError, TypeError, KeyError, AttributeError) as error:
        raise TransferError(
            f"service must answer as DICOMweb does, it does not ({type(error).__name__}). "
            "Check the service's path."
        ) from None


def _explain_status(response: requests.Response | None) -> TransferError:
    status = response.status_code if response is not None else 0
    message = f"service must answer with success, it answers HTTP {status}."
    if status in _TRANSIENT or (status >= 500 and status not in _NOT_TRANSIENT):
        wait = response.headers.get("Retry-After", "") if response is not None else ""
        is_number = wait.isascii() and wait.isdigit() and len(wait) <= LONGEST_WAIT_HEADER
        return TransientError(message, wait_seconds=float(wait) if is_number else 0.0)
    return TransferError(f"{message} {_REMEDIES.get(status, 'Ask its administrator.')}")
