"""Whatever a DICOM peer says: a named failure, or a success instance by instance, in time."""

import socket
import struct
import threading
import time

import pydicom
import pytest
from hostile_peer import C_ECHO_ANSWER, C_STORE_ANSWER, hostile_peer, make_answer, make_data
from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from grata_monai.core.errors import DicomError, TransferError
from grata_monai.transfer import store
from grata_monai.transfer.commitment import Commitment
from grata_monai.transfer.exchange import send
from grata_monai.transfer.retry import Retry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60, func_only=True),
]  # ends a hang; a loaded machine is slow

ONE_SECOND = Retry(attempts=1, connect_seconds=1, answer_seconds=1)
PATIENT = Retry(attempts=1, connect_seconds=10, answer_seconds=1)  # of peers that do accept
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ABORT = struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, 0, 0)
RELEASE = struct.pack(">BBLL", 5, 0, 4, 0)
HUGE = struct.pack(">BBL", 2, 0, 2**32 - 1)


def reject(result, source, reason):
    return struct.pack(">BBLBBBB", 3, 0, 4, 0, result, source, reason)


def on_request(act):
    def behave(wire):
        wire.read_pdu()
        act(wire)
        wire.wait()

    return behave


LATE = "must answer the request for an association within 1 s, it takes longer"
SILENT = f"must answer the request for an association, it does not|{LATE}"
ASSOCIATION = {
    "silence": (on_request(lambda _: None), SILENT),
    "an end at once": (lambda wire: wire.connection.close(), SILENT),
    "half of a message": (on_request(lambda wire: wire.send(b"\2\0\0")), SILENT),
    "byte by byte": (on_request(lambda wire: wire.drip(HUGE + bytes(99))), SILENT),
    "4 GiB": (on_request(lambda wire: (wire.send(HUGE), wire.flood(bytes(10**6)))), SILENT),
    "HTTP": (on_request(lambda wire: wire.send(b"HTTP/1.1 400 JANE\r\n\r\n")), SILENT),
    "an acceptance of nonsense": (
        on_request(lambda wire: wire.send(struct.pack(">BBL", 2, 0, 99) + b"\xff" * 99)),
        SILENT,
    ),
    "data before acceptance": (on_request(lambda wire: wire.send(make_data(1, b"JANE"))), SILENT),
    "abortion": (on_request(lambda wire: wire.send(ABORT)), SILENT),
    "a request of its own": (on_request(lambda wire: wire.send(RELEASE)), SILENT),
    "rejection for now": (on_request(lambda wire: wire.send(reject(2, 3, 1))), r"\(2/3/1\)"),
    "rejection for good": (on_request(lambda wire: wire.send(reject(1, 1, 3))), "our AE title"),
    "rejection for nothing": (on_request(lambda wire: wire.send(reject(9, 9, 9))), "must"),
    "acceptance of nothing": (
        lambda wire: (wire.accept(result=3), wire.wait()),
        "it takes none of these kinds",
    ),
    "a transfer syntax that nobody proposed": (
        lambda wire: (wire.accept(syntax="1.2.840.10008.1.2.5"), wire.wait()),
        "must be of a kind that the peer takes",
    ),
    "messages of 7 bytes": (
        lambda wire: (wire.accept(most=7), wire.wait()),
        "must take messages of at least 1024 bytes, it takes 7",
    ),
}


@pytest.mark.parametrize("name", ASSOCIATION)
def test_an_association_answered_with(name, series, caplog):
    behave, message = ASSOCIATION[name]
    with hostile_peer(behave) as port, pytest.raises(TransferError, match=message) as caught:
        send(series[:1], f"dicom://ARCHIVE@127.0.0.1:{port}", retry=ONE_SECOND)
    assert "JANE" not in str(caught.value) + caplog.text


def answer(context, number, uid, **changes):
    """A C-STORE-RSP; None leaves an element out."""
    elements = {
        "AffectedSOPClassUID": MR_IMAGE,
        "AffectedSOPInstanceUID": uid,
        "CommandField": C_STORE_ANSWER,
        "MessageIDBeingRespondedTo": number,
        "Status": 0,
        **changes,
    }
    return make_answer(context, **{key: v for key, v in elements.items() if v is not None})


