"""C-STORE: every instance arrives once, unchanged; whatever a peer refuses is told."""

import logging

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from pynetdicom import evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from grata_monai.core.errors import DatasetError, DicomError, TransferError
from grata_monai.transfer.commitment import Commitment
from grata_monai.transfer.exchange import send
from grata_monai.transfer.security import Security

pytestmark = pytest.mark.slow

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
OUT_OF_RESOURCES, CANNOT_UNDERSTAND, COERCED = 0xA700, 0xC000, 0xB000


def test_every_instance_arrives_as_it_was(series, start_peer, retry):
    peer = start_peer()
    told = []
    report = send(
        series, peer.address, retry=retry, progress=lambda done, count: told.append((done, count))
    )
    assert report.instances == len(series)
    assert report.warnings == {}
    assert told == [(n, len(series)) for n in range(1, len(series) + 1)]
    assert [d.SOPInstanceUID for d in peer.received] == [
        pydicom.dcmread(path).SOPInstanceUID for path in series
    ]
    for path, received in zip(series, peer.received, strict=True):
        assert received.PixelData == pydicom.dcmread(path).PixelData


def test_only_what_is_needed_is_proposed(series, start_peer, retry):
    peer = start_peer()
    send(series, peer.address, retry=retry)
    (proposed,) = peer.contexts
    native = {(MR_IMAGE, (ExplicitVRLittleEndian,)), (MR_IMAGE, (ImplicitVRLittleEndian,))}
    assert {(kind, tuple(syntaxes)) for kind, syntaxes in proposed} == native


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("taken", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_peer_that_takes_no_compressed_one_gets_equal_pixels(
    make_files, start_peer, retry, syntax, taken
):
    files = make_files(slices=2, transfer_syntax=syntax)
    peer = start_peer(kinds=[(MR_IMAGE, [taken])])
    send(files, peer.address, retry=retry)
    for path, received in zip(files, peer.received, strict=True):
        source = pydicom.dcmread(path)
        assert received.file_meta.TransferSyntaxUID == taken
        assert received.SOPInstanceUID == source.SOPInstanceUID
        assert np.array_equal(received.pixel_array, source.pixel_array)


def test_a_peer_that_takes_it_compressed_gets_the_same_bytes(make_files, start_peer, retry):
    files = make_files(slices=2, transfer_syntax=RLELossless)
    peer = start_peer(kinds=[(MR_IMAGE, [RLELossless, ExplicitVRLittleEndian])])
    send(files, peer.address, retry=retry)
    assert [d.PixelData for d in peer.received] == [pydicom.dcmread(f).PixelData for f in files]


def test_a_peer_that_is_full_for_now_gets_each_instance_once(series, start_peer, retry, waits):
    peer = start_peer(statuses=lambda number: OUT_OF_RESOURCES if number in (3, 4) else 0)
    send(series, peer.address, retry=retry)
    uids = [d.SOPInstanceUID for d in peer.received]
    assert len(uids) == len(set(uids)) == len(series)
    assert len(peer.contexts) == 3  # associations
    assert len(waits) == 2


def test_a_peer_that_stays_full_ends_the_send(series, start_peer, retry, waits):
    peer = start_peer(statuses=lambda _: OUT_OF_RESOURCES)
    with pytest.raises(TransferError, match=r"instance 1 of 8 must be stored.*A700"):
        send(series, peer.address, retry=retry)
    assert len(waits) == retry.attempts - 1


def test_a_refused_instance_is_final(series, start_peer, retry, waits):
    peer = start_peer(statuses=lambda number: CANNOT_UNDERSTAND if number == 2 else 0)
    with pytest.raises(TransferError, match=r"instance 2 of 8 must be stored.*C000"):
        send(series, peer.address, retry=retry)
    assert waits == []


def test_warnings_are_counted(series, start_peer, retry):
    peer = start_peer(statuses=lambda number: COERCED if number < 3 else 0)
    assert send(series, peer.address, retry=retry).warnings == {COERCED: 2}


def test_a_kind_that_the_peer_does_not_take_is_named(series, start_peer, retry, waits):
    peer = start_peer(kinds=[(CT_IMAGE, None)])
    with pytest.raises(TransferError, match="must"):
        send(series, peer.address, retry=retry)
    assert peer.received == []
    assert waits == []


def test_another_title_is_refused(series, start_peer, retry):
    peer = start_peer()
    wrong = peer.address.replace("ARCHIVE", "OTHER")
    with pytest.raises(TransferError, match="title"):
        send(series, wrong, retry=retry)


def test_nobody_there_is_tried_as_often_as_asked(series, free_port, retry, waits):
    with pytest.raises(TransferError, match="must"):
        send(series, f"dicom://ARCHIVE@127.0.0.1:{free_port}", retry=retry)
    assert len(waits) == retry.attempts - 1


@pytest.mark.parametrize("is_mutual", [False, True])
def test_tls_protects_the_way(series, start_peer, server_tls, certificates, retry, is_mutual):
    peer = start_peer(tls=server_tls(is_mutual=is_mutual))
    ours = (
        {"certificate": certificates / "client.pem", "key": certificates / "client.key"}
        if is_mutual
        else {}
    )
    security = Security(ca=certificates / "ca.pem", **ours)
    address = peer.address.replace("dicom://", "dicoms://")
    assert send(series, address, security=security, retry=retry).instances == len(series)


def test_a_certificate_of_a_stranger_is_not_believed(
    series, start_peer, server_tls, certificates, retry
):
    peer = start_peer(tls=server_tls())
    security = Security(ca=certificates / "stranger.pem")
    with pytest.raises(TransferError, match="certificate"):
        send(series, peer.address.replace("dicom://", "dicoms://"), security=security, retry=retry)
    assert peer.received == []


def test_clear_text_stays_on_this_machine(series, retry):
    with pytest.raises(ValueError, match="must be encrypted or on this machine"):
        send(series, "dicom://ARCHIVE@192.0.2.1:11112", retry=retry)


def test_what_is_no_instance_is_refused_before_anything_is_sent(
    series, start_peer, retry, tmp_path
):
    (tmp_path / "a.dcm").write_text("no DICOM")
    peer = start_peer()
    with pytest.raises(DicomError, match="instance 9 of 9 must be a DICOM file"):
        send([*series, tmp_path / "a.dcm"], peer.address, retry=retry)
    assert peer.contexts == []
    with pytest.raises(DatasetError, match="number 1 does not exist"):
        send([tmp_path / "missing.dcm"], peer.address, retry=retry)


def test_nothing_that_is_said_names_patient_or_uid(series, start_peer, retry, caplog):
    caplog.set_level(logging.DEBUG)
    header = pydicom.dcmread(series[0])
    peer = start_peer(statuses=lambda number: CANNOT_UNDERSTAND if number == 2 else 0)
    with pytest.raises(TransferError, match="refuses it") as caught:
        send(series, peer.address, retry=retry)
    # the peer runs in this process too; send silences the logger that both share
    heard = caplog.text + str(caught.value)
    for secret in (header.PatientName, header.PatientID, header.StudyInstanceUID):
        assert str(secret) not in heard


def test_a_peer_without_commitment_is_no_error(series, start_peer, retry):
    report = send(series, start_peer().address, retry=retry, commitment=Commitment())
    assert report.commitment == "not offered"
    assert report.instances == len(series)


@pytest.mark.parametrize(("listens", "note"), [("", "no status"), ("own", "within 1 s")])
def test_a_peer_that_never_reports_has_committed_to_nothing(
    series, start_peer, free_port, retry, listens, note
):
    def take(event):
        if not listens:
            event.assoc.abort()
        return 0x0000, None

    peer = start_peer(
        kinds=[(MR_IMAGE, None), (StorageCommitmentPushModel, None)],
        handlers=[(evt.EVT_N_ACTION, take)],
    )
    commitment = Commitment(reply=f"127.0.0.1:{free_port}" if listens else "", seconds=1)
    report = send(series, peer.address, retry=retry, commitment=commitment)
    assert report.commitment == "failed"
    assert note in report.note
    assert len(peer.received) == len(series)


def test_commitment_is_not_asked_by_dicomweb(series, retry):
    with pytest.raises(ValueError, match="commitment must be asked by C-STORE"):
        send(series, "dicomweb://127.0.0.1:1/dicom-web", retry=retry, commitment=Commitment())
