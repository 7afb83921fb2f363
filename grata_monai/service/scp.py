"""Listen for C-STORE: known peers only, routed by the AE title that they call."""

import logging
import threading
from typing import Any

from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import ALL_TRANSFER_SYNTAXES, StoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from grata_monai.core.errors import TransferError
from grata_monai.service.config import ServiceConfig
from grata_monai.service.connection import ASKING_SECONDS, IDLE_SECONDS, Connection
from grata_monai.service.intake import Answer, Intake
from grata_monai.transfer.address import parse_host_port
from grata_monai.transfer.association import Entity
from grata_monai.transfer.commitment import ImpatientContext

__all__ = ["Receiver"]

logger = logging.getLogger(__name__)

MOST_ASKING = 256
MOST_ASKING_FROM_ONE = 64
"""Connections, of all and of one address, that have not asked for an association yet."""
PREAMBLE = b"\0" * 128 + b"DICM"
SYNTAXES = [uid for uid in ALL_TRANSFER_SYNTAXES if uid != DeflatedExplicitVRLittleEndian]
STATUSES = {
    Answer.KEPT: 0x0000,
    Answer.FULL: 0xA700,
    Answer.UNREADABLE: 0xC000,
    Answer.OTHER: 0xA900,
    Answer.LATE: 0xC001,
}


class Receiver:
    """A C-STORE SCP that answers when the instance is on the disk.

    Args:
        config: Of the service.
        intake: Takes the instances.

    Raises:
        TransferError: If the address is not free.
    """

    def __init__(self, config: ServiceConfig, intake: Intake) -> None:
        self._config, self._intake = config, intake
        self._rejected, self._lock = 0, threading.Lock()
        listener = config.dicom
        self._entity = entity = Entity(config.routes[0].called)
        entity.require_called_aet = True  # `_route` lets each of our titles pass
        entity.require_calling_aet = list(listener.peers)
        entity.maximum_associations = listener.associations
        entity.acse_timeout = ASKING_SECONDS
        entity.dimse_timeout = entity.network_timeout = IDLE_SECONDS
        for context in StoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), SYNTAXES)
        entity.add_supported_context(Verification)
        tls = None
        if listener.certificate is not None:
            tls = ImpatientContext(listener.security, ASKING_SECONDS)
        try:
            server: Any = entity.start_server(
                parse_host_port(listener.address),
                block=False,
                ssl_context=tls,  # type: ignore[arg-type]
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, self._bound),
                    (evt.EVT_REQUESTED, self._route),
                    (evt.EVT_ACCEPTED, self._allow),
                    (evt.EVT_DIMSE_RECV, self._allow),
                    (evt.EVT_REJECTED, self._count_rejection),
                    (evt.EVT_C_STORE, self._store),
                ],
            )
        except OSError as error:
            raise TransferError(
                "dicom.address must be a free address of this machine, it is not "
                f"({type(error).__name__}). Choose another one, and tell the peers."
            ) from error
        self._server = server
        self._server.verify_request = self._has_room

    def close(self) -> None:
        """Stop listening, and end every association."""
        self._server.shutdown()

    def note_rejections(self) -> None:
        """Say how many peers were rejected since the last call.

        Not one by one, and not what they call themselves: they may come without end, and say
        anything.
        """
        with self._lock:
            count, self._rejected = self._rejected, 0
        if count:
            logger.warning(
                "Associations were rejected: %d, whose AE titles are not those of dicom.peers and "
                "of the routes, or there were dicom.associations already",
                count,
            )
            self._intake.ledger.note("association rejected", {"count": count})

    def _has_room(self, request: Any, address: tuple[Any, ...]) -> bool:
        """Whether a connection may ask; the place of pynetdicom's hook, which lets all pass."""
        hosts = [each.requestor.address for each in self._entity.asking]
        return len(hosts) < MOST_ASKING and hosts.count(address[0]) < MOST_ASKING_FROM_ONE

    def _bound(self, event: Any) -> None:
        """Bound what comes over a connection."""
        event.assoc.connection = Connection(event.assoc)

    def _allow(self, event: Any) -> None:
        """Allow the next message."""
        event.assoc.connection.allow(self._config.dicom.instance_bytes)

    def _route(self, event: Any) -> None:
        """Take on the title that is called, if it is one of ours; pynetdicom refuses others."""
        called = event.assoc.requestor.primitive.called_ae_title.strip()
        if self._config.route(called) is not None:
            event.assoc.acceptor.ae_title = called

    def _count_rejection(self, event: Any) -> None:
        with self._lock:
            self._rejected += 1

    def _store(self, event: Any) -> int:
        """Keep an instance; answer when it is on the disk."""
        route = self._config.route(event.assoc.acceptor.ae_title.strip())
        if route is None or not self._intake.has_room:
            return STATUSES[Answer.FULL]
        try:
            head = PREAMBLE + _encode_meta(event)
            announced = (
                str(event.request.AffectedSOPClassUID),
                str(event.request.AffectedSOPInstanceUID),
            )
        except Exception as error:  # of what the peer says of its instance
            return self._refuse(Answer.UNREADABLE, error)
        try:
            with self._intake.spool.receiving() as path:
                with path.open("wb") as file:
                    file.write(head)
                    file.write(event.request.DataSet.getbuffer())
                answer = self._intake.take(path, route, announced=announced)
        except Exception as error:  # whatever happens, the peer must not believe that it is kept
            return self._refuse(Answer.FULL, error)
        if answer is not Answer.KEPT:
            logger.warning("An instance was refused: %s", answer.value)
        return STATUSES[answer]

    def _refuse(self, answer: Answer, error: Exception) -> int:
        logger.error("An instance could not be kept (%s)", type(error).__name__)
        logger.debug("an instance could not be kept", exc_info=True)
        return STATUSES[answer]


def _encode_meta(event: Any) -> bytes:
    """File meta information of what a message holds."""
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, event.file_meta)
    return buffer.getvalue()