def storing(act):
    """Accept, then treat every C-STORE alike."""

    def behave(wire):
        wire.accept()
        while True:
            act(wire, *wire.read_store())

    return behave


def changed(**changes):
    return storing(lambda wire, *asked: wire.send(answer(*asked, **changes)))


OTHER = "instance 1 of 1 must be confirmed, the peer's answer is about something else"
GONE = "instance 1 of 1 must be answered, the peer cut the association|within 1 s, it takes longer"
STORE = {
    "another instance": (changed(AffectedSOPInstanceUID="1.2.3"), OTHER),
    "another message": (
        storing(lambda wire, context, number, uid: wire.send(answer(context, number + 1, uid))),
        OTHER,
    ),
    "the answer to an echo": (
        changed(CommandField=C_ECHO_ANSWER, AffectedSOPInstanceUID=None),
        f"{OTHER}|{GONE}",
    ),
    "no status": (changed(Status=None), GONE),
    "nonsense": (storing(lambda wire, c, *_: wire.send(make_data(c, b"JANE" * 9))), GONE),
    "another context": (
        storing(lambda wire, c, *rest: wire.send(answer(c + 2, *rest, Status=0xC000))),
        f"C000|{GONE}",
    ),
    "silence": (storing(lambda wire, *_: wire.wait()), GONE),
    "half of a message": (storing(lambda wire, *_: (wire.send(b"\4\0\0"), wire.wait())), GONE),
    "byte by byte": (storing(lambda wire, *asked: wire.drip(answer(*asked))), GONE),
    "a command without end": (
        storing(lambda wire, c, *_: wire.flood(make_data(c, bytes(10**5), control=1))),
        GONE,
    ),
    "4 GiB": (
        storing(lambda wire, *_: (wire.send(b"\4\0\xff\xff\xff\xff"), wire.flood(bytes(10**6)))),
        GONE,
    ),
    "abortion": (storing(lambda wire, *_: wire.send(ABORT)), GONE),
    "release": (storing(lambda wire, *_: (wire.send(RELEASE), wire.wait())), GONE),
    "an end": (storing(lambda wire, *_: wire.connection.close()), GONE),
    "an end before the file is read": (
        lambda wire: (wire.accept(), wire.connection.close()),
        f"{GONE}|{SILENT}",  # the end may come before the acceptance is read
    ),
    "pending": (changed(Status=0xFF00), "status FF00"),
    "cancelled": (changed(Status=0xFE00), "status FE00"),
    "out of resources": (changed(Status=0xA700), "status A700.*Tried 1 time"),
    "unlike its kind": (changed(Status=0xA900), "status A900.*validate it"),
    "not understood": (changed(Status=0xC123), "status C123.*validate it"),
    "refused": (changed(Status=0x0122), "status 0122.*does not take this kind"),
    "not authorised": (changed(Status=0x0124), "status 0124.*let this AE title"),
    "a status of nobody": (changed(Status=0x4242), "status 4242"),
}


@pytest.mark.parametrize("name", STORE)
def test_a_store_answered_with(name, series, caplog):
    behave, message = STORE[name]
    with hostile_peer(behave) as port, pytest.raises(TransferError, match=message) as caught:
        send(series[:1], f"dicom://ARCHIVE@127.0.0.1:{port}", retry=PATIENT)
    assert "JANE" not in str(caught.value) + caplog.text


@pytest.mark.parametrize("status", [0x0001, 0x0107, 0x0116, 0xB000, 0xBFFF])
def test_a_store_with_a_warning_is_confirmed(series, status):
    with hostile_peer(changed(Status=status)) as port:
        report = send(series[:2], f"dicom://ARCHIVE@127.0.0.1:{port}", retry=PATIENT)
    assert report.warnings == {status: 2}


