"""A row changes only from the state that a caller knows, together with its event."""

from dataclasses import replace

import pytest
from hospital import free_port

from grata_monai.core.errors import OutputError
from grata_monai.service.intake import deadline
from grata_monai.service.jobs import DELIVER, SEGMENT, Follow
from grata_monai.service.ledger import Ledger, State
from grata_monai.service.spool import Spool

RULE = '{"destination": "archive", "priority": "normal"}'


def test_of_two_that_change_a_row_one_wins(ledger):
    series = ledger.receive("a", called="GRATA", rule=RULE)
    first = ledger.move(series, State.QUEUED, event="complete", job=1)
    assert first.state == State.QUEUED
    assert ledger.move(series, State.REFUSED, event="end") is None
    assert [event["event"] for _, event in ledger.read_outbox(9)] == ["received", "complete"]


def test_a_series_that_is_known_is_not_received_twice(ledger):
    first = ledger.receive("a", called="GRATA", rule=RULE)
    assert ledger.receive("a", called="GRATA", rule="{}") == first
    assert len(ledger.read_outbox(9)) == 1


def test_a_row_asks_for_the_job_of_its_state(ledger):
    series = ledger.receive("a", called="GRATA", rule=RULE)
    assert Follow.of(series) is None
    queued = ledger.move(series, State.QUEUED, job=1)
    assert Follow.of(queued).id == f"{SEGMENT}-a-1-1"
    segmented = ledger.move(queued, State.SEGMENTED, job=2)
    follow = Follow.of(segmented, delay_seconds=3)
    assert (follow.id, follow.partition) == (f"{DELIVER}-a-1-2", "archive")
    assert follow.options()["delay_seconds"] == 3
    ended = ledger.move(segmented, State.DELIVERED)
    assert Follow.of(ended) is None


def test_settings_last(ledger):
    assert ledger.read_setting("mode", "run") == "run"
    ledger.write_setting("mode", "pause")
    ledger.write_setting("mode", "drain")
    assert ledger.read_setting("mode") == "drain"


def test_an_emergency_overtakes_and_who_waits_is_not_starved(ledger):
    normal = ledger.receive("a", called="GRATA", rule=RULE)
    emergency = replace(normal, rule=RULE.replace("normal", "emergency"))
    assert deadline(replace(emergency, received=normal.received + 3000)) < deadline(normal)
    assert deadline(replace(emergency, received=normal.received + 4000)) > deadline(normal)


def test_a_folder_that_cannot_be_written_is_said(config, tmp_path):
    (tmp_path / "file").touch()
    moved = config.model_copy(update={"folder": tmp_path / "file" / "service"})
    for opened in (lambda: Ledger(moved), lambda: Spool(moved.folder)):
        with pytest.raises(OutputError, match=r"'service' is not: Not a dir"):
            opened()


def test_a_database_that_does_not_answer_is_said_without_its_password(config):
    url = f"postgresql://grata:secret@127.0.0.1:{free_port()}/grata"
    with pytest.raises(OutputError, match=r"see that the disk has room or PostgreSQL answers") as e:
        Ledger(config.model_copy(update={"database": url}))
    assert "secret" not in str(e.value)
