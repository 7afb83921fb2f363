"""Addresses of DICOM peers, as text and as checked values; never with a password in them.

::

    dicomwebs://pacs.example/dicom-web?study=UID&series=UID      DICOMweb over TLS
    dicomweb://127.0.0.1:8042/dicom-web                          DICOMweb without TLS
    dicoms://ARCHIVE@pacs.example:2762?calling=GRATA             C-STORE over TLS
    dicom://ARCHIVE@127.0.0.1:11112                              C-STORE without TLS

What travels without TLS can be read by everybody on the way: such addresses must be on this machine
(loopback), unless the caller says that the network is trusted.
"""

import difflib
import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

__all__ = [
    "AeAddress",
    "WebAddress",
    "check_ae_title",
    "check_uid",
    "is_loopback",
    "parse_address",
    "parse_host_port",
]

OWN_TITLE = "GRATA_MONAI"
LONGEST_TITLE = 16  # DICOM PS3.5, value representation AE
LONGEST_UID = 64
DEFAULT_PORTS = {"dicomweb": 80, "dicomwebs": 443, "dicom": 104, "dicoms": 2762}
WEB_KEYS = ("study", "series", "modality")
STORE_KEYS = ("calling",)

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_MODALITY = re.compile(r"[A-Z0-9 _]{1,16}")
_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]+")


@dataclass(frozen=True)
class WebAddress:
    """A DICOMweb service, and what to fetch there; checked when built.

    Attributes:
        host: Name or IP address.
        port: 1 to 65535.
        path: Of the service, such as ``/dicom-web``; may be empty.
        is_encrypted: Whether to speak https.
        study_uid: The study to fetch; empty for a destination. Not in `repr` or `str`.
        series_uid: One series of it; empty for all. Not in `repr` or `str`.
        modality: Only series of this modality, such as ``MR``; empty for all.

    Raises:
        ValueError: If an attribute breaks its rule.
    """

    host: str
    port: int
    path: str = ""
    is_encrypted: bool = True
    study_uid: str = field(default="", repr=False)
    series_uid: str = field(default="", repr=False)
    modality: str = ""

    def __post_init__(self) -> None:
        _check_place(self.host, self.port)
        if not _PATH.fullmatch(self.path) or ".." in self.path.split("/"):
            _refuse("path", "be made of letters, digits and ._~- between single slashes")
        for name, uid in (("study", self.study_uid), ("series", self.series_uid)):
            if uid:
                check_uid(uid, name)
        if self.series_uid and not self.study_uid:
            _refuse("study", "be given where series is", "Add study=UID in front of series=UID.")
        if self.modality and not _MODALITY.fullmatch(self.modality):
            _refuse("modality", "be a code of up to 16 capitals", "Write for example modality=MR.")

    @property
    def base_url(self) -> str:
        """Of the service, for HTTP; without anything that says what is fetched."""
        return f"http{'s' * self.is_encrypted}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port."""
        return _join(self.host, self.port)

    def __str__(self) -> str:
        return f"dicomweb{'s' * self.is_encrypted}://{self.authority}{self.path}"


@dataclass(frozen=True)
class AeAddress:
    """An application entity that takes C-STORE; checked when built.

    Attributes:
        host: Name or IP address.
        port: 1 to 65535.
        called: Its AE title, at most 16 characters.
        calling: Ours.
        is_encrypted: Whether to speak TLS.

    Raises:
        ValueError: If an attribute breaks its rule.
    """

    host: str
    port: int
    called: str
    calling: str = OWN_TITLE
    is_encrypted: bool = True

    def __post_init__(self) -> None:
        _check_place(self.host, self.port)
        check_ae_title(self.called, "called AE title")
        check_ae_title(self.calling, "calling AE title")

    def __str__(self) -> str:
        return f"dicom{'s' * self.is_encrypted}://{self.called}@{_join(self.host, self.port)}"


