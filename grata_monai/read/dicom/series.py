"""Turn the instances of one series into accepted volumes and rejections."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.checks import check_instance, find_kind
from grata_monai.read.dicom.grouping import (
    check_alike,
    check_instances,
    part_by_type,
    separate,
)
from grata_monai.read.dicom.headers import Header, Slice
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.policy import name_uid
from grata_monai.read.dicom.rejection import Reason, Rejection, reject
from grata_monai.read.dicom.stack import make_volume
from grata_monai.read.dicom.volume import DicomVolume

__all__ = ["hash_name", "judge_series"]

DROPPED = {  # instances left out beside images; the first kind found names a series without images
    Reason.UNSUPPORTED_IMAGE: "of a kind that is not read",
    Reason.SECONDARY_CAPTURE: "secondary capture",
    Reason.LOCALIZER: "localizer",
    Reason.NOT_AN_IMAGE: "without pixels",
}

Judgement = tuple[list[DicomVolume], list[Rejection]]


def hash_name(prefix: str, text: str) -> str:
    """Make a file name without identifiers: the prefix and 16 hexadecimal digits.

    Args:
        prefix: Such as ``series``.
        text: A UID, or a path.

    Returns:
        Like ``series_0123456789abcdef``.
    """
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{prefix}_{digest[:16]}"


def judge_series(
    headers: Sequence[Header], *, require_frame_of_reference: bool, limits: Limits
) -> Judgement:
    """Make volumes of the instances of one series.

    Args:
        headers: All with the same SeriesInstanceUID.
        require_frame_of_reference: Whether FrameOfReferenceUID may not be missing.
        limits: Pixel budget.

    Returns:
        Accepted volumes and rejections, in an order that does not depend on the files' names.
    """
    name = hash_name("series", headers[0].series_uid)
    try:
        slices, notes = _keep_images(headers)
        _check_each(slices, limits)
        check_alike(slices, require_frame_of_reference=require_frame_of_reference)
    except DicomError as error:
        return [], [Rejection.from_error(error, name=name, instances=len(headers))]
    return _judge_groups(slices, name=name, notes=notes, limits=limits)


def _keep_images(headers: Sequence[Header]) -> tuple[list[Slice], list[str]]:
    """Leave out localizers, captures and objects without pixels; note how many."""
    kept: list[Slice] = []
    dropped: Counter[Reason] = Counter()
    for header in headers:
        for plane in header.planes:
            kind = find_kind(header) or find_kind(header, plane)
            if kind is None:
                kept.append(Slice(header, plane))
            else:
                dropped[kind] += 1
    if not kept:
        raise _reject_kind(headers, dropped)
    return kept, [
        f"{dropped[reason]} left out: {text}" for reason, text in DROPPED.items() if dropped[reason]
    ]


def _reject_kind(headers: Sequence[Header], dropped: Counter[Reason]) -> DicomError:
    reason = next(reason for reason in DROPPED if dropped[reason])
    kinds = sorted({name_uid(h.sop_class_uid) for h in headers if find_kind(h) == reason})
    what = f" ({', '.join(kinds)})" if kinds else ""
    return reject(
        reason, f"A series must hold CT or MR images, found only what is {DROPPED[reason]}{what}."
    )


def _check_each(slices: Sequence[Slice], limits: Limits) -> None:
    """Check every instance; the first code in the order of `Reason` becomes that of the series."""
    by_file: dict[int, list[Slice]] = {}
    for item in slices:
        by_file.setdefault(id(item.header), []).append(item)
    errors: list[DicomError] = []
    for items in by_file.values():
        try:
            planes = tuple(item.plane for item in items)
            check_instance(items[0].header, planes, limits=limits)
        except DicomError as error:
            errors.append(error)
    if errors:
        codes = [reason.value for reason in Reason]
        worst = min(errors, key=lambda error: (codes.index(error.reason), str(error)))
        count = sum(error.reason == worst.reason for error in errors)
        where = f"In {count} of {len(by_file)} instance(s): "
        raise DicomError(where + str(worst), reason=worst.reason)


def _judge_groups(
    slices: Sequence[Slice], *, name: str, notes: Sequence[str], limits: Limits
) -> Judgement:
    found: list[tuple[list[Slice], int] | tuple[list[Slice], DicomError]] = []
    for group in part_by_type(slices):
        try:
            parts, duplicates = separate(group)
            found += [(part, duplicates) for part in parts]
        except DicomError as error:
            found.append((group, error))
    try:
        check_instances([s for group, error in found if isinstance(error, int) for s in group])
    except DicomError as error:
        count = _count_instances(slices)
        return [], [Rejection.from_error(error, name=name, instances=count)]
    volumes: list[DicomVolume] = []
    rejections: list[Rejection] = []
    for number, (group, result) in enumerate(found, start=1):
        own = name if len(found) == 1 else f"{name}_{number}"
        try:
            if isinstance(result, DicomError):
                raise result
            own_notes = (*notes, *_note_duplicates(result))
            volumes.append(make_volume(group, name=own, notes=own_notes, limits=limits))
        except DicomError as error:
            count = _count_instances(group)
            rejections.append(Rejection.from_error(error, name=own, instances=count))
    return volumes, rejections


def _note_duplicates(count: int) -> tuple[str, ...]:
    return (f"{count} left out: duplicate with equal pixels",) if count else ()


def _count_instances(slices: Sequence[Slice]) -> int:
    return len({item.header.file for item in slices})
