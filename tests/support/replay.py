"""Replay a hospital's days against the service while it is killed, and count what went wrong."""

import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import under_fire
from hospital import ARCHIVE, PLANTED, SCANNER, TITLE, Peers, Sent, free_port, make_week
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import MRImageStorage  # type: ignore[attr-defined]

from grata_monai.service.audit import verify_audit
from grata_monai.service.config import read_config
from grata_monai.service.ledger import ENDS, Ledger

LATE_WAIT = 60.0
BATCH = 5


@dataclass
class Report:
    """What a replay has come to.

    Attributes:
        series: How many were sent.
        ends: Of the ledger.
        faults: What must be nothing, by name.
        kills: Of a process at a boundary, and at random.
        seconds: It took.
    """

    series: int
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
        extra: Further tables of the configuration.
        root: Further keys at its top.
    """

    def __init__(
        self,
        folder: Path,
        *,
        stub: bool = True,
        kills: tuple[str, ...] = (),
        extra: str = "",
        root: str = "",
    ) -> None:
        self.folder, self.peers = folder, Peers()
        self.whens = kills
        self.fire, self.log = folder / "fire", folder / "log"
        self.fire.mkdir(parents=True)
        (self.fire / "settings.json").write_text(json.dumps({"stub": stub, "kills": kills}))
        self.port, self.web_port = free_port(), free_port()
        self.config_file = folder / "service.toml"
        self.config_file.write_text(
            f"""folder = "service"
node = "test"
{root}
[dicom]
address = "127.0.0.1:{self.port}"
peers = ["{SCANNER}"]
[[routes]]
called = "{TITLE}"
destination = "archive"
recipe = "source"
settings = {{ report = false, spacing = [4.0, 4.0, 6.0], roi_size = [32, 32, 8] }}
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

    def send(self, *batch: Sent) -> None:
        """Send series together until the service has taken every instance."""
        instances = []
        for series in batch:
            first = len(series.instances) - series.late
            self.peers.counts[series.uid] = first
            instances += series.instances[:first] + series.instances[: int(series.twice)]
        self._send_all(instances)
        for series in batch:
            if series.late:
                wait_until(partial(self._is_closed, series), LATE_WAIT)
                self.peers.counts[series.uid] = len(series.instances)
                self._send_all(series.instances[-series.late :])
            series.is_kept = True

    def _is_closed(self, series: Sent) -> bool:
        row = self.ledger.get(series.key)
        return row is not None and row.state != "receiving"

    def _send_all(self, instances: list[Dataset]) -> None:
        waiting = list(instances)
        while waiting:
            waiting = [each for each in waiting if each not in self._send_once(waiting)]
            if waiting:
                time.sleep(0.2)

    def _send_once(self, instances: list[Dataset]) -> list[Dataset]:
        """Send on one association; return what was taken."""
        scanner = AE(SCANNER)
        scanner.connection_timeout = scanner.acse_timeout = scanner.dimse_timeout = 30
        scanner.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
        association = scanner.associate("127.0.0.1", self.port, ae_title=TITLE)
        taken: list[Dataset] = []
        if association.is_established:
            with suppress(RuntimeError, ValueError):
                for each in instances:
                    if association.send_c_store(each).get("Status") == 0x0000:
                        taken.append(each)
            association.release()
        return taken

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
        known: set[str] = set()
        for series in sent:
            row = rows.get(series.key)
            if row is None or row.state not in ENDS or row.instances != len(series.instances):
                faults["lost"].append(f"{series.key} {row}")
                continue
            if row.state != series.end:
                faults["wrong end"].append(f"{series.key} {row.state} {row.reason}")
            uids = [str(each.SOPInstanceUID) for each in series.instances]
            parts = [c for n in range(1, len(uids) + 1) for c in itertools.combinations(uids, n)]
            results = {under_fire.result_uid(list(part)) for part in parts}
            known |= results
            if series.end == "delivered" and under_fire.result_uid(uids) not in self.peers.stored:
                faults["lost"].append(f"{series.key} is not in the archive")
            if len(results & self.peers.stored.keys()) > row.edition:
                faults["twice"].append(series.key)
        faults["twice"] += [uid for uid in self.peers.stored if uid not in known]
        faults["audit"] += self._judge_audit(rows)
        faults["identifiers"] += self._find_identifiers(sent)
        kills = self.fire / under_fire.KILLS
        hit = set(kills.read_text().splitlines()) if kills.exists() else set()
        self.kills["at a boundary"] = len(hit)
        return Report(
            len(sent),
            Counter(row.state for row in rows.values()),
            {name: found for name, found in faults.items() if found},
            self.kills,
            seconds,
            under_fire.boundaries(self.whens) - hit,
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
        secrets = [PLANTED.encode(), *(series.uid.encode() for series in sent)]
        places = [p for p in self.config.folder.rglob("*") if p.is_file() and p.suffix != ".dcm"]
        found = []
        for path in [*places, self.log]:
            content = path.read_bytes()
            found += [path.name for secret in secrets if secret in content]
        return found


def run_week(
    folder: Path,
    count: int,
    *,
    kills: tuple[str, ...] = ("ended",),
    seed: int = 0,
    random_kills: int = 6,
    limit_seconds: float = 270.0,
    say: Callable[[str], object] = lambda text: None,
) -> Report:
    """Send series while everything goes wrong; then make peace, and count.

    Args:
        folder: New.
        count: Of series.
        kills: ``begins`` and ``ended`` of a step: where a process is killed, once.
        seed: Of what goes wrong when.
        random_kills: Of any process, as the series end.
        limit_seconds: After which it ends whatever is left.
        say: Told how far it is.

    Returns:
        What it has come to.
    """
    random.seed(seed)
    replay = Replay(folder, kills=kills)
    sent = make_week(count, seed)
    began = time.monotonic()
    todo: SimpleQueue[list[Sent]] = SimpleQueue()
    for first in range(0, count, BATCH):
        todo.put(sent[first : first + BATCH])

    def bring() -> None:
        with suppress(Empty):
            while True:
                replay.send(*todo.get_nowait())

    senders = [threading.Thread(target=bring, daemon=True) for _ in range(2)]
    try:
        replay.start()
        for sender in senders:
            sender.start()
        faults = _plan(replay, count)
        while time.monotonic() - began < limit_seconds:
            replay.tend()
            done = sum(series.is_kept for series in sent)
            while faults and done >= faults[0][0]:
                say(f"{done} of {count} series taken: {faults[0][1].__name__}")
                faults.pop(0)[1]()
            ended = sum(
                number for (state,), number in replay.ledger.count("state").items() if state in ENDS
            )
            if ended >= (replay.kills["random"] + 0.5) * count / max(1, random_kills):
                replay.kill_one()
            if done == count and not faults and replay.is_done():
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

    shares = {
        0.1: archive_goes_down, 0.3: archive_comes_back, 0.4: disk_fills,
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
