"""The audit log only grows: each line names the one before, and no event is written twice."""

import json
import re

import pytest

from grata_monai.service.audit import START, Auditor, verify_audit


@pytest.fixture
def folder(config):
    return config.folder / "audit"


def read(folder):
    return [json.loads(x) for f in sorted(folder.iterdir()) for x in f.read_text().splitlines()]


def test_events_are_moved_in_order_and_the_chain_holds(folder, ledger):
    for number in range(3):
        ledger.note("pause", {"number": number})
    sent = []
    auditor = Auditor(folder, ledger, sent.extend)
    assert auditor.move() == 3
    assert [event["number"] for event in read(folder)] == [0, 1, 2]
    assert [event["number"] for event in sent] == [0, 1, 2]
    verdict = verify_audit(folder)
    assert (verdict.lines, verdict.first, verdict.fault) == (3, START, "")
    assert auditor.move() == 0


def test_a_killed_move_is_repeated_without_writing_twice(folder, ledger, monkeypatch):
    ledger.note("pause")
    auditor = Auditor(folder, ledger)
    monkeypatch.setattr(ledger, "empty_outbox", lambda numbers: None)
    auditor.move()  # as if killed between file and database
    monkeypatch.undo()
    ledger.note("resume")
    Auditor(folder, ledger).move()
    assert [event["event"] for event in read(folder)] == ["pause", "resume"]
    assert ledger.read_outbox(10) == []


def test_half_a_line_is_cut_off_and_the_chain_goes_on(folder, ledger):
    ledger.note("pause")
    Auditor(folder, ledger).move()
    (file,) = folder.iterdir()
    with file.open("ab") as half:
        half.write(b'{"event": "res')
    ledger.note("resume")
    Auditor(folder, ledger).move()
    assert verify_audit(folder).lines == 2
    assert verify_audit(folder).fault == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [lines[0], lines[2]], "before line 2 of .* was changed or taken out"),
        (lambda lines: [lines[0].replace(b"pause", b"drain"), *lines[1:]], "before line 2"),
        (lambda lines: [lines[0], b"no event", lines[2]], "line 2 is none"),
    ],
)
def test_what_was_changed_or_taken_out_shows(folder, ledger, change, said):
    for _ in range(3):
        ledger.note("pause")
    Auditor(folder, ledger).move()
    (file,) = folder.iterdir()
    file.write_bytes(b"\n".join(change(file.read_bytes().splitlines())) + b"\n")
    assert re.search(said, verify_audit(folder).fault)


def test_old_files_go_and_the_rest_still_holds(folder, ledger):
    for day in ("2020-01-01", "2020-01-02"):
        ledger.note("pause")
        Auditor(folder, ledger).move()
        newest = max(folder.iterdir())
        newest.rename(folder / f"{day}.jsonl")
    ledger.note("pause")
    auditor = Auditor(folder, ledger)
    auditor.move()
    assert auditor.forget(200) == 2
    verdict = verify_audit(folder)
    assert (verdict.lines, verdict.fault) == (1, "")
    assert verdict.first != START
