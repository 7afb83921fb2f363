"""Storage commitment: ask a peer to answer for the safe keeping of what it got (PS3.4, annex J).

The peer reports on the association that asked, or on a new one that it opens to us. For the latter
we listen, on one address that the caller names, for this peer's and our AE title only, and only
until the report is there or the time is over.
"""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID, generate_uid
from pynetdicom import build_context, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from grata_monai.core.errors import TransferError
from grata_monai.transfer.address import AeAddress, is_loopback, parse_host_port
from grata_monai.transfer.association import (
    Entity,
    NothingAcceptedError,
    associated,
    guard_connection,
)
from grata_monai.transfer.clock import Clock
from grata_monai.transfer.retry import Retry
from grata_monai.transfer.security import Security, server_context
from grata_monai.transfer.store import Instance

__all__ = [
    "COMMITMENT_STATES",
    "Commitment",
    "ImpatientContext",
    "check_commitment",
    "request_commitment",
]

logger = logging.getLogger(__name__)

COMMITMENT_STATES = ("not asked", "not offered", "committed", "failed")

REQUEST = 1  # the only action type
ALL_KEPT = 1  # event types
SOME_FAILED = 2
SUCCESS = 0x0000
INVALID_ARGUMENT = 0x0115
POLL_SECONDS = 0.02
MOST_ASSOCIATIONS = 2


@dataclass(frozen=True)
class Commitment:
    """How to wait for a peer's commitment; checked when built.

    Attributes:
        reply: ``HOST:PORT`` to listen on, for a peer that reports on an association of its own and
            knows this address by our AE title. Empty: nothing listens.
        seconds: How long to wait for the report.

    Raises:
        ValueError: If an attribute breaks its rule.
    """

    reply: str = ""
    seconds: int | float = 60.0

    def __post_init__(self) -> None:
        if self.reply:
            parse_host_port(self.reply)
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds must be finite and above 0, got {self.seconds}. Correct it.")


