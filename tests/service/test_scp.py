"""The door for C-STORE: known peers and titles only; what is answered is on the disk."""

import numpy as np
import pydicom
import pytest
from hospital import free_port, make_series
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    MRImageStorage,
    Verification,
)
from replay import wait_until

from grata_monai.service.config import read_config
from grata_monai.service.intake import Intake
from grata_monai.service.ledger import Ledger
from grata_monai.service.scp import Receiver
from grata_monai.service.spool import Spool
from grata_monai.transfer.address import parse_host_port


@pytest.fixture
def intake(write_config):
    """The intake of a receiver that listens."""
    number = free_port()
    config = read_config(
        write_config(
            dicom=f'address = "127.0.0.1:{number}"\ninstance_mib = 1',
            rest='[[routes]]\ncalled = "OTHER"\ndestination = "archive"\n[limits]\nfree_gib = 0',
        )
    )
    ledger = Ledger(config)
    intake = Intake(config, ledger, Spool(config.folder))
    receiver = Receiver(config, intake)

    yield intake
    receiver.close()
    intake.headers.close()
    ledger.close()


def associate(intake, *, calling="SCANNER", called="GRATA"):
    _, port = parse_host_port(intake.config.dicom.address)
    scanner = AE(calling)
    scanner.acse_timeout = scanner.dimse_timeout = 240
    scanner.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
    scanner.add_requested_context(Verification)
    return scanner.associate("127.0.0.1", port, ae_title=called)


def test_strangers_and_unknown_titles_are_rejected(intake):
    for names in ({"calling": "STRANGER"}, {"called": "NOBODY"}):
        assert associate(intake, **names).is_rejected
    assert wait_until(lambda: len(intake.ledger.read_outbox(9)) == 2, 60)  # another thread notes it
    events = [event["event"] for _, event in intake.ledger.read_outbox(9)]
    assert events == ["association rejected"] * 2


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
