"""Replay days of a hospital against the service while everything goes wrong, and count the faults.

Series come in by C-STORE while processes are killed before and after every step and at random, the
archive is down, the disk is full, the clock is stepped; some series have duplicates or late slices.
What is measured is what is lost, what is in the archive twice, what ended wrongly, and which
identifiers stand outside DICOM objects: all must be none. Segmenting is replaced by something that
takes no time, but for a share of small phantoms that the shipped network segments, with ``source``
or with ``clinical``::

    python tests/measure/week.py --series 10500 --hours 24 --out week/
"""

import argparse
import json
import os
import platform
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from replay import Report, run_week


def describe(report: Report) -> str:
    """Make the table."""
    faults = Counter({name: len(found) for name, found in report.faults.items()})
    rows = [
        ("series", report.series),
        *((f"sent to {called}", count) for called, count in sorted(report.called.items())),
        *((f"ended as {end}", count) for end, count in sorted(report.ends.items())),
        *((f"processes killed {where}", count) for where, count in sorted(report.kills.items())),
        ("boundaries of steps with fewer kills", len(report.boundaries_missed)),
        *((name, faults[name]) for name in ("lost", "twice", "wrong end", "audit", "identifiers")),
        ("minutes", round(report.seconds / 60)),
        ("machine", f"{read_cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}"),
    ]
    return "\n".join(f"| {name} | {value} |" for name, value in rows)


def read_cpu() -> str:
    """Name of the processor, as Linux says it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def main() -> int:
    """Run the replay; the exit status is 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder")
    parser.add_argument("--series", type=int, default=10_500, metavar="N")
    parser.add_argument("--hours", type=float, default=24, metavar="H", help="send no longer")
    parser.add_argument("--real", type=float, default=0.02, metavar="SHARE")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="kills per boundary")
    parser.add_argument("--random-kills", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    asked = parser.parse_args()
    report = run_week(
        asked.out.absolute(),
        asked.series,
        kills=("begins", "ended"),
        rounds=asked.rounds,
        real=asked.real,
        seed=asked.seed,
        random_kills=asked.random_kills,
        limit_seconds=asked.hours * 3600,
        say=lambda text: print(text, flush=True),
    )
    (asked.out / "faults.json").write_text(json.dumps(report.faults, indent=1), encoding="utf-8")
    print(describe(report))
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
