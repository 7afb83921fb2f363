"""Certificates and credentials for a transfer, and loggers that must not repeat what they see.

Secrets are read when a connection is opened, from the environment or a file, and are kept nowhere:
neither in an address, nor in a field that `repr` shows, nor in a message.
"""

import base64
import logging
import os
import ssl
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from grata_monai.transfer.address import AeAddress, WebAddress, is_loopback

__all__ = [
    "Security",
    "authorization_header",
    "check_encryption",
    "client_context",
    "quiet_libraries",
    "server_context",
]

TOKEN = "GRATA_TRANSFER_TOKEN"
USER = "GRATA_TRANSFER_USER"
PASSWORD = "GRATA_TRANSFER_PASSWORD"

# urllib3 logs URLs with UIDs, the others also datasets and what peers say
LIBRARIES = ("pynetdicom", "urllib3", "pydicom")


@dataclass(frozen=True)
class Security:
    """How to prove who we are, and whom to believe; checked when built.

    Attributes:
        ca: PEM file of the authorities that may sign the peer's certificate; those of the system
            if None.
        certificate: PEM file of our own certificate, where the peer wants one (mutual TLS).
        key: PEM file of its key, not encrypted; None if `certificate` holds both.
        credentials: A file with one line, ``Bearer TOKEN`` or ``Basic USER:PASSWORD``. Without it
            the environment is asked for ``GRATA_TRANSFER_TOKEN``, or for ``GRATA_TRANSFER_USER``
            and ``GRATA_TRANSFER_PASSWORD``.
        is_insecure: Whether patients' data may travel without TLS beyond this machine.

    Raises:
        ValueError: If a file is missing, or a key has no certificate.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    credentials: Path | None = None
    is_insecure: bool = False

    def __post_init__(self) -> None:
        for name in ("ca", "certificate", "key", "credentials"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ValueError(f"{name} must be a file, {Path(path).name!r} is none. Correct it.")
        if self.key is not None and self.certificate is None:
            raise ValueError("certificate must be given where key is. Add the certificate's file.")


def check_encryption(address: WebAddress | AeAddress, security: Security) -> None:
    """Raise ValueError if data would travel in clear text, unasked, beyond this machine."""
    if address.is_encrypted or is_loopback(address.host) or security.is_insecure:
        return
    raise ValueError(
        "address must be encrypted or on this machine, "
        f"{address} is neither. Use {str(address).split('://', maxsplit=1)[0]}s://, or say "
        "that the network is trusted: --insecure, or is_insecure in `security`."
    )


def authorization_header(
    address: WebAddress, security: Security, environment: Mapping[str, str] = os.environ
) -> str:
    """Make the value of HTTP's Authorization header.

    Args:
        address: Whom it is for; without TLS only this machine gets it.
        security: Where to find the credentials.
        environment: Variables.

    Returns:
        The header's value; empty where there are no credentials.

    Raises:
        ValueError: If the credentials are made wrongly, or would travel in clear text.
    """
    line = _read_line(security.credentials) if security.credentials else _join(environment)
    if not line:
        return ""
    kind, _, secret = line.partition(" ")
    secret = secret.strip()
    if kind not in ("Bearer", "Basic") or not secret or (kind == "Basic" and ":" not in secret):
        raise ValueError(
            "credentials must be one line, Bearer TOKEN or Basic USER:PASSWORD. Correct the file."
        )
    if not all(" " <= letter <= "~" for letter in secret) and kind == "Bearer":
        raise ValueError("token must be printable ASCII. Copy it again.")
    if not address.is_encrypted and not is_loopback(address.host):
        raise ValueError(
            "credentials must travel over TLS, the address is dicomweb://. Use dicomwebs://."
        )
    if kind == "Basic":
        secret = base64.b64encode(secret.encode()).decode()
    return f"{kind} {secret}"


def client_context(security: Security) -> ssl.SSLContext:
    """TLS settings to call a peer: its certificate and host name are checked.

    Raises:
        ValueError: If a file holds no certificate or key.
    """
    context = _load(ssl.Purpose.SERVER_AUTH, security)
    context.check_hostname = True
    return context


def server_context(security: Security) -> ssl.SSLContext:
    """TLS settings to be called by a peer, who must have a certificate too.

    Raises:
        ValueError: If there is no certificate, or a file holds none.
    """
    if security.certificate is None or security.ca is None:
        raise ValueError(
            "ca and certificate must be given to be called over TLS. Add both, or leave out the "
            "address for the reply."
        )
    context = _load(ssl.Purpose.CLIENT_AUTH, security)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep libraries from logging what they handle: UIDs, URLs, elements, answers of peers.

    Their loggers say nothing inside the block. Warnings say nothing either: pydicom's quote values.
    """
    _Quiet.enter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _Quiet.leave()


class _Quiet:
    """Levels of the libraries' loggers, restored when the last of several threads leaves."""

    lock = threading.Lock()
    depth = 0
    levels: dict[str, int] = {}  # noqa: RUF012 - one state for the process, as loggers are

    @classmethod
    def enter(cls) -> None:
        with cls.lock:
            if cls.depth == 0:
                cls.levels = {name: logging.getLogger(name).level for name in LIBRARIES}
                for name in LIBRARIES:
                    logging.getLogger(name).setLevel(logging.CRITICAL + 1)
            cls.depth += 1

    @classmethod
    def leave(cls) -> None:
        with cls.lock:
            cls.depth -= 1
            if cls.depth == 0:
                for name, level in cls.levels.items():
                    logging.getLogger(name).setLevel(level)


def _load(purpose: ssl.Purpose, security: Security) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=security.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if security.certificate is not None:
            # without a password OpenSSL would ask on the terminal
            context.load_cert_chain(security.certificate, security.key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise ValueError(
            "ca, certificate and key must be PEM files that belong together, the key not "
            f"encrypted; OpenSSL says {reason}. Correct them."
        ) from error
    return context


def _read_line(path: Path) -> str:
    lines = Path(path).read_text(encoding="utf-8").strip().splitlines()
    if len(lines) != 1:
        raise ValueError(
            f"credentials must be one line, the file has {len(lines)}. "
            "Write Bearer TOKEN or Basic USER:PASSWORD."
        )
    return lines[0].strip()


def _join(environment: Mapping[str, str]) -> str:
    token, user, password = (environment.get(name, "") for name in (TOKEN, USER, PASSWORD))
    if token and (user or password):
        raise ValueError(f"only one of {TOKEN} and {USER} must be set. Unset the other.")
    if bool(user) != bool(password):
        raise ValueError(f"{USER} and {PASSWORD} must be set together. Set both.")
    if user:
        return f"Basic {user}:{password}"
    return f"Bearer {token}" if token else ""