@dataclass
class _Report:
    """What the peer says about one transaction; filled by pynetdicom's threads."""

    transaction: UID
    wanted: frozenset[tuple[str, str]]  # kind and instance
    done: threading.Event = field(default_factory=threading.Event)
    state: str = "failed"
    note: str = ""

    def take(self, event: Any) -> tuple[int, Dataset | None]:
        """Handle an N-EVENT-REPORT; one that is not about our transaction is refused."""
        try:
            content = event.event_information
            if content.TransactionUID != self.transaction or self.done.is_set():
                return INVALID_ARGUMENT, None
            kept = {
                (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
                for item in _items(content, "Referenced")
            }
            failed = [int(item.FailureReason) for item in _items(content, "Failed")]
            kind = int(event.event_type)
        except Exception:  # whatever a peer may send must not end the listening thread
            return INVALID_ARGUMENT, None
        if kind == ALL_KEPT and not failed and kept >= self.wanted:
            self.state = "committed"
        elif failed:
            reasons = ", ".join(sorted({f"{code:04X}" for code in failed}))
            self.note = f"{len(failed)} of {len(self.wanted)} are not kept, reasons {reasons}"
        elif self.wanted - kept:
            missing = len(self.wanted - kept)
            self.note = f"the report does not name {missing} of {len(self.wanted)}"
        else:
            self.note = "the report says that some failed, and names none"
        self.done.set()
        return SUCCESS, None


def check_commitment(destination: AeAddress, commitment: Commitment, security: Security) -> None:
    """Raise ValueError, before anything is sent, if the reply would come unprotected."""
    if not commitment.reply:
        return
    host, _ = parse_host_port(commitment.reply)
    if destination.is_encrypted:
        server_context(security)
    elif not is_loopback(host) and not security.is_insecure:
        raise ValueError(
            "reply must be encrypted or on this machine, it is neither. Use dicoms://, or say "
            "that the network is trusted: --insecure, or is_insecure in `security`."
        )


def request_commitment(
    instances: Sequence[Instance],
    destination: AeAddress,
    *,
    security: Security,
    retry: Retry,
    commitment: Commitment,
) -> tuple[str, str]:
    """Ask for commitment, and wait for the report.

    Args:
        instances: That have been stored.
        destination: The peer.
        security: For TLS, in both directions.
        retry: For the request.
        commitment: Where and how long to wait.

    Returns:
        One of `COMMITMENT_STATES`, and why it failed or nothing. Never raises for what a peer does:
        the instances are stored, whatever it says about keeping them.
    """
    wanted = frozenset((str(each.sop_class), str(each.sop_instance)) for each in instances)
    report = _Report(generate_uid(prefix=None), wanted)
    try:
        with _listening(report, destination, security=security, retry=retry, wait=commitment):
            retry.run(
                lambda: _ask(
                    report, instances, destination, security=security, retry=retry, wait=commitment
                )
            )
    except NothingAcceptedError:
        return "not offered", ""
    except TransferError as error:
        report.note = report.note or str(error)
    if report.state != "committed":
        logger.warning("Storage commitment failed: %s", report.note)
    return report.state, report.note


def _ask(
    report: _Report,
    instances: Sequence[Instance],
    destination: AeAddress,
    *,
    security: Security,
    retry: Retry,
    wait: Commitment,
) -> None:
    handlers = [(evt.EVT_N_EVENT_REPORT, report.take)]
    contexts = [build_context(StorageCommitmentPushModel)]
    status = None
    with associated(destination, contexts, security=security, retry=retry, handlers=handlers) as (
        association,
        clock,
    ):
        with clock.running("take the request for commitment"), suppress(RuntimeError):
            answer, _ = association.send_n_action(
                _request(report, instances),
                REQUEST,
                StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            )
            status = answer.get("Status")
        if status != SUCCESS:
            code = "no status" if status is None else f"status {int(status):04X}"
            raise TransferError(f"peer must take the request for commitment, it answers {code}.")
        end = time.monotonic() + wait.seconds
        while not report.done.wait(POLL_SECONDS):
            if time.monotonic() > end:
                report.note = f"no report within {wait.seconds:g} s"
                return
            if not association.is_established and not wait.reply:
                report.note = "the peer closed the association without a report"
                return


def _request(report: _Report, instances: Sequence[Instance]) -> Dataset:
    content = Dataset()
    content.TransactionUID = report.transaction
    content.ReferencedSOPSequence = []
    for instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID = instance.sop_class
        item.ReferencedSOPInstanceUID = instance.sop_instance
        content.ReferencedSOPSequence.append(item)
    return content


@contextmanager
def _listening(
    report: _Report,
    destination: AeAddress,
    *,
    security: Security,
    retry: Retry,
    wait: Commitment,
) -> Generator[None, None, None]:
    """Listen for the report where the caller said so, for this peer only."""
    if not wait.reply:
        yield
        return
    entity = Entity(ae_title=destination.calling)
    entity.require_called_aet = True
    entity.require_calling_aet = [destination.called]
    entity.maximum_associations = MOST_ASSOCIATIONS
    entity.acse_timeout = entity.dimse_timeout = retry.answer_seconds
    clock = Clock(retry.answer_seconds)
    # in a report's association the requestor is the provider, so roles are turned round
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    entity.add_supported_context(Verification)  # PS3.2, 7.1, asks it of an acceptor
    tls = ImpatientContext(security, retry.answer_seconds) if destination.is_encrypted else None
    try:
        server = entity.start_server(
            parse_host_port(wait.reply),
            block=False,
            ssl_context=tls,  # type: ignore[arg-type]
            evt_handlers=[
                (evt.EVT_N_EVENT_REPORT, report.take),
                (evt.EVT_CONN_OPEN, guard_connection, [clock]),
            ],
        )
    except OSError as error:
        raise TransferError(
            f"reply must be a free address of this machine, it is not ({type(error).__name__}). "
            "Choose another one, and tell the peer."
        ) from error
    try:
        yield
    finally:
        clock.close()  # whoever called and says nothing would keep a thread for ever
        if server is not None:
            server.shutdown()


class ImpatientContext:
    """TLS settings for pynetdicom's server, whose one thread must not wait for a handshake.

    Who connects and says nothing would keep everybody else out: hands are shaken when the thread of
    the connection first reads.

    Args:
        security: Our certificate, and whose certificates peers must have.
        seconds: For a handshake, and for whatever else is waited for.
    """

    def __init__(self, security: Security, seconds: int | float) -> None:
        self._context, self._seconds = server_context(security), seconds

    def wrap_socket(self, connection: socket.socket, *, server_side: bool) -> ssl.SSLSocket:
        """Prepare a connection, without a word to the peer."""
        connection.settimeout(self._seconds)
        return self._context.wrap_socket(
            connection, server_side=server_side, do_handshake_on_connect=False
        )


def _items(content: Dataset, kind: str) -> list[Dataset]:
    return list(content.get(f"{kind}SOPSequence") or [])
