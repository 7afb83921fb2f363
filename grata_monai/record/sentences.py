"""What was done to a case, in words for people: one sentence, a line of the log, a table's row."""

from collections.abc import Iterator

from grata_monai.adapt.scores import Quality
from grata_monai.record.types import OutcomeName, Record

__all__ = ["COLUMNS", "describe_record", "describe_trust", "summarise_record", "tabulate_record"]

COLUMNS = ("outcome", "light", "shift", "steps", "Dice to source", "volume", "s")
"""Headings of `tabulate_record`; the first two are words, the others numbers."""

_MARKS = {
    Quality.RED: ("RED, do not rely on this mask. ", "RED. "),
    Quality.AMBER: ("AMBER, look closely. ", "AMBER. "),
    Quality.GREEN: ("GREEN. ",),
    Quality.NONE: ("",),
}
"""What precedes the sentence, the fullest first; nothing where no guard was asked."""


def describe_record(record: Record, *, max_length: int | None = None) -> str:
    """Say in one sentence whether the network was adapted, and why not if it was not.

    Args:
        record: Of the case.
        max_length: Characters at most; 64 for a DICOM LO. Without it, the fullest sentence.

    Returns:
        The fullest of a few fixed sentences that fits.

    Raises:
        ValueError: If `max_length` is too short for any of them (below 30).
    """
    for mark in _MARKS[record.verdict.light]:
        for sentence in _sentences(record):
            marked = f"{mark}{sentence}"
            if max_length is None or len(marked) <= max_length:
                return marked
    raise ValueError(
        f"max_length must leave room for a sentence, got {max_length}. Give 30 or more."
    )


def describe_trust(record: Record) -> str:
    """Say how foreign the case is and what quality is predicted; empty without a source profile."""
    told = []
    if record.shift is not None:
        told.append(
            f"{record.shift.percentile:.0f} % of the network's source cases are less foreign."
        )
    predicted = record.verdict.predicted
    if predicted is not None:
        told.append(f"Predicted Dice {predicted.dice:.2f}, at least {predicted.lower:.2f}.")
    return " ".join(told)


def summarise_record(record: Record) -> str:
    """Say the sentence, and then the cosines of all steps and the time, in one line."""
    cosines = [f"{step.cosine:+.2f}" for step in record.steps if step.cosine is not None]
    told = f" Cosine {', '.join(cosines)}." if cosines else ""
    return f"{describe_record(record)}{told} {_time(record)} s."


def tabulate_record(record: Record) -> tuple[str, ...]:
    """Fill a row of a table whose headings are `COLUMNS`."""
    ratio = record.change.volume_ratio
    return (
        str(record.outcome),
        str(record.verdict.light),
        "-" if record.shift is None else f"{record.shift.percentile:.0f} %",
        str(len(record.steps)),
        f"{record.change.dice:.3f}",
        "-" if ratio is None else f"×{ratio:.2f}",
        _time(record),
    )


def _time(record: Record) -> str:
    return f"{sum(record.seconds.values()):.1f}"


def _sentences(record: Record) -> Iterator[str]:
    """Yield from the fullest to the shortest; none leaves out that the organ was found anew."""
    anew = _found_anew(record)
    for sentence in _plain_sentences(record):
        yield f"{sentence}{'' if 'found anew' in sentence else anew}."
    if anew:
        yield "Organ found anew."


def _found_anew(record: Record) -> str:
    """Say that the source's mask lay elsewhere, or too small or large: the half that counts."""
    found_by = record.focus.found_by
    if record.outcome == OutcomeName.SOURCE or found_by in ("", "identity"):
        return ""
    return f"; organ found anew at scale {found_by.split(':')[1]}"


def _plain_sentences(record: Record) -> Iterator[str]:
    """Yield without the full stop."""
    if record.outcome == OutcomeName.ADAPTED:
        yield from _adapted(record)
    elif record.outcome == OutcomeName.SOURCE:
        reason = record.reason.strip().rstrip(".")
        yield f"Source prediction kept, because {reason}"
        yield f"Source prediction kept: {reason}"
        yield "Source prediction kept; the record says why"
        yield "Source prediction kept"
    else:
        if record.verdict.reason:
            yield f"Looked again, weights unchanged: {record.verdict.reason}"
        yield f"Looked again, weights unchanged; {_agreement(record)}"
        yield "Looked again, weights unchanged"
        yield "Looked again"


def _adapted(record: Record) -> Iterator[str]:
    steps = f"{record.steps_taken} step{'' if record.steps_taken == 1 else 's'}"
    how, short = f"Adapted to this case in {steps}", f"Adapted in {steps}"
    if record.steps_taken == 0 and record.statistics.layers:
        how, short = "Normalised with the image's own statistics", "Own statistics"
    ratio = record.change.volume_ratio
    agreement = _agreement(record)
    if ratio is not None:
        yield f"{how}; {agreement}, its volume is {ratio:.3f} times"
    yield f"{how}; {agreement}"
    yield f"{short}, Dice with source {record.change.dice:.3f}"
    yield short


def _agreement(record: Record) -> str:
    return f"the result agrees with the source prediction to a Dice of {record.change.dice:.3f}"
