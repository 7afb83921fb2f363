"""Replay a hospital's days against the service while it is killed, and count what went wrong."""

import gc
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import under_fire
from hospital import ARCHIVE, PLANTED, REAL, SCANNER, TITLE, Peers, Sent, free_port, make_week
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import MRImageStorage  # type: ignore[attr-defined]

from grata_monai.service.audit import verify_audit
from grata_monai.service.config import read_config
from grata_monai.service.ledger import ENDS, Ledger

LATE_WAIT = 60.0
TELLING_SECONDS = 60.0
MOST_OPEN = 400  # what is sent waits meanwhile, so that all of it can end in time
BATCHES = 40  # at least, so that faults meet series at all stages
LARGEST_BATCH = 20
SETTINGS = {"report": False, "spacing": [4.0, 4.0, 6.0], "roi_size": [32, 32, 8]}
ROUTE = """[[routes]]
called = "{called}"
destination = "archive"
recipe = "{recipe}"
settings = {{ {settings} }}
"""


@dataclass
class Report:
    """What a replay has come to.

    Attributes:
        series: How many were sent.
        called: How many to each AE title.
        ends: Of the ledger.
        faults: What must be nothing, by name.
        kills: Of a process at a boundary, and at random.
        seconds: It took.
        boundaries_missed: Where no process was killed, or not as often as was asked.
    """

    series: int
    called: Counter[str]
    ends: Counter[str]
    faults: dict[str, list[str]]
    kills: Counter[str]
    seconds: float
    boundaries_missed: set[str] = field(default_factory=set)