def test_an_answer_that_leaves_out_the_instance_is_taken_by_its_number(series):
    with hostile_peer(changed(AffectedSOPInstanceUID=None)) as port:
        report = send(series[:2], f"dicom://ARCHIVE@127.0.0.1:{port}", retry=PATIENT)
    assert report.instances == 2


def test_an_answer_that_comes_twice_does_not_count_for_the_next_instance(series):
    stored = []

    def behave(wire):
        wire.accept()
        asked = wire.read_store()
        stored.append(asked[2])
        wire.send(2 * answer(*asked))
        wire.wait()

    with hostile_peer(behave) as port:
        report = send(series[:2], f"dicom://ARCHIVE@127.0.0.1:{port}", retry=PATIENT)
    assert report.instances == 2
    assert stored == [pydicom.dcmread(file).SOPInstanceUID for file in series[:2]]


def test_a_release_that_is_never_answered_does_not_undo_what_is_stored(series):
    def behave(wire):
        wire.accept()
        wire.send(answer(*wire.read_store()))
        wire.wait()

    with hostile_peer(behave) as port:
        report = send(series[:1], f"dicom://ARCHIVE@127.0.0.1:{port}", retry=PATIENT)
    assert report.instances == 1


def test_message_numbers_begin_again_behind_the_last(series, monkeypatch, start_peer):
    monkeypatch.setattr(store, "MOST_MESSAGES", 3)
    assert send(series, start_peer().address, retry=PATIENT).instances == 8


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
def test_a_file_with_text_for_a_uid_is_refused_before_anything_is_sent(
    series, start_peer, tmp_path, keyword, caplog
):
    uid = str(pydicom.dcmread(series[0])[keyword].value).encode()
    text = b"JANE^DOE".ljust(len(uid), b"X")
    (tmp_path / "a.dcm").write_bytes(series[0].read_bytes().replace(uid, text))
    peer = start_peer()
    with pytest.raises(DicomError, match="instance 1 of 1 must be a DICOM file") as caught:
        send([tmp_path / "a.dcm"], peer.address, retry=PATIENT)
    assert peer.contexts == []
    assert "JANE" not in str(caught.value) + caplog.text


def item(name, reason=None):
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = name
    if reason is not None:
        made.FailureReason = reason
    return made


def report_of(asked, *, transaction=None, kept=lambda names: names, failed=None):
    """The content of an N-EVENT-REPORT."""
    content = Dataset()
    content.TransactionUID = transaction or asked.TransactionUID
    names = [
        (each.ReferencedSOPClassUID, each.ReferencedSOPInstanceUID)
        for each in asked.ReferencedSOPSequence
    ]
    content.ReferencedSOPSequence = [item(name) for name in kept(names)]
    if failed is not None:
        content.FailedSOPSequence = failed(names)
    return content


ALL, SOME = 1, 2
NO_REPORT = "no report within 1 s"
REPORTS = {
    "another transaction": (ALL, {"transaction": "1.2.3"}, NO_REPORT),
    "one too few": (ALL, {"kept": lambda names: names[1:]}, "does not name 1 of 2"),
    "nothing": (ALL, {"kept": lambda _: []}, "does not name 2 of 2"),
    "another instance": (
        ALL,
        {"kept": lambda names: [(names[0][0], "1.2.3"), names[1]]},
        "does not name 1 of 2",
    ),
    "another kind": (
        ALL,
        {"kept": lambda names: [("1.2.3", names[0][1]), names[1]]},
        "does not name 1 of 2",
    ),
    "one twice": (ALL, {"kept": lambda names: [names[0], names[0]]}, "does not name 1 of 2"),
    "kept and failed": (
        ALL,
        {"failed": lambda names: [item(names[0], 0x0110)]},
        "1 of 2 are not kept, reasons 0110",
    ),
    "failed": (
        SOME,
        {"kept": lambda names: names[1:], "failed": lambda names: [item(names[0], 0x0112)]},
        "1 of 2 are not kept, reasons 0112",
    ),
    "failed without a reason": (SOME, {"failed": lambda names: [item(names[0])]}, NO_REPORT),
    "some failed and none named": (SOME, {}, "says that some failed, and names none"),
    "an event of nobody": (7, {}, "says that some failed, and names none"),
}


