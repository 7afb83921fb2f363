"""Open an association with a DICOM peer, or say why it cannot be opened and whether that passes."""

import socket
import ssl
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from grata_monai.core.errors import TransferError
from grata_monai.transfer.address import AeAddress
from grata_monai.transfer.clock import Clock
from grata_monai.transfer.retry import Retry, TransientError
from grata_monai.transfer.security import Security, client_context

__all__ = [
    "Entity",
    "NothingAcceptedError",
    "abort_at_nonsense",
    "associated",
    "guard_connection",
]

IDLE_SECONDS = 600.0  # between two messages of ours: a large instance may be decompressed meanwhile
SMALLEST_PDU = 1024  # bytes; below, one instance would become a million messages in memory
INVALID_DATA = "Evt19"  # of pynetdicom's state machine; it aborts then
PEER_BYTES = 64 * 2**20  # that a peer may send in one association: statuses and reports
ALERT_SECONDS = 1.0  # for a TLS peer to say, after the handshake, that it refuses our certificate

REJECTED_TRANSIENT = 2  # DICOM PS3.8, table 9-21
PRESENTATION_SERVICE = 3  # its reasons, congestion and local limit, pass
_REASONS = {
    (1, 2): "Ask its administrator whether it speaks DICOM's application context.",
    (1, 3): "It does not know our AE title: register it there, or set calling=TITLE.",
    (1, 7): "It has another AE title: correct the one in front of @.",
    (2, 2): "It does not speak this version of the protocol.",
}


class NothingAcceptedError(TransferError):
    """The peer takes none of the kinds of objects or services that were proposed."""


class Entity(AE):
    """An application entity that listens, of which only who asks for an association takes a place.

    pynetdicom also counts those that have connected and say nothing: some of them would keep
    everybody else out.
    """

    @property
    def active_associations(self) -> list[Association]:
        """Those that were asked for; pynetdicom holds their number to its limit."""
        return [each for each in super().active_associations if _has_asked(each)]

    @property
    def asking(self) -> list[Association]:
        """Connections that have not asked for one yet."""
        return [each for each in super().active_associations if not _has_asked(each)]


def _has_asked(association: Association) -> bool:
    return association.requestor.primitive is not None


def guard_connection(event: Any, clock: Clock) -> None:
    """Bound time and bytes of a connection that has just opened, and end it at nonsense.

    pynetdicom itself would wait for ever within a message, would keep 4 GiB of one, and its thread
    would die of one that it cannot read.

    Args:
        event: pynetdicom's `EVT_CONN_OPEN`.
        clock: Cuts the connection when time is over.
    """
    transport = event.assoc.dul.socket
    clock.watch(transport.socket)
    receive, left = transport.recv, PEER_BYTES

    def receive_bounded(size: int) -> bytearray:
        nonlocal left
        left -= size
        if left < 0:
            raise OSError("the peer sends too much")
        return receive(size)  # type: ignore[no-any-return]

    transport.recv = receive_bounded
    abort_at_nonsense(event.assoc)


def abort_at_nonsense(association: Any) -> None:
    """Let pynetdicom abort where a peer's message cannot be read, instead of its thread's death.

    Args:
        association: pynetdicom's, whose connection has just opened.
    """
    machine, events = association.dul.state_machine, association.dul.event_queue
    act = machine.do_action

    def act_or_abort(name: str) -> None:
        try:
            act(name)
        except Exception:
            if name == INVALID_DATA:
                raise
            events.put(INVALID_DATA)

    machine.do_action = act_or_abort


