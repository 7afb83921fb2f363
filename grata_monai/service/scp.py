"""Listen for C-STORE: known peers only, routed by the AE title that they call."""

import logging
from collections.abc import Callable
from typing import Any

from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, StoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from grata_monai.core.errors import TransferError
from grata_monai.service.config import ServiceConfig
from grata_monai.service.intake import Answer, Intake
from grata_monai.transfer.address import parse_host_port
from grata_monai.transfer.commitment import ImpatientContext

__all__ = ["Receiver"]

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 20.0
ASKING_SECONDS = 10.0  # who connects and asks for nothing, as probes do, holds a place so long
IDLE_SECONDS = 120.0
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
        listener = config.dicom
        entity = AE(config.routes[0].called)
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
            tls = ImpatientContext(listener.security, HANDSHAKE_SECONDS)
        try:
            self._server: Any = entity.start_server(
                parse_host_port(listener.address),
                block=False,
                ssl_context=tls,  # type: ignore[arg-type]
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, self._bound),
                    (evt.EVT_REQUESTED, self._route),
                    (evt.EVT_REJECTED, self._note_rejection),
                    (evt.EVT_C_STORE, self._store),
                ],
            )
        except OSError as error:
            raise TransferError(
                "dicom.address must be a free address of this machine, it is not "
                f"({type(error).__name__}). Choose another one, and tell the peers."
            ) from error

    def close(self) -> None:
        """Stop listening, and end every association."""
        self._server.shutdown()

    def _bound(self, event: Any) -> None:
        """Bound the bytes of one message: pynetdicom keeps it in memory."""
        transport, most = event.assoc.dul.socket, self._config.dicom.instance_bytes
        receive: Callable[[int], bytearray] = transport.recv
        event.assoc.left = most

        def receive_bounded(size: int) -> bytearray:
            event.assoc.left -= size
            if event.assoc.left < 0:
                transport.close()
                raise OSError("the peer sends too much")
            return receive(size)

        transport.recv = receive_bounded

    def _route(self, event: Any) -> None:
        """Take on the title that is called, if it is one of ours; pynetdicom refuses others."""
        called = event.assoc.requestor.primitive.called_ae_title.strip()
        if self._config.route(called) is not None:
            event.assoc.acceptor.ae_title = called

    def _note_rejection(self, event: Any) -> None:
        """Say that a peer was rejected, but not what it calls itself: it may say anything."""
        logger.warning(
            "An association was rejected: its AE titles are not those of dicom.peers and of the "
            "routes, or there are dicom.associations already"
        )
        self._intake.ledger.note("association rejected")

    def _store(self, event: Any) -> int:
        """Keep an instance; answer when it is on the disk."""
        event.assoc.left = self._config.dicom.instance_bytes
        route = self._config.route(event.assoc.acceptor.ae_title.strip())
        if route is None or not self._intake.has_room:
            return STATUSES[Answer.FULL]
        try:
            with self._intake.spool.receiving() as path:
                with path.open("wb") as file:
                    file.write(PREAMBLE)
                    file.write(_encode_meta(event))
                    file.write(event.request.DataSet.getbuffer())
                uid = str(event.request.AffectedSOPInstanceUID)
                answer = self._intake.take(path, route, instance_uid=uid)
        except Exception as error:  # whatever happens, the peer must not believe that it is kept
            logger.error("An instance could not be kept (%s)", type(error).__name__)
            logger.debug("an instance could not be kept", exc_info=True)
            return STATUSES[Answer.FULL]
        if answer is not Answer.KEPT:
            logger.warning("An instance was refused: %s", answer.value)
        return STATUSES[answer]


def _encode_meta(event: Any) -> bytes:
    """File meta information of what a message holds."""
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, event.file_meta)
    return buffer.getvalue()
