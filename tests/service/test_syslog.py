"""Audit messages of PS3.15: well-formed, without identifiers; they wait while nobody takes them."""

import socketserver
import threading
from contextlib import contextmanager
from xml.etree import ElementTree

import pytest
from certificates import make_server_tls
from hospital import free_port
from replay import wait_until

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


@contextmanager
def listening(port, context):
    """A syslog server over TLS; yields what it has got, by connection."""
    got = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            with context.wrap_socket(self.request, server_side=True) as secured:
                parts = iter(lambda: secured.recv(4096), b"")
                got.append(b"".join(parts))

    class Server(socketserver.TCPServer):
        allow_reuse_address = True

        def handle_error(self, request, client_address):
            got.append(b"")  # a handshake that failed

    with Server(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield got
        server.shutdown()
        thread.join()


def read_frames(content):
    """Messages of RFC 5425: a count of bytes, a space, the message."""
    found = []
    while content:
        count, _, content = content.partition(b" ")
        found.append(content[: int(count)])
        content = content[int(count) :]
    return found


def test_a_real_server_gets_each_message_once_over_tls(certificates):
    port = free_port()
    ours = {"certificate": certificates / "client.pem", "key": certificates / "client.key"}
    syslog = Syslog(Audit(syslog=f"127.0.0.1:{port}", ca=certificates / "ca.pem", **ours))
    later = {**EVENT, "key": "b2"}
    syslog.send([EVENT])  # nobody listens
    with listening(port, make_server_tls(certificates, is_mutual=True)) as got:
        syslog.send([later])
        syslog.send([EVENT])
        assert wait_until(lambda: len(got) == 2, 60)
    assert [read_frames(content) for content in got] == [
        [make_message(EVENT), make_message(later)],
        [make_message(EVENT)],
    ]


def test_a_server_that_nobody_vouches_for_gets_nothing(certificates):
    port = free_port()
    syslog = Syslog(Audit(syslog=f"127.0.0.1:{port}", ca=certificates / "stranger.pem"))
    with listening(port, make_server_tls(certificates)) as got:
        syslog.send([EVENT])
        assert wait_until(lambda: len(got) == 1, 60)
    assert got == [b""]
    assert len(syslog._waiting) == 1
