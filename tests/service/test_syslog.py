"""Audit messages of PS3.15: well-formed, without identifiers; they wait while nobody takes them."""

from xml.etree import ElementTree

import pytest
from hospital import free_port

from grata_monai.service.parts import Audit
from grata_monai.service.syslog import Syslog, make_message

EVENT = {"time": 1_800_000_000.0, "event": "end", "end": "delivered", "key": "a1", "edition": 1}


@pytest.mark.parametrize(
    ("event", "code", "outcome"),
    [
        (EVENT, "110104", "0"),
        ({**EVENT, "end": "quarantined"}, "110104", "4"),
        ({"time": 0.0, "event": "started"}, "110100", "0"),
        ({"time": 0.0, "event": "association rejected"}, "110113", "4"),
        ({"time": 0.0, "event": "pause"}, "110103", "0"),
    ],
)
def test_an_event_is_a_message_of_the_standard(event, code, outcome):
    head, _, body = make_message(event).decode().partition("\ufeff")
    assert head.startswith("<85>1 ")
    assert head.endswith(" grata_monai - DICOM+RFC3881 - ")
    message = ElementTree.fromstring(body)
    identification = message.find("EventIdentification")
    assert identification.attrib["EventOutcomeIndicator"] == outcome
    assert identification.find("EventID").attrib["csd-code"] == code
    things = [t.get("ParticipantObjectID") for t in message.iter("ParticipantObjectIdentification")]
    assert things == (["a1"] if "key" in event else [])


def test_messages_wait_for_a_server_that_is_down():
    syslog = Syslog(Audit(syslog=f"127.0.0.1:{free_port()}"))
    syslog.send([EVENT])
    syslog.send([EVENT])
    assert len(syslog._waiting) == 2