class Replay:
    """A service under fire, its peers, and what was sent.

    Args:
        folder: New; holds everything.
        stub: Whether segmenting is replaced by something that takes no time.
        kills: ``begins`` and ``ended``: where processes are killed.
        rounds: How often at each such place.
        recipe: Of what is sent to `TITLE`.
        extra: Further tables of the configuration.
        root: Further keys at its top.
        settings: Of the bundle, in every route.
    """

    def __init__(  # noqa: PLR0913  # parts of a configuration
        self,
        folder: Path,
        *,
        stub: bool = True,
        kills: tuple[str, ...] = (),
        rounds: int = 1,
        recipe: str = "source",
        extra: str = "",
        root: str = "",
        settings: Mapping[str, Any] = SETTINGS,
    ) -> None:
        self.folder, self.peers = folder, Peers()
        self.whens, self.rounds = kills, rounds
        self.fire, self.log = folder / "fire", folder / "log"
        self.fire.mkdir(parents=True)
        faults = {"stub": stub, "kills": kills, "rounds": rounds}
        (self.fire / "settings.json").write_text(json.dumps(faults))
        recipes = {TITLE: recipe, **{called: called.lower() for called in REAL}}
        given = ", ".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
        routes = "".join(
            ROUTE.format(called=c, recipe=r, settings=given) for c, r in recipes.items()
        )
        self.port, self.web_port = free_port(), free_port()
        self.config_file = folder / "service.toml"
        self.config_file.write_text(
            f"""folder = "service"
node = "test"
{root}
[dicom]
address = "127.0.0.1:{self.port}"
peers = ["{SCANNER}"]
{routes}
[[destinations]]
name = "archive"
address = "dicom://{ARCHIVE}@127.0.0.1:{self.peers.archive_port}"
[completeness]
count = "dicom://{SCANNER}@127.0.0.1:{self.peers.count_port}"
count_seconds = 0.3
quiet_seconds = 30
[limits]
free_gib = 0.1
first_seconds = 0.2
largest_seconds = 1
tries = 6
drain_seconds = 5
[web]
address = "127.0.0.1:{self.web_port}"
{extra}
"""
        )
        self.config = read_config(self.config_file)
        self.process: subprocess.Popen[bytes] | None = None
        self.kills: Counter[str] = Counter()
        self.ledger = Ledger(self.config)

    def start(self) -> None:
        """Start the service, or start it again."""
        environment = {**os.environ, "GRATA_FIRE": str(self.fire)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                under_fire.start_command(self.config_file),
                stdout=log, stderr=log, env=environment, cwd=self.folder,
            )  # fmt: skip

    def tend(self) -> None:
        """Start the service again if it has died, as systemd does."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def stop(self) -> int:
        """Ask the service to end, as systemd does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=240)

    def kill_one(self) -> None:
        """Kill the service or one of its workers."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        with suppress(OSError, ProcessLookupError):
            pids = [self.process.pid, *map(int, children.read_text().split())]
            os.kill(random.choice(pids), signal.SIGKILL)
            self.kills["random"] += 1

    def close(self) -> None:
        """End everything."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.peers.close()
        self.ledger.close()
        gc.collect()  # sockets that pynetdicom left open warn here, where tests ignore it

    def send(self, *batch: Sent) -> None:
        """Send series together until the service has taken every instance."""
        instances = defaultdict[str, list[Dataset]](list)
        for series in batch:
            first = len(series.instances) - series.late
            self.peers.counts[series.uid] = first
            instances[series.called] += series.instances[:first]
            instances[series.called] += series.instances[: int(series.twice)]
        for called, waiting in instances.items():
            self._send_all(called, waiting)
        for series in batch:
            if series.late:
                wait_until(partial(self._is_closed, series), LATE_WAIT)
                self.peers.counts[series.uid] = len(series.instances)
                self._send_all(series.called, series.instances[-series.late :])
            series.is_kept = True

    def _is_closed(self, series: Sent) -> bool:
        row = self.ledger.get(series.key)
        return row is not None and row.state != "receiving"

    def _send_all(self, called: str, instances: list[Dataset]) -> None:
        waiting = instances
        while waiting := self._send_once(called, waiting):
            time.sleep(0.2)

    def _send_once(self, called: str, instances: list[Dataset]) -> list[Dataset]:
        """Send on one association; return what was not taken."""
        scanner = AE(SCANNER)
        scanner.connection_timeout = scanner.acse_timeout = scanner.dimse_timeout = 30
        scanner.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
        association = scanner.associate("127.0.0.1", self.port, ae_title=called)
        left = list(instances)
        if association.is_established:
            with suppress(RuntimeError, ValueError):
                for each in instances:
                    if association.send_c_store(each).get("Status") == 0x0000:
                        left.remove(each)
            association.release()
        return left

    def count_ends(self) -> Counter[str]:
        """How many series have ended, and how."""
        return Counter({s: n for (s,), n in self.ledger.count("state").items() if s in ENDS})

    def is_done(self) -> bool:
        """Whether every series has ended, and the log has every event."""
        rows = self.ledger.find()
        return all(row.state in ENDS for row in rows) and not self.ledger.read_outbox(1)

    def judge(self, sent: list[Sent], seconds: float) -> Report:
        """Hold ledger, archive, audit log and everything that was written against what was sent."""
        rows = {row.key: row for row in self.ledger.find()}
        faults: dict[str, list[str]] = {
            name: [] for name in ("lost", "twice", "wrong end", "audit", "identifiers")
        }
        for series in sent:
            row = rows.get(series.key)
            if row is None or row.state not in ENDS or row.instances != len(series.instances):
                faults["lost"].append(f"{series.key} {row}")
                continue
            if row.state != series.end:
                faults["wrong end"].append(f"{series.key} {row.state} {row.reason}")
            stored = self.peers.stored.get(series.study, Counter())
            uids = [str(each.SOPInstanceUID) for each in series.instances]
            last = {under_fire.result_uid(uids)} if series.called == TITLE else stored.keys()
            if series.end == "delivered" and not (last & stored.keys()):
                faults["lost"].append(f"{series.key} is not in the archive")
            if len(stored) > (row.edition if series.end == "delivered" else 0):
                faults["twice"].append(f"{series.key} {dict(stored)}")
        faults["twice"] += self.peers.stored.keys() - {series.study for series in sent}
        faults["audit"] += self._judge_audit(rows)
        faults["identifiers"] += self._find_identifiers(sent)
        hit = under_fire.read_kills(self.fire)
        self.kills["at a boundary"] = hit.total()
        return Report(
            len(sent),
            Counter(series.called for series in sent),
            Counter(row.state for row in rows.values()),
            {name: found for name, found in faults.items() if found},
            self.kills,
            seconds,
            {each for each in under_fire.boundaries(self.whens) if hit[each] < self.rounds},
        )

    def _judge_audit(self, rows: dict[str, Any]) -> list[str]:
        folder = self.config.folder / "audit"
        verdict = verify_audit(folder)
        lines = [
            json.loads(x) for f in sorted(folder.iterdir()) for x in f.read_text().splitlines()
        ]
        ends: Counter[tuple[str, int]] = Counter()
        last: dict[str, str] = {}
        for event in lines:
            if event["event"] == "end":
                ends[event["key"], event["edition"]] += 1
                last[event["key"]] = event["end"]
        found = [verdict.fault] if verdict.fault else []
        found += [f"{key} ended {count} times" for key, count in ends.items() if count != 1]
        found += [f"{k} says {last.get(k)}" for k, row in rows.items() if last.get(k) != row.state]
        return found

    def _find_identifiers(self, sent: list[Sent]) -> list[str]:
        uids = [series.uid for series in sent]
        shared = uids[0][:20].encode()  # begins every UID that was sent; few files have that
        places = [p for p in self.config.folder.rglob("*") if p.is_file() and p.suffix != ".dcm"]
        found = []
        for path in [*places, self.log]:
            content = path.read_bytes()
            found += [path.name] * (PLANTED.encode() in content)
            if shared in content:
                found += [path.name for uid in uids if uid.encode() in content]
        return found


