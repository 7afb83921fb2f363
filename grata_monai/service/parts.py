"""The tables of the service's configuration, each checked when it is read."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from grata_monai.transfer.address import (
    AeAddress,
    WebAddress,
    check_ae_title,
    is_loopback,
    parse_address,
    parse_host_port,
)
from grata_monai.transfer.commitment import Commitment, check_commitment
from grata_monai.transfer.security import (
    Security,
    authorization_header,
    check_encryption,
    client_context,
    server_context,
)

__all__ = [
    "PRIORITIES",
    "Audit",
    "Completeness",
    "Destination",
    "Limits",
    "Listener",
    "Part",
    "Pull",
    "Route",
    "Watch",
    "Web",
]

MOST_DAYS = 36_500
PRIORITIES = {"emergency": 0, "normal": 3600, "research": 86400}
"""How many seconds a case lets those overtake that came later."""


class Part(BaseModel):
    """A table of the file: every key is known, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Certified(Part):
    """Certificates of one door or one peer; files are looked into when the table is read.

    Attributes:
        ca: PEM file of the authorities that may sign a peer's certificate.
        certificate: Our own certificate.
        key: Its key.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _check_files(self) -> "Certified":
        if self.has_files:
            client_context(self.security)
        return self

    @property
    def has_files(self) -> bool:
        """Whether any of them is given."""
        return (self.ca, self.certificate, self.key) != (None, None, None)

    @property
    def security(self) -> Security:
        """As the room `transfer` takes it."""
        return Security(self.ca, self.certificate, self.key)


class Protected(Certified):
    """Certificates, and what proves to a peer who we are.

    Attributes:
        credentials: For DICOMweb, a file with one line: ``Bearer TOKEN``, ``Basic USER:PASSWORD``.
        is_insecure: Whether patients' data may travel in clear text beyond this machine.
    """

    credentials: Path | None = None
    is_insecure: bool = Field(default=False, alias="insecure")

    @property
    def security(self) -> Security:
        """As the room `transfer` takes it."""
        return Security(self.ca, self.certificate, self.key, self.credentials, self.is_insecure)

    def _check_peer(self, text: str) -> WebAddress | AeAddress:
        """Read an address; raise ValueError if data would be unprotected, or something is idle."""
        address = parse_address(text)
        check_encryption(address, self.security)
        if isinstance(address, WebAddress):
            if address.study_uid or address.modality:
                raise ValueError(
                    "address must name the service only, it has a query. Remove what follows the ?."
                )
            authorization_header(address, self.security)
        elif self.credentials is not None:
            raise ValueError("credentials must be for DICOMweb, the address is not. Remove them.")
        return address


class Listener(Certified):
    """Where DICOM peers send to.

    Attributes:
        address: ``HOST:PORT``.
        peers: AE titles that may send.
        associations: Most at once.
        instance_mib: Largest instance, MiB.
        is_insecure: Whether patients' data may come in clear text from beyond this machine.
    """

    address: str = "127.0.0.1:11112"
    peers: tuple[str, ...] = Field(min_length=1)
    associations: int = Field(default=20, ge=1, le=256)
    instance_mib: int = Field(default=2048, ge=1, le=2**20)
    is_insecure: bool = Field(default=False, alias="insecure")

    @property
    def instance_bytes(self) -> int:
        """Largest instance, bytes."""
        return self.instance_mib * 2**20

    @model_validator(mode="after")
    def _check(self) -> "Listener":
        host, _ = parse_host_port(self.address)
        for peer in self.peers:
            check_ae_title(peer, "peer")
        if self.has_files:
            server_context(self.security)
        elif not is_loopback(host) and not self.is_insecure:
            raise ValueError(
                "address must be on this machine where there is no TLS. Give ca, certificate and "
                "key, or say that the network is trusted: insecure = true"
            )
        return self


class Route(Part):
    """What happens to series that come to one AE title; frozen with each case when it is accepted.

    Attributes:
        called: Our AE title.
        destination: Name of where results go.
        bundle: Root of the bundle; the one of this package if None.
        recipe: Its name; one of your own is a table `recipe` in the settings.
        settings: Ids of the bundle's configuration and their values.
        priority: One of `PRIORITIES`.
    """

    called: str
    destination: str
    bundle: Path | None = None
    recipe: str = "clinical"
    settings: dict[str, Any] = Field(default_factory=dict)
    priority: Literal["emergency", "normal", "research"] = "normal"

    @model_validator(mode="after")
    def _check(self) -> "Route":
        check_ae_title(self.called, "called")
        return self


class Destination(Protected):
    """Where results go: C-STORE or STOW-RS, whichever the address says.

    Attributes:
        name: As routes say it.
        address: See `grata_monai.transfer.address`.
        commitment: Whether the archive must commit to keeping what it stored.
        reply: ``HOST:PORT`` to listen on for its report; empty if it comes by the same way.
    """

    name: str
    address: str
    commitment: bool = False
    reply: str = ""

    @model_validator(mode="after")
    def _check(self) -> "Destination":
        address = self._check_peer(self.address)
        if self.reply and not self.commitment:
            raise ValueError(
                "commitment must be true where reply is given. Set it, or remove reply."
            )
        if not self.commitment:
            return self
        if isinstance(address, WebAddress):
            raise ValueError(
                "commitment must be asked by C-STORE, the address is DICOMweb. Use dicoms://"
            )
        check_commitment(address, Commitment(reply=self.reply), self.security)
        return self


class Completeness(Protected):
    """When a series counts as complete.

    Attributes:
        count: Peer that knows how many instances a series has, ``dicomwebs://`` or ``dicoms://``;
            empty where there is none.
        count_seconds: Silence after which it is asked.
        quiet_seconds: Silence after which a series is complete that nobody has counted.
        give_up_seconds: Wait for counted instances that do not come; then the series is refused.
    """

    count: str = ""
    count_seconds: float = Field(default=5, gt=0)
    quiet_seconds: float = Field(default=60, gt=0)
    give_up_seconds: float = Field(default=3600, gt=0)

    @model_validator(mode="after")
    def _check(self) -> "Completeness":
        if self.count:
            self._check_peer(self.count)
        return self

    @property
    def peer(self) -> WebAddress | AeAddress:
        """The address in `count`."""
        return parse_address(self.count)


class Watch(Part):
    """A folder from which DICOM files are taken.

    Attributes:
        folder: Files are moved out of it.
        called: Of the route.
        settle_seconds: How long a file must not have grown.
    """

    folder: Path
    called: str
    settle_seconds: float = Field(default=5, gt=0)


class Pull(Protected):
    """A DICOMweb service that is asked for new series.

    Attributes:
        source: Its address.
        called: Of the route.
        modality: Of series.
        days: How far back studies are looked for; 0 is today.
        every_seconds: Between two questions.
    """

    source: str
    called: str
    modality: str = "MR"
    days: int = Field(default=1, ge=0, le=MOST_DAYS)
    every_seconds: float = Field(default=300, gt=0)

    @model_validator(mode="after")
    def _check(self) -> "Pull":
        if not isinstance(self._check_peer(self.source), WebAddress):
            raise ValueError("source must be a DICOMweb address. Use dicomwebs://")
        return self


class Limits(Part):
    """When to refuse, try again, and give up.

    Attributes:
        free_gib: Free disk below which new work is refused with A700.
        tries: Of segmenting one case, a killed worker's included; then it is quarantined.
        first_seconds: Longest wait before the second try.
        largest_seconds: Longest wait between two tries.
        deliver_days: How long a destination may be down; then the case is quarantined.
        drain_seconds: How long a case may go on after a signal to end.
        stuck_seconds: Age of the oldest open case that is an alarm.
        keep_days: How long DICOM objects of ended cases stay on disk.
    """

    free_gib: float = Field(default=5, ge=0)
    tries: int = Field(default=5, ge=1, le=1000)
    first_seconds: float = Field(default=30, ge=0)
    largest_seconds: float = Field(default=3600, gt=0)
    deliver_days: float = Field(default=7, gt=0, le=MOST_DAYS)
    drain_seconds: float = Field(default=600, ge=0)
    stuck_seconds: float = Field(default=3600, gt=0)
    keep_days: float = Field(default=14, ge=0, le=MOST_DAYS)


class Web(Part):
    """Health, metrics and the page.

    Attributes:
        address: ``HOST:PORT``.
        certificate: PEM file; needed beyond this machine.
        key: Its key.
        client_ca: Whose certificates browsers must have.
        token: A file with the token that a request must bear.
    """

    address: str = "127.0.0.1:8080"
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    token: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> "Web":
        host, _ = parse_host_port(self.address)
        if self.certificate is not None:
            client_context(Security(self.client_ca, self.certificate, self.key))
        elif self.key is not None or self.client_ca is not None:
            raise ValueError("certificate must be given where key or client_ca is. Add it.")
        if self.token is not None and not self.token.is_file():
            raise ValueError("token must be a file, it is none. Correct it.")
        if self.token is not None and len(self.read_token()) < 16:
            raise ValueError("token must have at least 16 characters. Make another.")
        if not is_loopback(host) and not (self.certificate is not None and self.is_closed):
            raise ValueError(
                "address must be on this machine, or have TLS and a token or client certificates. "
                "Give certificate and key, and token or client_ca."
            )
        return self

    @property
    def is_closed(self) -> bool:
        """Whether it lets in only who has a token or a certificate."""
        return self.token is not None or self.client_ca is not None

    def read_token(self) -> str:
        """Read the token; empty where none is asked."""
        content = b"" if self.token is None else self.token.read_bytes().strip()
        if not content.isascii():
            raise ValueError("token must be ASCII. Make another.")
        return content.decode()


class Audit(Certified):
    """The audit log.

    Attributes:
        keep_days: How long it is kept.
        syslog: ``HOST:PORT`` that takes PS3.15 messages by syslog over TLS; empty for none.
    """

    keep_days: int = Field(default=200, ge=1, le=MOST_DAYS)
    syslog: str = ""

    @model_validator(mode="after")
    def _check(self) -> "Audit":
        if self.syslog:
            parse_host_port(self.syslog)
        return self