@contextmanager
def associated(
    address: AeAddress,
    contexts: Sequence[PresentationContext],
    *,
    security: Security,
    retry: Retry,
    handlers: Sequence[Any] = (),
) -> Generator[tuple[Association, Clock], None, None]:
    """Open an association, and release it when the block ends.

    Args:
        address: The peer, and our AE title.
        contexts: What to propose.
        security: For TLS.
        retry: Says how long to wait for an answer; trying again is left to the caller.
        handlers: pynetdicom's event handlers.

    Yields:
        The established association, and the clock that every question must be asked under.

    Raises:
        TransientError: If the peer does not answer or has no room now.
        NothingAcceptedError: If it accepts no context.
        TransferError: If it rejects us for good, or TLS fails.
    """
    clock = Clock(retry.answer_seconds)
    bound = [*handlers, (evt.EVT_CONN_OPEN, guard_connection, [clock])]
    question = "answer the request for an association"
    try:
        with clock.running(question, connect_seconds=retry.connect_seconds):
            association = _request(
                address, contexts, security=security, retry=retry, handlers=bound
            )
        if not association.is_established:
            raise _explain(association, address, security, retry)
        try:
            _check_pdu_size(association)
            yield association, clock
        finally:
            with suppress(TransientError), clock.running("release the association"):
                association.release()
    finally:
        clock.close()


def _check_pdu_size(association: Association) -> None:
    size = association.acceptor.maximum_length
    if size is not None and 0 < size < SMALLEST_PDU:
        raise TransferError(
            f"peer must take messages of at least {SMALLEST_PDU} bytes, it takes {size}. "
            "Raise its maximum PDU length."
        )


def _request(
    address: AeAddress,
    contexts: Sequence[PresentationContext],
    *,
    security: Security,
    retry: Retry,
    handlers: Sequence[Any],
) -> Association:
    entity = AE(ae_title=address.calling)
    entity.connection_timeout = retry.connect_seconds
    entity.acse_timeout = entity.dimse_timeout = retry.answer_seconds
    entity.network_timeout = IDLE_SECONDS
    tls = (client_context(security), address.host) if address.is_encrypted else None
    try:
        return entity.associate(
            address.host,
            address.port,
            contexts=list(contexts),
            ae_title=address.called,
            tls_args=tls,
            evt_handlers=list(handlers),
        )
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise TransientError(
                "peer's host must have an address, the name server fails."
            ) from error
        raise TransferError(
            "peer's host must have an address, the name server knows none. Correct the name."
        ) from error


def _explain(
    association: Association, address: AeAddress, security: Security, retry: Retry
) -> TransferError:
    """Say why there is no association."""
    if association.is_rejected:
        return _explain_rejection(association)
    if association.rejected_contexts and not association.accepted_contexts:
        return NothingAcceptedError(
            "peer must take what is offered, it takes none of these kinds of objects. "
            "Configure it for them, or send another kind."
        )
    return _probe(address, security, retry)


def _explain_rejection(association: Association) -> TransferError:
    answer: Any = association.acceptor.primitive
    result, source, reason = answer.result, answer.result_source, answer.diagnostic
    message = f"peer must accept the association, it rejects it ({result}/{source}/{reason})."
    if result == REJECTED_TRANSIENT or source == PRESENTATION_SERVICE:
        return TransientError(message)
    return TransferError(f"{message} {_REASONS.get((source, reason), 'Look into its log.')}")


def _probe(address: AeAddress, security: Security, retry: Retry) -> TransferError:
    """Connect once more, without DICOM: pynetdicom does not tell a closed port from failed TLS."""
    try:
        with socket.create_connection(
            (address.host, address.port), timeout=retry.connect_seconds
        ) as plain:
            if address.is_encrypted:
                _probe_tls(plain, address, security)
    except ssl.SSLError as error:
        return TransferError(
            "peer must have a certificate that we trust, for the host of the address, and take "
            f"ours if it wants one; OpenSSL says {error.reason or type(error).__name__}. "
            "Check ca, certificate, key and host name, and whether it speaks TLS."
        )
    except OSError as error:
        return TransientError(f"peer must listen, it cannot be reached ({type(error).__name__}).")
    hint = "" if address.is_encrypted else " Check whether it wants TLS (dicoms://)."
    return TransientError(f"peer must answer the request for an association, it does not.{hint}")


def _probe_tls(plain: socket.socket, address: AeAddress, security: Security) -> None:
    with client_context(security).wrap_socket(plain, server_hostname=address.host) as secured:
        secured.settimeout(ALERT_SECONDS)
        try:
            secured.recv(1)  # TLS 1.3: a refused certificate shows only now
        except TimeoutError:
            return  # it waits for us to speak, as it should