def run_week(  # noqa: C901, PLR0913  # what goes wrong, and how often
    folder: Path,
    count: int,
    *,
    kills: tuple[str, ...] = ("ended",),
    rounds: int = 1,
    real: float = 0.0,
    seed: int = 0,
    random_kills: int = 6,
    limit_seconds: float = 270.0,
    ending_seconds: float = 900.0,
    say: Callable[[str], object] = lambda text: None,
) -> Report:
    """Send series while everything goes wrong; then make peace, and count.

    Args:
        folder: New.
        count: Of series.
        kills: ``begins`` and ``ended`` of a step: where a process is killed.
        rounds: How often at each such place.
        real: Share of series that are segmented in earnest.
        seed: Of what goes wrong when.
        random_kills: Of any process, as the series end.
        limit_seconds: After which nothing new is sent.
        ending_seconds: In which what was sent may still end.
        say: Told how far it is.

    Returns:
        What it has come to, of the series that were sent.
    """
    random.seed(seed)
    replay = Replay(folder, kills=kills, rounds=rounds)
    week = make_week(count, seed, real=real)
    began = time.monotonic()
    size = max(1, min(LARGEST_BATCH, count // BATCHES))
    batches = iter([week[first : first + size] for first in range(0, count, size)])
    lock, sent = threading.Lock(), list[Sent]()

    def take() -> list[Sent]:
        with lock:
            batch = [] if time.monotonic() - began > limit_seconds else next(batches, [])
            sent.extend(batch)
            return batch

    def bring() -> None:
        while batch := take():
            replay.send(*batch)
            while len(sent) - replay.count_ends().total() > MOST_OPEN:
                time.sleep(1)

    senders = [threading.Thread(target=bring, daemon=True) for _ in range(2)]
    try:
        replay.start()
        for sender in senders:
            sender.start()
        faults, told = _plan(replay, count), began
        while time.monotonic() - began < limit_seconds + ending_seconds:
            replay.tend()
            done = sum(series.is_kept for series in sent)
            is_sent = not any(sender.is_alive() for sender in senders)
            while faults and (is_sent or done >= faults[0][0]):
                say(f"{done} of {count} series taken: {faults[0][1].__name__}")
                faults.pop(0)[1]()
            ends = replay.count_ends()
            if time.monotonic() - told > TELLING_SECONDS:
                told = time.monotonic()
                say(f"{told - began:.0f} s: {done} of {count} taken, {ends.total()} ended")
            if ends.total() >= (replay.kills["random"] + 0.5) * count / max(1, random_kills):
                replay.kill_one()
            if is_sent and replay.is_done():
                break
            time.sleep(0.2)
        return replay.judge(sent, time.monotonic() - began)
    finally:
        replay.close()


def _plan(replay: Replay, count: int) -> list[tuple[int, Callable[[], object]]]:
    """What goes wrong after how many series."""
    fire, peers = replay.fire, replay.peers

    def archive_goes_down() -> None:
        peers.close_archive()

    def archive_comes_back() -> None:
        peers.open_archive()

    def disk_fills() -> None:
        (fire / under_fire.DISK).touch()
        threading.Timer(2.0, (fire / under_fire.DISK).unlink).start()

    def clock_steps_forward() -> None:
        (fire / under_fire.CLOCK).write_text("7200")

    def clock_steps_back() -> None:
        (fire / under_fire.CLOCK).write_text("-3600")

    def clock_is_right() -> None:
        (fire / under_fire.CLOCK).write_text("0")

    down = min(0.05, MOST_OPEN / 2 / count)  # what is sent meanwhile cannot end
    shares = {
        0.1: archive_goes_down, 0.1 + down: archive_comes_back, 0.4: disk_fills,
        0.5: clock_steps_back, 0.6: clock_steps_forward, 0.7: clock_is_right, 0.8: disk_fills,
    }  # fmt: skip
    return [(int(share * count), fault) for share, fault in shares.items()]


def wait_until(is_done: Callable[[], bool], seconds: float) -> bool:
    """Wait for something; return whether it came."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_done():
            return True
        time.sleep(0.1)
    return False
