"""What commands that segment have in common: exit status, logging, and the report."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from grata_monai.core.failures import CaseFailure
    from grata_monai.read.dicom.rejection import Rejection

__all__ = ["EXIT_NOT_ALL", "EXIT_OK", "Done", "begin_to_log", "describe_done"]

EXIT_OK = 0
EXIT_NOT_ALL = 1


@runtime_checkable
class Done(Protocol):
    """What became of a run's cases."""

    segmented: int
    before: int
    failures: list["CaseFailure"]
    refusals: tuple["Rejection", ...]


def begin_to_log() -> None:
    """Log warnings at a terminal; elsewhere a line per case takes the place of the bar."""
    is_shown = sys.stderr.isatty()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("grata_monai").setLevel(logging.WARNING if is_shown else logging.INFO)
    logging.getLogger("ignite").setLevel(logging.CRITICAL)  # what ends an engine we say ourselves


def describe_done(done: Done, out: Path) -> str:
    """Say how many cases came to which end, and why series were refused."""
    lines = [f"refused {r.name}: {r.reason.value}. {r.message} {r.remedy}" for r in done.refusals]
    counts = {
        "segmented": done.segmented,
        "done before": done.before,
        "refused": len(done.refusals),
        "failed": len(done.failures),
    }
    told = [f"{count} {what}" for what, count in counts.items() if count or what == "segmented"]
    return "\n".join([*lines, f"{', '.join(told)}; results in {out}"])
