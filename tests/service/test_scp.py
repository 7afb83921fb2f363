"""The door for C-STORE: known peers and titles only; what is answered is on the disk."""

import numpy as np
import pydicom
import pytest
from certificates import make_client_tls
from hospital import free_port, make_series
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    MRImageStorage,
    Verification,
)
from receiving import listening
from replay import wait_until

from grata_monai.service.config import read_config
from grata_monai.service.spool import Spool
from grata_monai.transfer.address import parse_host_port


@pytest.fixture(params=[""])
def receiver(write_config, request):
    """A receiver that listens; a test may add to its table."""
    number = free_port()
    more = request.getfixturevalue(request.param) if request.param else ""
    config = read_config(
        write_config(
            dicom=f'address = "127.0.0.1:{number}"\ninstance_mib = 1\n{more}',
            rest='[[routes]]\ncalled = "OTHER"\ndestination = "archive"\n[limits]\nfree_gib = 0',
        )
    )
    with listening(config) as (receiver, _):
        yield receiver


@pytest.fixture
def intake(receiver):
    """Of that receiver."""
    return receiver._intake


@pytest.fixture
def tls(certificates):
    """Lines of the table for mutual TLS."""
    files = {"ca": "ca.pem", "certificate": "server.pem", "key": "server.key"}
    return "\n".join(f'{key} = "{certificates / name}"' for key, name in files.items())


def associate(intake, *, calling="SCANNER", called="GRATA", tls=None):
    _, port = parse_host_port(intake.config.dicom.address)
    scanner = AE(calling)
    scanner.acse_timeout = scanner.dimse_timeout = 240
    scanner.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    scanner.add_requested_context(Verification)
    return scanner.associate(
        "127.0.0.1", port, ae_title=called, tls_args=None if tls is None else (tls, "127.0.0.1")
    )


def test_strangers_and_unknown_titles_are_rejected(receiver, intake):
    for names in ({"calling": "STRANGER"}, {"called": "NOBODY"}):
        assert associate(intake, **names).is_rejected
    assert wait_until(lambda: receiver._rejected == 2, 60)  # other threads count them
    for _ in range(2):
        receiver.note_rejections()
    ((_, event),) = intake.ledger.read_outbox(9)
    assert (event["event"], event["count"]) == ("association rejected", 2)


def test_the_called_title_is_the_route_and_an_instance_is_kept_byte_for_byte(intake):
    series = make_series(0, slices=1)
    association = associate(intake, called="OTHER")
    assert association.send_c_echo().Status == 0x0000
    assert association.send_c_store(series.instances[0]).Status == 0x0000
    association.release()
    (row,) = intake.ledger.find()
    assert row.called == "OTHER"
    (file,) = intake.spool.series(row.key).iterdir()
    found = pydicom.dcmread(file)
    assert found == series.instances[0]
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_a_full_disk_is_a700_and_nothing_is_kept(intake, monkeypatch):
    series = make_series(0, slices=1)
    association = associate(intake)
    monkeypatch.setattr(Spool, "keep", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    assert association.send_c_store(series.instances[0]).Status == 0xA700
    monkeypatch.undo()
    monkeypatch.setattr(Spool, "free_gib", property(lambda self: -1.0))
    assert association.send_c_store(series.instances[0]).Status == 0xA700
    monkeypatch.undo()
    assert list(intake.spool.incoming.iterdir()) == []
    assert association.send_c_store(series.instances[0]).Status == 0x0000
    association.release()


def test_a_message_above_its_limit_ends_the_association(intake):
    series = make_series(0, slices=1)
    large = series.instances[0]
    large.Rows = large.Columns = 1024
    large.PixelData = np.zeros((1024, 1024), np.uint16).tobytes()
    association = associate(intake)
    connection = association.dul.socket.socket
    answer = association.send_c_store(large)
    connection.close()  # pynetdicom leaves open what the peer has cut
    assert "Status" not in answer
    assert intake.ledger.find() == []


@pytest.mark.parametrize("receiver", ["tls"], indirect=True)
def test_with_tls_a_scanner_must_have_a_certificate(intake, certificates):
    strangers = [make_client_tls(certificates, name) for name in ("", "stranger")]
    for stranger in (None, *strangers):
        refused = associate(intake, tls=stranger)
        assert not refused.is_established
        if refused.dul.socket.socket is not None:
            refused.dul.socket.socket.close()  # pynetdicom leaves open what the peer has cut
    association = associate(intake, tls=make_client_tls(certificates, "client"))
    assert association.send_c_store(make_series(0, slices=1).instances[0]).Status == 0x0000
    association.release()
    assert len(intake.ledger.find()) == 1
