"""An instance is kept once; a series closes when it is complete; late ones open it again, once."""

import os
import time
from types import SimpleNamespace

import pytest
from hospital import make_series

from grata_monai.service import sources
from grata_monai.service.audit import Auditor
from grata_monai.service.config import read_config
from grata_monai.service.intake import Answer, Intake
from grata_monai.service.ledger import Ledger, State
from grata_monai.service.sources import Watcher
from grata_monai.service.spool import Spool

REST = """
[completeness]
count = "dicom://SCANNER@127.0.0.1:104"
count_seconds = 1
quiet_seconds = 60
give_up_seconds = 600
[limits]
free_gib = 0
[[watch]]
folder = "drop"
called = "GRATA"
settle_seconds = 0.001
"""


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of the doors, which a test sets; other modules keep their own."""
    now = [1000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], time_ns=time.time_ns)
    for name in ("intake", "sources"):
        monkeypatch.setattr(f"grata_monai.service.{name}.time", clock)
    return now


@pytest.fixture
def intake(write_config, clock):
    config = read_config(write_config(rest=REST))
    ledger = Ledger(config)
    intake = Intake(config, ledger, Spool(config.folder))
    yield intake
    intake.headers.close()
    ledger.close()


def take(intake, instance, **options):
    with intake.spool.receiving() as path:
        instance.save_as(path, enforce_file_format=True)
        return intake.take(path, intake.config.route("GRATA"), **options)


@pytest.fixture
def series():
    return make_series(0, slices=3)


def test_an_instance_is_kept_once(intake, series):
    assert [take(intake, series.instances[0]) for _ in range(2)] == [Answer.KEPT] * 2
    assert intake.spool.count(series.key) == 1
    assert list(intake.spool.incoming.iterdir()) == []
    assert [event["event"] for _, event in intake.ledger.read_outbox(9)] == ["received"]


def test_a_file_that_is_none_or_another_is_refused(intake, series, tmp_path):
    (intake.spool.incoming / "text").write_text("no DICOM")
    route = intake.config.route("GRATA")
    assert intake.take(intake.spool.incoming / "text", route) is Answer.UNREADABLE
    kind, uid = series.instances[0].SOPClassUID, series.instances[0].SOPInstanceUID
    for announced in ((kind, "1.2.3"), ("1.2.3", uid), (kind, ""), ("", "")):
        assert take(intake, series.instances[0], announced=announced) is Answer.OTHER
    assert intake.ledger.find() == []


def test_a_counted_series_closes_at_once_and_waits_for_what_lacks(intake, series, clock):
    take(intake, series.instances[0])
    clock[0] += 2
    assert list(intake.list_uncounted()) == [series.key]
    assert list(intake.list_uncounted()) == []
    intake.note_count(series.key, 3)
    clock[0] += 100  # beyond the quiet time
    assert intake.close_complete() == []
    for instance in series.instances[1:]:
        take(intake, instance)
    (closed,) = intake.close_complete()
    assert (closed.state, closed.instances, closed.expected, closed.job) == ("queued", 3, 3, 1)


def test_a_series_that_nobody_counts_closes_when_it_is_quiet(intake, series, clock):
    take(intake, series.instances[0])
    clock[0] += 59
    assert intake.close_complete() == []
    clock[0] += 2
    (closed,) = intake.close_complete()
    assert (closed.instances, closed.expected) == (1, 0)


@pytest.mark.slow
def test_two_series_at_once_close_each_when_it_is_complete(intake, clock):
    one, two = make_series(1, slices=2), make_series(2, slices=3)
    for pair in zip(one.instances, two.instances, strict=False):
        for instance in pair:
            take(intake, instance)
    intake.note_count(one.key, 2)
    intake.note_count(two.key, 3)
    assert [row.key for row in intake.close_complete()] == [one.key]
    take(intake, two.instances[2])
    assert [row.key for row in intake.close_complete()] == [two.key]


@pytest.mark.slow
def test_a_clock_that_is_stepped_closes_nothing(intake, series, monkeypatch):
    take(intake, series.instances[0])
    now = time.time()
    for step in (86400, -86400):
        monkeypatch.setattr(time, "time", lambda step=step: now + step)
        assert intake.close_complete() == []


@pytest.mark.slow
def test_what_never_comes_is_given_up_with_its_name(intake, series, clock):
    take(intake, series.instances[0])
    intake.note_count(series.key, 3)
    clock[0] += 601
    assert intake.close_complete() == []
    row = intake.ledger.get(series.key)
    assert (row.state, row.reason) == (State.REFUSED, "incomplete")


@pytest.mark.slow
def test_late_instances_open_a_series_again_once(intake, series, clock):
    for number, instance in enumerate(series.instances[:2], start=1):
        assert take(intake, instance) is Answer.KEPT
        clock[0] += 61
        (closed,) = intake.close_complete()
        assert closed.edition == number
    assert take(intake, series.instances[2]) is Answer.LATE
    assert take(intake, series.instances[0]) is Answer.KEPT  # a duplicate is none
    events = [event["event"] for _, event in intake.ledger.read_outbox(99)]
    assert events == ["received", "complete", "reopened", "complete", "late"]


def test_a_row_without_files_is_what_a_killed_process_left(intake, clock):
    intake.ledger.receive("a", called="GRATA", rule="{}")
    again = Intake(intake.config, intake.ledger, intake.spool)
    clock[0] += 61
    assert again.close_complete() == []
    assert intake.ledger.get("a") is None
    again.headers.close()


def test_a_watched_folder_is_emptied_and_what_is_no_dicom_is_put_aside(intake, series, clock):
    watch = intake.config.watch[0]
    watcher = Watcher(watch, intake)
    series.instances[0].save_as(watch.folder / "one", enforce_file_format=True)
    (watch.folder / "letter.txt").write_text("no DICOM")
    assert watcher.look() == 0  # it may still grow
    clock[0] += 1
    assert watcher.look() == 1
    assert list(watch.folder.iterdir()) == []
    assert len(list((intake.spool.folder / "failed").iterdir())) == 1


def test_a_hostile_watched_folder_neither_hangs_nor_leads_out(
    intake, series, clock, tmp_path, monkeypatch
):
    watch, outside = intake.config.watch[0], tmp_path / "outside"
    watcher = Watcher(watch, intake)
    outside.mkdir()
    for place in (outside / "secret", watch.folder / "z"):
        series.instances[0].save_as(place, enforce_file_format=True)
    (watch.folder / "a link").symlink_to(outside / "secret")
    (watch.folder / "links").symlink_to(outside)
    os.mkfifo(watch.folder / "b pipe")
    deep = watch.folder
    for _ in range(400):
        deep = deep / "d"
        deep.mkdir()
    with (watch.folder / "huge").open("wb") as file:
        file.truncate(2**40)
    (watch.folder / "late").write_text("a link by the time that it is taken")
    copy = sources._copy

    def swap_and_copy(file, target, most):
        if file.name == "late":
            file.unlink()
            file.symlink_to(outside / "secret")
        return copy(file, target, most)

    monkeypatch.setattr(sources, "_copy", swap_and_copy)
    watcher.look()
    clock[0] += 1
    assert watcher.look() == 1  # z alone
    left = {"a link", "links", "b pipe", "d", "late"}
    assert {path.name for path in watch.folder.iterdir()} == left
    assert (outside / "secret").exists()


def test_a_file_that_takes_another_s_place_while_that_is_taken_is_not_lost(
    intake, series, clock, monkeypatch
):
    watch, copy = intake.config.watch[0], sources._copy
    watcher, place = Watcher(watch, intake), watch.folder / "one"
    series.instances[0].save_as(place, enforce_file_format=True)

    def copy_and_swap(file, target, most):
        stamp = copy(file, target, most)
        series.instances[1].save_as(watch.folder / "new", enforce_file_format=True)
        os.replace(watch.folder / "new", place)
        return stamp

    with monkeypatch.context() as patch:
        patch.setattr(sources, "_copy", copy_and_swap)
        watcher.look()
        clock[0] += 1
        assert watcher.look() == 0
    assert place.exists()
    for _ in range(2):
        clock[0] += 1
        watcher.look()
    assert intake.spool.count(series.key) == 2
    assert not place.exists()


def test_a_file_that_grows_while_it_is_copied_is_left_at_the_limit(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(1000))
    sources._copy(source, target, 1000)
    assert target.read_bytes() == bytes(1000)
    with pytest.raises(OSError, match="grows beyond the largest instance"):
        sources._copy(source, target, 999)


def test_no_identifier_is_in_ledger_or_log(intake, series, clock):
    take(intake, series.instances[0])
    clock[0] += 61
    intake.close_complete()
    Auditor(intake.config.folder / "audit", intake.ledger).move()
    for path in intake.config.folder.rglob("*"):
        if path.is_file() and path.suffix != ".dcm":
            assert series.uid.encode() not in path.read_bytes()
