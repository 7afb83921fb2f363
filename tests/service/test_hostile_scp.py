"""Whatever is sent to the receiver: it is refused, nothing stays or is logged, others go on."""

import logging
import socket
import struct
import threading
import time
import warnings
from io import BytesIO

import pytest
from certificates import make_client_tls
from hospital import PLANTED, free_port, make_series
from hostile_peer import make_data
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dsutils import decode
from pynetdicom.sop_class import MRImageStorage, Verification  # type: ignore[attr-defined]
from receiving import listening
from replay import wait_until

from grata_monai.service import connection, scp
from grata_monai.service.config import read_config
from grata_monai.service.worker import NOISY, note_thread
from grata_monai.transfer.address import parse_host_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60, func_only=True),  # ends a hang; a loaded machine is slow
    pytest.mark.filterwarnings("ignore"),  # as in the service
]

EXPLICIT, IMPLICIT, DEFLATED = (f"1.2.840.10008.1.2{end}" for end in (".1", "", ".1.99"))
MR = str(MRImageStorage)
PRIVATE = "1.3.46.670589.11.0.0.12.1"
STORE, STORE_ANSWER, FIND, ACTION, CANCEL = 0x0001, 0x8001, 0x0020, 0x0130, 0x0FFF
WITH_DATA = 1
SERIES = make_series(0, slices=1)
INSTANCE = SERIES.instances[0]
UID = str(INSTANCE.SOPInstanceUID)