def parse_address(text: str) -> WebAddress | AeAddress:
    """Read an address; see the module's docstring for its forms.

    Args:
        text: The address.

    Returns:
        Its checked value.

    Raises:
        ValueError: If it breaks a rule. The message never repeats the address.

    >>> print(parse_address("dicomweb://127.0.0.1:8042/dicom-web?study=1.2.3"))
    dicomweb://127.0.0.1:8042/dicom-web
    >>> print(parse_address("dicoms://ARCHIVE@pacs.example?calling=GRATA"))
    dicoms://ARCHIVE@pacs.example:2762
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(
            "address must have the form SCHEME://HOST[:PORT], with a port between 1 and 65535. "
            "Correct it."
        ) from error
    _check_scheme(parts.scheme)
    if parts.fragment:
        _refuse("address", "have no fragment (#…)", "Remove it.")
    port = DEFAULT_PORTS[parts.scheme] if port is None else port
    is_encrypted = parts.scheme.endswith("s")
    if parts.scheme.startswith("dicomweb"):
        return _parse_web(parts, host, port, is_encrypted=is_encrypted)
    return _parse_store(parts, host, port, is_encrypted=is_encrypted)


def parse_host_port(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``.

    Raises:
        ValueError: If it is something else.

    >>> parse_host_port("127.0.0.1:11113")
    ('127.0.0.1', 11113)
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    is_bare = parts.netloc == text and parts.username is None
    if not host or port is None or not is_bare:
        _refuse("address to listen on", "have the form HOST:PORT", "Write 127.0.0.1:11113.")
    _check_place(host, port)
    return host, port


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("pacs.example")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_ae_title(title: str, name: str) -> None:
    """Raise ValueError unless `title` is an AE title (DICOM PS3.5, 6.2)."""
    if len(title) > LONGEST_TITLE:
        _refuse(name, f"have at most {LONGEST_TITLE} characters, got {len(title)}")
    if not _TITLE.fullmatch(title) or title != title.strip():
        _refuse(name, "be printable ASCII without backslash, and neither empty nor padded")


def check_uid(uid: str, name: str) -> None:
    """Raise ValueError, without the value, unless `uid` is made like a UID (DICOM PS3.5, 9.1)."""
    if len(uid) > LONGEST_UID or not _UID.fullmatch(uid):
        _refuse(name, f"be a UID: digits and dots, at most {LONGEST_UID}", "Copy it again.")


def _parse_web(parts: SplitResult, host: str, port: int, *, is_encrypted: bool) -> WebAddress:
    if parts.username is not None:
        _refuse(
            "DICOMweb address",
            "have no user or password in it",
            "Put them into GRATA_TRANSFER_USER and GRATA_TRANSFER_PASSWORD, or into a file.",
        )
    query = _parse_query(parts.query, WEB_KEYS)
    return WebAddress(
        host,
        port,
        path=parts.path.rstrip("/"),
        is_encrypted=is_encrypted,
        study_uid=query.get("study", ""),
        series_uid=query.get("series", ""),
        modality=query.get("modality", ""),
    )


def _parse_store(parts: SplitResult, host: str, port: int, *, is_encrypted: bool) -> AeAddress:
    if parts.password is not None or "@" in (parts.username or ""):
        _refuse("DICOM address", "have nothing but the called AE title in front of @")
    if parts.username is None or parts.path not in ("", "/"):
        _refuse(
            "DICOM address",
            "have the form dicom://CALLED@HOST:PORT?calling=TITLE",
            "Put the peer's AE title in front of @.",
        )
    query = _parse_query(parts.query, STORE_KEYS)
    calling = query.get("calling", OWN_TITLE)
    return AeAddress(host, port, unquote(parts.username), calling, is_encrypted=is_encrypted)


def _parse_query(text: str, allowed: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.4)
            hint = f" The nearest is {near[0]}." if near else ""
            # the key itself is not repeated: it may be a misplaced secret
            _refuse("key in the query", f"be one of {', '.join(allowed)}", f"Remove it.{hint}")
        if key in found or not value:
            _refuse(key, "be given once, with a value")
        found[key] = value
    return found


def _check_scheme(scheme: str) -> None:
    if scheme in DEFAULT_PORTS:
        return
    usual = {"http": "dicomweb", "https": "dicomwebs"}
    near = usual.get(scheme) or next(
        iter(difflib.get_close_matches(scheme, DEFAULT_PORTS, n=1, cutoff=0.4)), ""
    )
    hint = f"The nearest is {near}://." if near else "Put one of them in front."
    _refuse("address", f"begin with one of {', '.join(f'{s}://' for s in DEFAULT_PORTS)}", hint)


def _check_place(host: str, port: int) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            _refuse("host", "be a name or an IP address", "Write it between // and the port.")
    if not isinstance(port, int) or not 1 <= port <= 65535:
        _refuse("port", f"lie between 1 and 65535, got {port!r}")


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refuse(name: str, rule: str, remedy: str = "Correct it.") -> NoReturn:
    raise ValueError(f"{name} must {rule}. {remedy}")