@pytest.fixture
def commit(start_peer, series):
    """Store two instances at a peer, and ask it to commit; it reports on the same association."""

    def call(handler, commitment=None):
        peer = start_peer(
            kinds=[(MR_IMAGE, None), (StorageCommitmentPushModel, None)],
            handlers=[(evt.EVT_N_ACTION, handler)],
        )
        chosen = commitment or Commitment(seconds=1)
        report = send(series[:2], peer.address, retry=PATIENT, commitment=chosen)
        assert len(peer.received) == report.instances == 2
        return report

    return call


def reporting(kind, changes):
    """Take the request, then report on the same association."""

    def handle(event):
        content = report_of(event.action_information, **changes)

        def tell():
            event.assoc.send_n_event_report(
                content, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )

        threading.Timer(0.2, tell).start()  # behind our answer
        return 0x0000, None

    return handle


@pytest.mark.parametrize("name", REPORTS)
def test_a_commitment_reported_with(name, commit):
    kind, changes, note = REPORTS[name]
    report = commit(reporting(kind, changes))
    assert report.commitment == "failed"
    assert note in report.note


def test_a_commitment_that_names_every_instance_is_one(commit):
    report = commit(reporting(ALL, {}))
    assert (report.commitment, report.note) == ("committed", "")


@pytest.mark.parametrize("status", [0x0110, 0x0122, 0xC000])
def test_a_refused_request_for_commitment_is_named(commit, status):
    report = commit(lambda event: (status, None))
    assert report.commitment == "failed"
    assert f"it answers status {status:04X}" in report.note


def test_a_peer_that_cuts_the_request_for_commitment_has_committed_to_nothing(commit):
    def abort(event):
        event.assoc.abort()
        return 0x0000, None

    report = commit(abort)
    assert report.commitment == "failed"
    assert "it answers no status" in report.note


def test_a_peer_that_is_silent_on_the_request_for_commitment_is_given_up(commit):
    def sleep(event):
        time.sleep(1.5)
        return 0x0000, None

    report = commit(sleep)
    assert report.commitment == "failed"
    assert "it answers no status" in report.note or "takes longer" in report.note


@pytest.mark.parametrize("said", [b"", b"\1\0\0", b"\1\0\xff\xff\xff\xff" + bytes(999), b"GET /"])
def test_whoever_else_calls_where_we_listen_keeps_nothing_open(commit, free_port, said):
    with socket.socket() as stranger:

        def call(event):
            stranger.connect(("127.0.0.1", free_port))
            stranger.sendall(said)
            return 0x0000, None

        report = commit(call, Commitment(reply=f"127.0.0.1:{free_port}", seconds=1))
        stranger.settimeout(2)
        while stranger.recv(999):
            pass  # until our side has closed
    assert report.commitment == "failed"
    assert report.note == NO_REPORT


def test_who_connects_where_we_listen_and_says_nothing_keeps_no_report_out(commit, free_port):
    silent = []

    def take(event):
        content = report_of(event.action_information)
        silent.extend(socket.create_connection(("127.0.0.1", free_port)) for _ in range(5))
        threading.Timer(0.2, tell, [content]).start()  # behind our answer
        return 0x0000, None

    def tell(content):
        archive = AE("ARCHIVE")
        archive.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        found = archive.associate("127.0.0.1", free_port, ae_title="GRATA_MONAI", ext_neg=[role])
        if found.is_established:
            found.send_n_event_report(
                content, ALL, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            found.release()

    report = commit(take, Commitment(reply=f"127.0.0.1:{free_port}", seconds=10))
    for wire in silent:
        wire.close()
    assert (report.commitment, report.note) == ("committed", "")


def test_what_is_tried_is_no_less_than_it_was():
    assert len(ASSOCIATION) + len(STORE) + len(REPORTS) >= 45
