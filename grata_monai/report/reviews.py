"""Keep what readers say about masks in a log that only grows, one JSON line each."""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from grata_monai.core.errors import OutputError
from grata_monai.report.rows import Row

__all__ = ["DECISIONS", "LOG", "Review", "append_review", "make_review", "read_reviews"]

LOG = "reviews.jsonl"
DECISIONS = ("accept", "edit", "reject")
LONGEST_NAME, LONGEST_REMARK = 80, 500
START = "0" * 64


@dataclass(frozen=True)
class Review:
    """What one reader said about one mask.

    Attributes:
        time: ISO 8601 in UTC.
        case: Its name.
        decision: ``accept``, ``edit`` or ``reject``.
        reader: Name.
        remark: In the reader's words; may be empty.
        digest: SHA-256 of the record that the reader saw.
        light: Of the case.
        kept: Which prediction.
        agreement: Of the views, in [0, 1]; None if that is not known.
        volume: mL; None if that is not known.
        group: Scanner or centre.
        previous: SHA-256 of the line before in the log, zeros for the first: a line that was
            changed or taken out breaks the chain.
    """

    time: str
    case: str
    decision: str
    reader: str
    remark: str
    digest: str
    light: str
    kept: str
    agreement: float | None
    volume: float | None
    group: str
    previous: str = START


def make_review(said: Any, rows: Mapping[str, Row]) -> Review:
    """Check what came from a page, and add what is known of its case.

    Args:
        said: ``case``, ``decision``, ``reader``, ``digest``, and if wanted ``remark``.
        rows: Of the run, by the names of their cases.

    Returns:
        The review, not yet in the log.

    Raises:
        ValueError: If a value is missing or not allowed, or the case is none of the run's.
    """
    if not isinstance(said, dict):
        raise ValueError(f"a review must be a JSON object, got {type(said).__name__}.")
    given = {key: _read_text(said, key) for key in ("case", "decision", "reader", "digest")}
    remark = _read_text(said, "remark") if said.get("remark") else ""
    if given["decision"] not in DECISIONS:
        raise ValueError(f"decision must be among {', '.join(DECISIONS)}.")
    if len(given["reader"]) > LONGEST_NAME or len(remark) > LONGEST_REMARK:
        raise ValueError(
            f"reader must have at most {LONGEST_NAME} characters, a remark {LONGEST_REMARK}."
        )
    row = rows.get(given["case"])
    if row is None:
        raise ValueError("case must be one of this run, it is not. Open its page again.")
    return Review(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        remark=remark,
        light=row.light,
        kept=row.kept,
        agreement=row.agreement,
        volume=row.volume,
        group=row.group,
        **given,
    )


def append_review(review: Review, log: Path) -> None:
    """Append a review to a log, flushed; several programs may do so at once.

    A line that a killed program has half written goes: nobody was told that it was taken down.

    Raises:
        OutputError: If the log cannot be written.
    """
    try:
        with log.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            content = file.read()
            lines = _whole_lines(content)
            size = sum(len(line) + 1 for line in lines)
            previous = hashlib.sha256(lines[-1]).hexdigest() if lines else START
            line = json.dumps({**asdict(review), "previous": previous}, sort_keys=True)
            os.truncate(log, size)
            try:
                _write_whole(file.fileno(), line.encode() + b"\n")
                os.fsync(file.fileno())
            except OSError:
                os.truncate(log, size)  # the whole line or nothing
                raise
    except OSError as error:
        raise OutputError(
            f"the log of reviews must be writable, {log.name} is not: {error.strerror}. "
            "Correct its permissions, or free space."
        ) from error


def read_reviews(log: Path) -> list[Review]:
    """Read a log.

    Args:
        log: Its file; none is an empty log.

    Returns:
        Its reviews, in order.

    Raises:
        ValueError: If a line is no review, or the chain of hashes is broken.
    """
    if not log.exists():
        return []
    known = {field.name for field in fields(Review)}
    reviews, previous = [], START
    for number, line in enumerate(_whole_lines(log.read_bytes()), 1):
        try:
            content = json.loads(line)
            review = Review(**{key: content[key] for key in known})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{log.name} must hold one review a line, line {number} is none. "
                "Bring the log back from a copy."
            ) from error
        if review.previous != previous:
            raise ValueError(
                f"{log.name} must only grow, before line {number} something was changed or taken "
                "out. Bring the log back from a copy."
            )
        reviews.append(review)
        previous = hashlib.sha256(line).hexdigest()
    return reviews


def _write_whole(descriptor: int, content: bytes) -> None:
    """Write all of it: a disk that fills up takes a part first."""
    while content:
        content = content[os.write(descriptor, content) :]


def _whole_lines(content: bytes) -> list[bytes]:
    """Lines that were written to their end; JSON has no other line ends in it."""
    return content.split(b"\n")[:-1]


def _read_text(said: dict[str, Any], key: str) -> str:
    value = said.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} must be a text, not empty.")
    return value.strip()