def encode(dataset):
    """A data set's bytes, Explicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


DATA = encode(INSTANCE)


def item(kind, content):
    return struct.pack(">BBH", kind, 0, len(content)) + content


def ask(*, called=b"GRATA", calling=b"SCANNER", kind=MR, syntaxes=(EXPLICIT,), more=b""):
    """An A-ASSOCIATE-RQ with one context."""
    context = item(0x30, kind if isinstance(kind, bytes) else kind.encode()) + b"".join(
        item(0x40, each.encode()) for each in syntaxes
    )
    user = item(0x51, struct.pack(">L", 16382)) + item(0x52, b"1.2.3") + item(0x55, b"X") + more
    names = called.ljust(16)[:16] + calling.ljust(16)[:16]
    body = b"\0\1\0\0" + names + bytes(32) + item(0x10, b"1.2.840.10008.3.1.1.1")
    return pdu(1, body + item(0x20, b"\1\0\0\0" + context) + item(0x50, user))


def pdu(kind, body, length=None):
    return struct.pack(">BBL", kind, 0, len(body) if length is None else length) + body


REQUESTS = {
    "nothing": b"",
    "an unknown called title": ask(called=b"JANE^DOE"),
    "an unknown calling title": ask(calling=b"JANE^DOE"),
    "no called title": ask(called=b""),
    "no calling title": ask(calling=b""),
    "titles that are not ASCII": ask(called=b"GR\xc4TA\xff", calling=b"\xe2\x82\xacJANE"),
    "titles with NUL": ask(called=b"GRATA\0JANE\0", calling=b"SCANNER\0"),
    "a title with a backslash": ask(calling=b"JANE\\SCANNER"),
    "a title that begins like ours": ask(called=b"GRATA JANE"),
    "a kind that is text": ask(kind="JANE^DOE" * 20),
    "a kind that is not ASCII": ask(kind=b"\xff\xfe" * 40),
    "an encoding that is text": ask(syntaxes=["JANE^DOE"]),
    "user information that is cut": ask(more=struct.pack(">BBH", 0x54, 0, 9999)),
    "an identity of 60 kB": ask(more=item(0x58, b"\2\1" + struct.pack(">H", 65535) + b"JANE")),
    "of no length": pdu(1, b""),
    "cut": ask()[:90],
    "that says that it is shorter": pdu(1, ask()[6:], length=80),
    "of 4 GiB": pdu(1, ask()[6:], length=2**32 - 1),
    "of 2 MiB": pdu(1, bytes(2**21)),
    "of nonsense": pdu(1, b"\xff" * 99),
    "an acceptance": pdu(2, ask()[6:]),
    "data first": make_data(1, b"JANE"),
    "a release": pdu(5, bytes(4)),
    "an abortion": pdu(7, bytes(4)),
    "a message of no kind": pdu(9, b"JANE"),
    "HTTP": b"GET /JANE HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(99),
}


TAGS = {
    "AffectedSOPClassUID": 0x0002,
    "CommandField": 0x0100,
    "MessageID": 0x0110,
    "MessageIDBeingRespondedTo": 0x0120,
    "Priority": 0x0700,
    "CommandDataSetType": 0x0800,
    "Status": 0x0900,
    "AffectedSOPInstanceUID": 0x1000,
}


def command(field=STORE, context=1, **changes):
    """A command, byte by byte: pydicom would not write most of these."""
    elements = {
        "AffectedSOPClassUID": MR,
        "AffectedSOPInstanceUID": UID,
        "CommandField": field,
        "MessageID": 1,
        "Priority": 0,
        "CommandDataSetType": WITH_DATA,
    } | changes
    content = b""
    for name, value in elements.items():
        if value is not None:
            packed = struct.pack("<H", value) if isinstance(value, int) else value.encode()
            packed += b"\0" * (len(packed) % 2)
            content += struct.pack("<HHL", 0, TAGS[name], len(packed)) + packed
    return make_data(context, struct.pack("<HHLL", 0, 0, 4, len(content)) + content)


def store(data=DATA, context=1, **changes):
    return command(context=context, **changes) + make_data(context, data, control=2)


def changed(**elements):
    other = INSTANCE.copy()
    with warnings.catch_warnings(action="ignore"):
        for keyword, value in elements.items():
            setattr(other, keyword, value)
    return encode(other)


REPLACED = DATA.replace(UID.encode(), b"../../JANE^DOE".ljust(len(UID), b"x"))
DEEP = 5000 * b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
OTHER, UNREADABLE, CUT = 0xA900, 0xC000, None
STORES = {
    "another instance than announced": (store(AffectedSOPInstanceUID="1.2.3"), OTHER),
    "another kind than announced": (store(changed(SOPClassUID="1.2.840.10008.5.1.4.1.1.2")), OTHER),
    "another kind in the command": (
        store(AffectedSOPClassUID="1.2.840.10008.5.1.4.1.1.2"),
        OTHER,
    ),
    "no announced instance": (store(AffectedSOPInstanceUID=None), CUT),
    "an announced name": (store(AffectedSOPInstanceUID="JANE^DOE"), OTHER),
    "an announced UID of 640 digits": (store(AffectedSOPInstanceUID="1." + "2" * 638), CUT),
    "an instance that is a path": (
        store(REPLACED, AffectedSOPInstanceUID="../../JANE^DOE".ljust(len(UID), "x")),
        UNREADABLE,
    ),
    "a study that is a path": (store(changed(StudyInstanceUID="../../JANE?x=")), UNREADABLE),
    "a series that is a name": (store(changed(SeriesInstanceUID="JANE^DOE")), UNREADABLE),
    "a series of 65 digits": (store(changed(SeriesInstanceUID="1." + "2" * 63)), UNREADABLE),
    "no series": (store(changed(SeriesInstanceUID="")), UNREADABLE),
    "an empty data set": (store(b""), UNREADABLE),
    "no data set": (command(CommandDataSetType=0x0101), UNREADABLE),
    "a letter": (store(b"Dear JANE DOE, " * 99), UNREADABLE),
    "random bytes": (store(bytes(range(256)) * 40), UNREADABLE),
    "implicit VR where explicit was agreed": (
        store(b"\x08\x00\x18\x00\xff\xff\xff\x7fJANE"),
        UNREADABLE,
    ),
    "5,000 sequences in each other": (store(DEEP + DATA), UNREADABLE),
    "half of a data set": (store(DATA[: DATA.index(UID.encode()) + 9]), UNREADABLE),
    "a deflated bomb": (store(b"\xed\xc1\x01\x0d" + bytes(999)), UNREADABLE),
    "a private kind": (store(AffectedSOPClassUID=PRIVATE), CUT),
    "a kind that is a name": (store(AffectedSOPClassUID="JANE^DOE"), CUT),
    "a service instead": (store(AffectedSOPClassUID="1.2.840.10008.1.20.1"), CUT),
    "an answer": (command(STORE_ANSWER, CommandDataSetType=0x0101, Status=0), CUT),
    "a search": (store(CommandField=FIND), CUT),
    "an action": (store(CommandField=ACTION), CUT),
    "a command of no kind": (store(CommandField=0x7777), CUT),
    "a command of nonsense": (make_data(1, b"JANE" * 99), CUT),
    "a context that was not agreed": (store(context=7), CUT),
    "data before its command": (make_data(1, DATA, control=2), CUT),
    "a part of a message longer than the message": (
        pdu(4, struct.pack(">LBB", 9999, 1, 3) + b"JANE"),
        CUT,
    ),
    "a part of no length": (pdu(4, struct.pack(">L", 0)), CUT),
    "a message without a part": (pdu(4, b""), CUT),
    "a message of 4 GiB": (pdu(4, b"JANE", length=2**32 - 1), CUT),
    "another request": (ask(), CUT),
    "an instance above its limit": (command() + 20 * make_data(1, bytes(2**16), control=0), CUT),
}
"""Name to what is sent over an association, and the status of the answer; without one it ends."""


@pytest.fixture(scope="module")
def intake(tmp_path_factory):
    """The intake of a receiver that has seen everything before."""
    folder = tmp_path_factory.mktemp("service")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scp, "ASKING_SECONDS", 3.0)
        patch.setattr(threading, "excepthook", note_thread)  # as in the service
        levels = {name: logging.getLogger(name).level for name in NOISY}
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield from start(folder)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def start(folder, dicom=""):
    (folder / "service.toml").write_text(
        f'folder = "service"\nnode = "here"\n[dicom]\npeers = ["SCANNER"]\nassociations = 3\n'
        f'address = "127.0.0.1:{free_port()}"\ninstance_mib = 1\n{dicom}\n'
        '[[routes]]\ncalled = "GRATA"\ndestination = "archive"\n'
        '[[destinations]]\nname = "archive"\naddress = "dicom://ARCHIVE@127.0.0.1:104"\n'
        "[limits]\nfree_gib = 0\n"
    )
    config = read_config(folder / "service.toml")
    with listening(config) as (_, intake):
        yield intake


def connect(intake):
    found = socket.create_connection(parse_host_port(intake.config.dicom.address), timeout=30)
    return found


def read(wire):
    """One message of the receiver; empty at its end."""
    try:
        head = wire.recv(6, socket.MSG_WAITALL)
        (length,) = struct.unpack(">L", head[2:])
        return head + wire.recv(length, socket.MSG_WAITALL)
    except (OSError, struct.error):  # it closed what still had bytes to read
        return b""


def read_status(answer):
    if answer[:1] != b"\4":
        return CUT
    return int(decode(BytesIO(answer[12:]), True, True).Status)


def can_store(intake, tls=None):
    """Whether a scanner that behaves is served."""
    host, port = parse_host_port(intake.config.dicom.address)
    scanner = AE("SCANNER")
    scanner.acse_timeout = scanner.dimse_timeout = 30
    scanner.add_requested_context(Verification)
    found = scanner.associate(
        host, port, ae_title="GRATA", tls_args=None if tls is None else (tls, host)
    )
    if not found.is_established:
        return False
    answer = found.send_c_echo()
    found.release()
    return "Status" in answer


def assert_nothing_stays(intake, caplog, capfd):
    heard = caplog.text + "".join(capfd.readouterr())
    assert "JANE" not in heard
    assert PLANTED not in heard
    assert intake.ledger.find() == []
    assert list(intake.spool.incoming.iterdir()) == []


@pytest.mark.parametrize("name", REQUESTS)
def test_an_association_asked_for_by(name, intake, caplog, capfd):
    with connect(intake) as wire:
        wire.sendall(REQUESTS[name])
        wire.shutdown(socket.SHUT_WR)
        assert read(wire)[:1] in (b"", b"\3", b"\7")
    assert can_store(intake)
    assert_nothing_stays(intake, caplog, capfd)


@pytest.mark.parametrize("name", STORES)
def test_a_message_with(name, intake, caplog, capfd):
    content, status = STORES[name]
    with connect(intake) as wire:
        wire.sendall(ask())
        assert read(wire)[:1] == b"\2"
        try:
            wire.sendall(content)
        except OSError:
            assert status is CUT
        if status is CUT:
            wire.shutdown(socket.SHUT_WR)
        assert read_status(read(wire)) == status
    assert can_store(intake)
    assert_nothing_stays(intake, caplog, capfd)


def test_what_is_tried_is_no_less_than_it_was():
    assert len(REQUESTS) + len(STORES) >= 60


@pytest.mark.parametrize("syntax", [DEFLATED, "1.2.840.10008.1.2.4.999"])
def test_an_encoding_that_nobody_should_inflate_is_not_agreed(intake, syntax):
    with connect(intake) as wire:
        wire.sendall(ask(syntaxes=[syntax]))
        answer = read(wire)
    assert answer[:1] == b"\2"
    assert answer[answer.index(b"\x21\0") + 6] == 4  # transfer syntaxes not supported


# ------------------------------------------------------------------------- who says nothing


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """A receiver that waits a second and a half for a request, and as long for a message."""
    for name in ("ASKING_SECONDS", "IDLE_SECONDS"):
        monkeypatch.setattr(connection, name, 1.5)
        monkeypatch.setattr(scp, name, 1.5)
    yield from start(tmp_path)


def is_cut(wire):
    """Whether the other side has closed; waits for it."""
    try:
        return wire.recv(1) == b""
    except ConnectionError:
        return True


def test_connections_that_ask_for_nothing_take_no_place(quick):
    wires = [connect(quick) for _ in range(9)]  # there are three places
    assert can_store(quick)
    assert all(map(is_cut, wires))
    for wire in wires:
        wire.close()


def is_cut_within(wire, content):
    """Send byte by byte; whether the other side had enough before the end."""
    for byte in content:
        try:
            wire.sendall(bytes([byte]))
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_a_request_byte_by_byte_is_cut_off(quick):
    with connect(quick) as wire:
        assert is_cut_within(wire, ask())


def test_a_message_byte_by_byte_is_cut_off(quick):
    with connect(quick) as wire:
        wire.sendall(ask())
        assert read(wire)[:1] == b"\2"
        assert is_cut_within(wire, store()[:200])
    assert quick.ledger.find() == []


def test_one_address_does_not_take_every_place(quick, monkeypatch):
    monkeypatch.setattr(scp, "MOST_ASKING_FROM_ONE", 2)
    first = [connect(quick) for _ in range(2)]
    assert wait_until(lambda: len(list_asking()) == 2, 30)
    with connect(quick) as another:
        assert is_cut(another)
    for wire in first:
        wire.close()
    assert wait_until(lambda: not list_asking(), 30)
    assert can_store(quick)


def list_asking():
    """Threads of connections that have not asked for an association."""
    return [
        each
        for each in threading.enumerate()
        if isinstance(each, Association) and each.requestor.primitive is None
    ]


def test_who_connects_and_does_not_shake_hands_keeps_nobody_out(tmp_path, certificates):
    files = {"ca": "ca.pem", "certificate": "server.pem", "key": "server.key"}
    lines = "\n".join(f'{key} = "{certificates / name}"' for key, name in files.items())
    for intake in start(tmp_path, lines):
        silent = [connect(intake) for _ in range(5)]
        silent[0].sendall(b"\x16\x03\x01\x02")  # a handshake that does not go on
        assert can_store(intake, tls=make_client_tls(certificates, "client"))
        for wire in silent:
            wire.close()
