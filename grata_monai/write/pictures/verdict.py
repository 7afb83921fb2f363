"""What was done to a case, in one plain sentence for people who read it in a PACS."""

from collections.abc import Iterator

from grata_monai.record import Record

__all__ = ["describe_verdict"]

_MARKS = {
    "red": ("RED, do not rely on this mask. ", "RED. "),
    "amber": ("AMBER, low agreement: look closely. ", "AMBER. "),
    "green": ("GREEN. ",),
}
"""What precedes the sentence, the fullest first; nothing where no guard was asked."""


def describe_verdict(record: Record, *, max_length: int | None = None) -> str:
    """Say in one sentence whether the network was adapted, and why not if it was not.

    Args:
        record: Of the case.
        max_length: Characters at most; 64 for a DICOM LO. Without it, the fullest sentence.

    Returns:
        The fullest of a few fixed sentences that fits.

    Raises:
        ValueError: If `max_length` is too short for any of them (below 30).
    """
    light = str(record.verdict.get("light", "none"))
    for mark in _MARKS.get(light, ("",)):
        for sentence in _sentences(record):
            marked = f"{mark}{sentence}"
            if max_length is None or len(marked) <= max_length:
                return marked
    raise ValueError(
        f"max_length must leave room for a sentence, got {max_length}. Give 30 or more."
    )


def _sentences(record: Record) -> Iterator[str]:
    """Yield from the fullest to the shortest."""
    if record.outcome == "adapted":
        yield from _adapted(record)
    elif record.outcome == "source":
        reason = record.reason.strip().rstrip(".")
        yield f"Source prediction kept, because {reason}."
        yield f"Source prediction kept: {reason}."
        yield "Source prediction kept; the record says why."
        yield "Source prediction kept."
    else:
        if record.verdict.get("reason"):
            yield f"Not adapted: {record.verdict['reason']}."
        if record.views.get("prediction"):
            yield "Not adapted: the source network's predictions of several views, averaged."
        yield "Not adapted: the source network's prediction."
        yield "Not adapted."


def _adapted(record: Record) -> Iterator[str]:
    taken = sum(bool(step.get("is_taken", True)) for step in record.steps)
    steps = f"{taken} step{'' if taken == 1 else 's'}"
    dice, ratio = record.change.get("dice"), record.change.get("volume_ratio")
    if dice is not None:
        agreement = f"the result agrees with the source prediction to a Dice of {dice:.3f}"
        if ratio is not None:
            yield f"Adapted to this case in {steps}; {agreement}, its volume is {ratio:.3f} times."
        yield f"Adapted to this case in {steps}; {agreement}."
        yield f"Adapted in {steps}, Dice with source {dice:.3f}."
    yield f"Adapted in {steps}."
