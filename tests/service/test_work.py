"""What becomes of a job: delivered, refused, tried again, quarantined, or without effect."""

import threading
import time

import pytest

from grata_monai.core.errors import TransferError
from grata_monai.service import serve, work
from grata_monai.service.jobs import DELIVER, SEGMENT, Follow, Jobs
from grata_monai.service.ledger import State

RULE = '{"destination": "archive", "priority": "normal"}'


@pytest.fixture
def queued(ledger):
    series = ledger.receive("a", called="GRATA", rule=RULE)
    return ledger.move(series, State.QUEUED, event="complete", job=1)


def ends(ledger):
    return [event["end"] for _, event in ledger.read_outbox(99) if event["event"] == "end"]


def run_segment(config, ledger, run, edition=1, job=1):
    return work.segment(config, ledger, "a", edition, job, run=run)


def good(series):
    return work.Outcome(light="amber", scanner="Phantom", volumes=1)


def test_a_segmented_series_is_delivered_next(config, ledger, queued):
    follow = run_segment(config, ledger, good)
    assert (follow.kind, follow.job, follow.partition) == (DELIVER, 2, "archive")
    row = ledger.get("a")
    assert (row.state, row.light, row.tries) == (State.SEGMENTED, "amber", 1)


def test_a_job_that_was_done_before_only_names_the_next_one(config, ledger, queued):
    first = run_segment(config, ledger, good)
    again = run_segment(config, ledger, lambda series: pytest.fail("ran twice"))
    assert again == first


def test_a_refusal_is_an_end(config, ledger, queued):
    assert run_segment(config, ledger, lambda s: work.Outcome(refused="localizer")) is None
    assert ledger.get("a").reason == "localizer"
    assert ends(ledger) == ["refused"]


def test_what_fails_is_tried_again_and_then_quarantined(config, ledger, queued):
    def fail(series):
        raise MemoryError

    follow = run_segment(config, ledger, fail)
    assert (follow.kind, follow.job) == (SEGMENT, 2)
    assert follow.delay_seconds > 0
    assert run_segment(config, ledger, fail, job=2) is None
    row = ledger.get("a")
    assert (row.state, row.reason, row.tries) == (State.QUARANTINED, "MemoryError", 2)
    assert ends(ledger) == ["quarantined"]


def test_a_case_that_kills_its_worker_each_time_is_quarantined(config, ledger, queued):
    class Killed(BaseException):
        pass

    def kill(series):
        raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            run_segment(config, ledger, kill)
    assert run_segment(config, ledger, kill) is None
    assert (ledger.get("a").state, ledger.get("a").reason) == (State.QUARANTINED, "worker died")


def test_a_job_of_an_edition_that_was_opened_again_has_no_effect(config, ledger, queued):
    def reopen(series):
        ledger.move(ledger.get("a"), State.RECEIVING, event="reopened", edition=2)
        return good(series)

    assert run_segment(config, ledger, reopen) is None
    assert (ledger.get("a").state, ledger.get("a").edition) == (State.RECEIVING, 2)


@pytest.fixture
def segmented(ledger, queued):
    return ledger.move(queued, State.SEGMENTED, job=2)


def run_deliver(config, ledger, spool, job=2):
    return work.deliver(config, ledger, spool, "a", 1, job)


def test_what_is_sent_is_delivered(config, ledger, spool, segmented, monkeypatch):
    monkeypatch.setattr(work, "_send", lambda *_: {"objects": 2, "commitment": "committed"})
    assert run_deliver(config, ledger, spool) is None
    (event,) = [event for _, event in ledger.read_outbox(99) if event["event"] == "end"]
    assert (event["end"], event["objects"], event["commitment"]) == ("delivered", 2, "committed")


def test_a_destination_that_is_down_is_tried_for_days_then_the_case_is_quarantined(
    config, ledger, spool, segmented, monkeypatch
):
    def refuse(*_):
        raise TransferError("peer must listen, it does not.")

    monkeypatch.setattr(work, "_send", refuse)
    waits, job = [], 2
    while (follow := run_deliver(config, ledger, spool, job)) is not None:
        waits.append(follow.delay_seconds)
        job = follow.job
    assert max(waits) <= config.limits.largest_seconds
    assert sum(waits) == pytest.approx(7 * 86400, abs=3600)
    assert ledger.get("a").state == State.QUARANTINED
    assert "peer must listen" in ledger.get("a").reason


def test_a_destination_that_was_taken_out_keeps_its_cases(config, ledger, spool, queued):
    rule = RULE.replace("archive", "old")
    series = ledger.move(queued, State.SEGMENTED, job=2, rule=rule)
    assert run_deliver(config, ledger, spool, series.job).job == 3
    assert "destination must be in the configuration, 'old' is not" in ledger.get("a").reason


def test_a_clock_that_was_ahead_keeps_no_job_waiting(config, ledger, queued):
    jobs, day = Jobs(config), 86400.0
    try:
        follow = Follow.of(queued, delay_seconds=day)  # as a clock gave it that was a day ahead
        jobs._client.enqueue(follow.options(), follow.key, follow.edition, follow.job)
        assert jobs.reconcile(ledger) == 0
        (job,) = jobs._client.list_workflows(status="DELAYED")
        wait = job.delay_until_epoch_ms / 1000 - time.time()
        assert config.limits.largest_seconds - 60 < wait <= config.limits.largest_seconds
    finally:
        jobs.close()


def test_a_helper_keeps_workers_alive_and_opens_no_door(config, ledger, monkeypatch):
    done, stop = [], threading.Event()

    class Recorded:
        def __init__(self, *_):
            done.append("made")

        def tend(self, *, is_paused):
            done.append(f"paused {is_paused}")
            stop.set()

        def close(self):
            done.append("closed")

    ledger.write_setting("mode", "pause")
    monkeypatch.setattr(serve, "Supervisor", Recorded)
    serve._help(config, config.folder, stop)
    assert done == ["made", "paused True", "closed"]
