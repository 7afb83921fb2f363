"""Run the service's programs with faults: killed between two steps, disk full, clock stepped.

Started in the place of ``python -m grata_monai serve`` and of the workers; ``GRATA_FIRE`` names a
folder that says what shall go wrong, and keeps which steps a process was killed at. Segmenting may
be replaced by something that takes no time and gives objects with the same UIDs each time, but for
routes of `hospital.REAL`.
"""

import errno
import hashlib
import importlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from hospital import REAL

FOLDER = Path(os.environ.get("GRATA_FIRE", "."))
KILLS, CLOCK, DISK, PEACE = "kills", "clock", "disk-full", "peace"
SEGMENTER = "grata_monai.service.segmenter"
STEPS = {
    "serve": ("Spool.keep", "Ledger.move", "Ledger.empty_outbox", "Auditor._append", "Jobs.put"),
    "segment": ("Segmenter.run", "Ledger.move", "DBOS.enqueue_workflow_with_options"),
    "deliver": ("work._send", "Ledger.move"),
}


def boundaries(whens: tuple[str, ...] = ("begins", "ended")) -> set[str]:
    """Every place where a process is killed once: before and after each step."""
    return {
        f"{kind} {step} {when}" for kind, steps in STEPS.items() for step in steps for when in whens
    }


def read_kills(folder: Path) -> Counter[str]:
    """How often a process was killed at each boundary."""
    path = folder / KILLS
    return Counter(path.read_text().splitlines() if path.exists() else [])


def start_command(config: Path) -> list[str]:
    """What starts the service under fire."""
    return [sys.executable, "-W", "ignore", __file__, "serve", str(config)]


def _worker_command(path: Path, kind: str, slot: int) -> list[str]:
    return [sys.executable, "-W", "ignore", __file__, kind, str(path), kind, str(slot)]


class _Gun:
    """Kills this process at a boundary that processes were not killed at often enough."""

    def __init__(self, kind: str, whens: tuple[str, ...], rounds: int) -> None:
        done = read_kills(FOLDER)
        ours = (each for each in boundaries(whens) if each.startswith(f"{kind} "))
        left = sorted(each for each in ours if done[each] < rounds)
        random.seed(done.total() * 1000 + len(kind))
        self._target = random.choice(left) if left else ""
        self._left = random.randint(1, 3)  # not always the first time

    def pass_by(self, boundary: str) -> None:
        if boundary != self._target or (FOLDER / PEACE).exists():
            return
        self._left -= 1
        if self._left == 0:
            with (FOLDER / KILLS).open("a") as file:
                file.write(f"{boundary}\n")
            os.kill(os.getpid(), signal.SIGKILL)


def _wrap(owner: Any, name: str, label: str, gun: _Gun) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        gun.pass_by(f"{label} begins")
        result = original(*args, **kwargs)
        gun.pass_by(f"{label} ended")
        return result

    setattr(owner, name, wrapped)


def _break_disk() -> None:
    from grata_monai.service.spool import Spool

    spool: Any = Spool
    keep, free = spool.keep, spool.free_gib

    def full(self: Any, file: Path, place: Path) -> None:
        if (FOLDER / DISK).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        keep(self, file, place)

    spool.keep = full
    spool.free_gib = property(
        lambda self: 0.0 if (FOLDER / DISK).exists() and random.random() < 0.5 else free.fget(self)
    )


def _step_clock() -> None:
    now = time.time

    def stepped() -> float:
        try:
            return now() + float((FOLDER / CLOCK).read_text() or 0)
        except (OSError, ValueError):
            return now()

    time.time = stepped


class _Stub:
    """Stands for `Segmenter`: nothing is computed, what comes out depends on what came in.

    Series of `REAL` titles go to a true one, which is made with the first of them.
    """

    def __init__(self, config: Any, spool: Any, *, slot: int = 0) -> None:
        self._config, self.spool = config, spool

    @cached_property
    def _true(self) -> Any:
        del sys.modules[SEGMENTER]  # the stub's
        return importlib.import_module(SEGMENTER).Segmenter(self._config, self.spool)

    def run(self, series: Any) -> Any:
        if series.called in REAL:
            return self._true.run(series)
        import pydicom
        from pydicom.uid import ExplicitVRLittleEndian

        from grata_monai.service.work import Outcome

        files = sorted(self.spool.series(series.key).glob("*.dcm"))
        headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        wish = str(headers[0].get("SeriesDescription", ""))
        if wish == "REFUSE":
            return Outcome(refused="not_an_image")
        if wish == "FAIL":
            raise RuntimeError("it fails each time")
        out = self.spool.results(series.key, series.edition) / "volume"
        out.mkdir(parents=True, exist_ok=True)
        seg = pydicom.Dataset()
        seg.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
        seg.SOPInstanceUID = result_uid([str(header.SOPInstanceUID) for header in headers])
        seg.StudyInstanceUID = headers[0].StudyInstanceUID
        seg.SeriesInstanceUID = f"{seg.SOPInstanceUID}.1"
        seg.PatientName = headers[0].PatientName
        seg.file_meta = pydicom.dataset.FileMetaDataset()
        seg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        seg.save_as(out / "segmentation.dcm", enforce_file_format=True)
        objects = [{"file": "segmentation.dcm", "sop_instance_uid": seg.SOPInstanceUID}]
        (out / "record.json").write_text(json.dumps({"dicom": {"objects": objects}}))
        return Outcome(light="green", scanner="Phantom", volumes=1, seconds=0.01)


def result_uid(instance_uids: list[str]) -> str:
    """UID of the object that the stub makes of some instances."""
    digest = hashlib.sha256(" ".join(sorted(instance_uids)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"


def main(kind: str, arguments: list[str]) -> None:
    """Run one of the service's programs."""
    import types

    import dbos

    from grata_monai.service import audit, jobs, ledger, serve, spool, supervisor, work, worker

    settings = json.loads((FOLDER / "settings.json").read_text())
    supervisor._command = _worker_command
    supervisor.LONGEST_WAIT = 1.0  # workers die here every few seconds
    if settings["stub"]:  # cases take no time here
        jobs.POLL_SECONDS = 0.05
        stub: Any = types.ModuleType(SEGMENTER)
        stub.Segmenter = _Stub
        sys.modules[SEGMENTER] = stub
    _break_disk()
    _step_clock()
    if settings["kills"]:
        gun = _Gun(kind, tuple(settings["kills"]), settings["rounds"])
        owners: dict[str, Any] = {
            "Spool": spool.Spool, "Ledger": ledger.Ledger, "Auditor": audit.Auditor,
            "Jobs": jobs.Jobs, "DBOS": dbos.DBOS, "work": work,
            "Segmenter": _Stub if settings["stub"] else None,
        }  # fmt: skip
        for step in STEPS[kind]:
            owner, name = step.split(".")
            if owners[owner] is not None:
                _wrap(owners[owner], name, f"{kind} {step}", gun)
    if kind == "serve":
        serve.serve(Path(arguments[0]))
    else:
        worker.main(arguments)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
