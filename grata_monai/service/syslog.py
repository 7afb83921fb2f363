"""Send audit messages of DICOM PS3.15 (A.5) to a syslog server over TLS (RFC 5425)."""

import logging
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

from grata_monai.service.parts import Audit
from grata_monai.transfer.address import parse_host_port
from grata_monai.transfer.security import client_context

__all__ = ["Syslog", "make_message"]

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
MOST_WAITING = 10_000
PRIORITY = 85  # facility 10, security; severity 5, notice
STARTED, STOPPED = "110120", "110121"
ACTIVITY, TRANSFERRED, IN_USE = "110100", "110104", "110103"
ALERT = "110113"
_MEANINGS = {
    ACTIVITY: "Application Activity",
    TRANSFERRED: "DICOM Instances Transferred",
    IN_USE: "DICOM Instances Accessed",
    ALERT: "Security Alert",
}
_EVENTS = {
    "started": ACTIVITY,
    "stopped": ACTIVITY,
    "complete": TRANSFERRED,
    "end": TRANSFERRED,
    "association rejected": ALERT,
}
"""Our events to theirs; all others are an access."""


class Syslog:
    """Sends each event; what the server does not take now is sent with the next one.

    Args:
        audit: Where to; nowhere if it says none.
    """

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._waiting: list[bytes] = []

    def send(self, events: Sequence[dict[str, Any]]) -> None:
        """Send events, and those that wait; never raises."""
        if not self._audit.syslog:
            return
        self._waiting += [make_message(event) for event in events]
        address = parse_host_port(self._audit.syslog)
        try:
            with (
                socket.create_connection(address, timeout=CONNECT_SECONDS) as plain,
                client_context(self._audit.security).wrap_socket(
                    plain, server_hostname=address[0]
                ) as secured,
            ):
                secured.sendall(b"".join(b"%d %s" % (len(m), m) for m in self._waiting))
        except (OSError, ValueError) as error:
            self._waiting = self._waiting[-MOST_WAITING:]
            logger.warning("Audit messages wait for the syslog server (%s)", type(error).__name__)
        else:
            self._waiting = []


def make_message(event: dict[str, Any]) -> bytes:
    """Make one syslog message (RFC 5424) of an event.

    Args:
        event: Of the audit log; holds no identifier.

    Returns:
        The message, without the count of its bytes.
    """
    time = datetime.fromtimestamp(event["time"], UTC).isoformat(timespec="milliseconds")
    code = _EVENTS.get(event["event"], IN_USE)
    message = ElementTree.Element("AuditMessage")
    is_bad = event["event"] == "association rejected" or event.get("end") == "quarantined"
    identification = ElementTree.SubElement(
        message,
        "EventIdentification",
        EventActionCode="E",
        EventDateTime=time,
        EventOutcomeIndicator="4" if is_bad else "0",
    )
    name = _MEANINGS[code]
    _code(identification, "EventID", code, name)
    if code == ACTIVITY:
        kind = STARTED if event["event"] == "started" else STOPPED
        _code(identification, "EventTypeCode", kind, f"Application {event['event']}")
    host = socket.gethostname()
    ElementTree.SubElement(
        message, "ActiveParticipant", UserID="grata_monai", UserIsRequestor="true"
    )
    source = ElementTree.SubElement(message, "AuditSourceIdentification", AuditSourceID=host)
    ElementTree.SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})
    if "key" in event:
        thing = ElementTree.SubElement(
            message,
            "ParticipantObjectIdentification",
            ParticipantObjectID=event["key"],
            ParticipantObjectTypeCode="2",
        )
        _code(
            thing, "ParticipantObjectIDTypeCode", "hash", "Hash of a series", system="grata_monai"
        )
        ElementTree.SubElement(thing, "ParticipantObjectDetail", type="event", value=event["event"])
    body = ElementTree.tostring(message, encoding="unicode")
    return f"<{PRIORITY}>1 {time} {host} grata_monai - DICOM+RFC3881 - \ufeff{body}".encode()


def _code(
    parent: ElementTree.Element, tag: str, code: str, name: str, *, system: str = "DCM"
) -> None:
    attributes = {"csd-code": code, "codeSystemName": system, "originalText": name}
    ElementTree.SubElement(parent, tag, attributes)
