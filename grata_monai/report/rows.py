"""One case as a line of a run's index, kept as a small JSON file beside its report."""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from grata_monai.core.files import atomic_path
from grata_monai.read.outputs import REPORT_FOLDER
from grata_monai.report.case import ReportedCase
from grata_monai.report.words import explain

__all__ = ["FOLDER", "Row", "make_row", "read_rows", "refuse", "sort_worst_first", "write_row"]

logger = logging.getLogger(__name__)

FOLDER = REPORT_FOLDER
"""Where pages, pictures and rows lie, in a run's folder."""

_RANKS = {"refused": 0, "red": 1, "amber": 2, "none": 3, "green": 4}


@dataclass(frozen=True)
class Row:
    """A case in the index.

    Attributes:
        case: Its name.
        light: ``green``, ``amber``, ``red``, ``none``; ``refused`` for a case without a mask.
        says: What a reader must know in a sentence or two.
        kept: Which prediction: ``source``, ``views``, ``adapted`` or empty.
        agreement: Of the magnified views, in [0, 1]; None if that is not known.
        volume: Of all labels together, mL; None without a mask.
        change: Kept minus source, mL; None if that is not known.
        percentile: Percent of source cases that look less foreign; None if that is not known.
        seconds: The case took.
        group: Scanner or centre.
        made: When, ISO 8601 in UTC.
        made_from: As the record says it: the page is of this very mask.
    """

    case: str
    light: str
    says: str
    kept: str = ""
    agreement: float | None = None
    volume: float | None = None
    change: float | None = None
    percentile: float | None = None
    seconds: float | None = None
    group: str = ""
    made: str = ""
    made_from: str = ""


def make_row(case: ReportedCase, *, made_from: str = "") -> Row:
    """Summarise a case."""
    record, volumes, words = case.record, case.volumes(), explain(case.record)
    changes = [volume.change for volume in volumes if volume.change is not None]
    return Row(
        case=case.name,
        light=str(record.verdict.light),
        says=f"{words.headline}. {words.decided}",
        kept=str(record.verdict.kept),
        agreement=record.verdict.agreement,
        volume=sum(volume.kept for volume in volumes),
        change=sum(changes) if changes else None,
        percentile=case.foreign_percentile,
        seconds=round(sum(record.seconds.values()), 1),
        group=case.group,
        made=_now(),
        made_from=made_from,
    )


def refuse(case: str, message: str, *, group: str = "") -> Row:
    """Make the row of a case that has no mask."""
    return Row(case, "refused", message, group=group, made=_now())


def write_row(row: Row, folder: Path) -> None:
    """Write a row beside the case's report."""
    with atomic_path(folder / f"{row.case}.json") as path:
        path.write_text(json.dumps(asdict(row), sort_keys=True) + "\n", encoding="utf-8")


def read_rows(folder: Path) -> list[Row]:
    """Read every row of a run's folder; what is none is passed over with a warning."""
    known = {field.name for field in fields(Row)}
    rows = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            rows.append(Row(**{key: content[key] for key in known if key in content}))
        except (OSError, ValueError, TypeError) as error:
            logger.warning("%s is no row of an index and is left out: %s", path.name, error)
    return rows


def sort_worst_first(rows: Iterable[Row]) -> list[Row]:
    """Sort: refused, red, amber, not judged, green; then by lowest agreement, then by name."""
    return sorted(
        rows,
        key=lambda row: (
            _RANKS.get(row.light, 0),
            -1.0 if row.agreement is None else row.agreement,
            row.case,
        ),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
