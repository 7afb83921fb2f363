"""Turn the instances of one series into accepted volumes and rejections."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.checks import check_instance, find_kind
from grata_monai.read.dicom.grouping import (
    check_alike,
    check_instances,
    name_differences,
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
    if any(header.has_unclear_text for header in headers):
        notes.append("the patient's text does not fit its character set: it may be altered")
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
    groups = part_by_type(slices)
    is_one_stack_id = len({s.plane.stack for s in slices}) == 1
    if len(groups) > 1 and is_one_stack_id and _is_one_stack(slices, limits):
        split = reject(
            Reason.SPLIT_STACK,
            f"Images of one regular stack must be of one kind, found {len(groups)} that differ in "
            f"{name_differences(groups)}; each would be a part of the volume.",
        )
        count = _count_instances(slices)
        return [], [Rejection.from_error(split, name=name, instances=count)]
    for group in groups:
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
            own_notes = (*notes, *_note_duplicates(result), *_note_split([g for g, _ in found]))
            volumes.append(make_volume(group, name=own, notes=own_notes, limits=limits))
        except DicomError as error:
            count = _count_instances(group)
            rejections.append(Rejection.from_error(error, name=own, instances=count))
    return volumes, _merge_alike(rejections, name=name, parts=len(found))


def _is_one_stack(slices: Sequence[Slice], limits: Limits) -> bool:
    """Whether images of several kinds lie as the slices of one volume do."""
    try:
        make_volume(slices, name="", notes=(), limits=limits)
    except DicomError:
        return False
    return True


def _merge_alike(rejections: list[Rejection], *, name: str, parts: int) -> list[Rejection]:
    """Say once what is wrong with all parts of a series."""
    if not 1 < len(rejections) == parts or len({r.reason for r in rejections}) > 1:
        return rejections
    message = f"In each of {parts} parts: {rejections[0].message}"
    instances = sum(rejection.instances for rejection in rejections)
    return [replace(rejections[0], name=name, message=message, instances=instances)]


def _note_split(groups: Sequence[Sequence[Slice]]) -> tuple[str, ...]:
    if len(groups) == 1:
        return ()
    return (f"one of {len(groups)} parts of its series that differ in {name_differences(groups)}",)


def _note_duplicates(count: int) -> tuple[str, ...]:
    return (f"{count} left out: duplicate with equal pixels",) if count else ()


def _count_instances(slices: Sequence[Slice]) -> int:
    return len({item.header.file for item in slices})
