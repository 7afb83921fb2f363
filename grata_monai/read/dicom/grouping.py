"""Group the frames of one series into volumes.

Decisions:

- A series whose geometry differs within it is rejected: we do not guess which part was meant.
- Images of different type, echo or stack are always separate volumes. Those of different temporal
  position, contrast or acquisition are separate only where positions coincide, because scanners
  also number acquisitions per group of slices.
- A duplicate is dropped only if its stored pixels and its rescale are equal, byte by byte.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from grata_monai.read.dicom.checks import ORIENTATION_TOLERANCE
from grata_monai.read.dicom.headers import Slice
from grata_monai.read.dicom.rejection import Reason, reject

__all__ = ["check_alike", "check_instances", "name_differences", "part_by_type", "separate"]

SAME_PLACE = 1e-3  # mm
SPACING_TOLERANCE = 1e-4  # relative, between the PixelSpacing of two slices
CHUNK = 2**20
SPLITS = (
    ("temporal",),
    ("contrast",),
    ("acquisition",),
    ("temporal", "contrast"),
    ("instance",),
    ("temporal", "contrast", "acquisition", "instance"),
)

Labels = NDArray[np.intp]


def check_alike(slices: Sequence[Slice], *, require_frame_of_reference: bool) -> None:
    """Reject images of one series that differ in what one volume must share.

    Args:
        slices: All that remain of a series; each checked on its own.
        require_frame_of_reference: Whether FrameOfReferenceUID may not be missing.

    Raises:
        DicomError: With the code of the first thing in which they differ.
    """
    frames_of_reference = {s.header.frame_of_reference_uid for s in slices}
    if len(frames_of_reference) > 1:
        _reject_mixed(Reason.MIXED_FRAME_OF_REFERENCE, "frame of reference", frames_of_reference)
    if require_frame_of_reference and not all(frames_of_reference):
        raise reject(
            Reason.NO_FRAME_OF_REFERENCE, "Images must have a FrameOfReferenceUID, found none."
        )
    for stack in _part(slices, lambda s: (s.plane.stack,)):
        _check_same_geometry(stack)
    formats = {(s.header.bits_allocated, s.header.is_signed) for s in slices}
    if len(formats) > 1:
        _reject_mixed(Reason.MIXED_PIXEL_FORMAT, "BitsAllocated and PixelRepresentation", formats)
    if len({s.header.sop_class_uid for s in slices}) > 1:
        raise reject(
            Reason.MIXED_PIXEL_FORMAT,
            "Images of one series must be of one SOP class, found several.",
        )


def _check_same_geometry(slices: Sequence[Slice]) -> None:
    first = slices[0].plane
    orientations = np.asarray([s.plane.orientation for s in slices])
    if (np.abs(orientations - first.orientation) > ORIENTATION_TOLERANCE).any():
        _reject_mixed(Reason.MIXED_ORIENTATION, "orientation")
    sizes = {(s.header.rows, s.header.columns) for s in slices}
    if len(sizes) > 1:
        _reject_mixed(Reason.MIXED_SIZE, "Rows and Columns", sizes)
    spacings = np.asarray([s.plane.spacing for s in slices])
    if not np.allclose(spacings, first.spacing, rtol=SPACING_TOLERANCE, atol=0):
        _reject_mixed(Reason.MIXED_SPACING, "PixelSpacing")


def _reject_mixed(reason: Reason, what: str, values: Iterable[object] = ()) -> NoReturn:
    count = len(list(values))
    found = f"{count} different ones" if count else "different ones"
    raise reject(reason, f"Images of one series must share their {what}, found {found}.")


def part_by_type(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Separate types, echoes, and stacks of enhanced instances, which are never one volume.

    Args:
        slices: Of one series.

    Returns:
        Groups, in an order that depends on their contents only.
    """
    return _part(slices, lambda s: (s.plane.stack, _type(s), s.plane.component, s.plane.echo))


def _type(item: Slice) -> str:
    return "\\".join(item.plane.frame_type[:3])


def name_differences(groups: Sequence[Sequence[Slice]]) -> str:
    """Name what tells groups apart; no value of it.

    Args:
        groups: By `part_by_type` and `separate`.

    Returns:
        Like ``ImageType and EchoNumbers``.
    """
    names = {
        "StackID": lambda s: s.plane.stack,
        "ImageType": lambda s: s.plane.frame_type[:3],
        "ComplexImageComponent": lambda s: s.plane.component,
        "EchoNumbers": lambda s: s.plane.echo,
        "temporal position": lambda s: s.plane.temporal,
        "contrast": lambda s: s.plane.contrast,
        "acquisition": lambda s: s.plane.acquisition,
    }
    found = [
        name for name, key in names.items() if len({frozenset(map(key, g)) for g in groups}) > 1
    ]
    return " and ".join(found) or "their instances"


def separate(slices: Sequence[Slice]) -> tuple[list[list[Slice]], int]:
    """Separate slices until no two lie at the same place, and drop equal duplicates.

    Args:
        slices: A group of `part_by_type`.

    Returns:
        One list per volume, and how many duplicates were dropped.

    Raises:
        DicomError: `conflicting_duplicates` if slices at one place differ in their pixels and
            nothing tells them apart.
    """
    if parts := _separate(slices, is_strict=True):
        return parts, 0
    kept = _drop_equal(slices)
    if parts := _separate(kept, is_strict=True) or _separate(kept, is_strict=False):
        return parts, len(slices) - len(kept)
    labels = _label_places(kept)
    count = int((np.bincount(labels) > 1).sum())
    raise reject(
        Reason.CONFLICTING_DUPLICATES,
        "Images must differ in place, or in temporal position, contrast or acquisition; "
        f"at {count} place(s) several with different pixels lie.",
    )


def _separate(slices: Sequence[Slice], *, is_strict: bool) -> list[list[Slice]]:
    """Find attributes that tell coinciding slices apart; nothing found gives nothing.

    Strictly, each part must lie at the same places as the others, as time points do.
    """
    places = dict(zip(map(id, slices), _label_places(slices).tolist(), strict=True))
    if len(set(places.values())) == len(slices):
        return [list(slices)]
    for names in SPLITS:
        parts = _part(slices, partial(_attributes, names=names))
        labels = [[places[id(s)] for s in part] for part in parts]
        is_apart = all(len(set(part)) == len(part) for part in labels)
        is_same = len({frozenset(part) for part in labels}) == 1
        if len(parts) > 1 and is_apart and (is_same or not is_strict):
            return parts
    return []


def _attributes(item: Slice, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(_attribute(item, name) for name in names)


def _attribute(item: Slice, name: str) -> str:
    if name == "instance":
        return item.header.sop_instance_uid if item.header.frames > 1 else ""
    return str(getattr(item.plane, name))


def _part(slices: Sequence[Slice], key: Callable[[Slice], tuple[str, ...]]) -> list[list[Slice]]:
    groups: dict[tuple[str, ...], list[Slice]] = {}
    for item in slices:
        groups.setdefault(key(item), []).append(item)
    return [groups[k] for k in sorted(groups, key=lambda k: [(len(text), text) for text in k])]


def _label_places(slices: Sequence[Slice]) -> Labels:
    """Number the places in the patient; slices at one place get the same number, shape (n,)."""
    positions = np.asarray([s.plane.position for s in slices], dtype=np.float64)
    axes = np.asarray(slices[0].plane.orientation).reshape(2, 3)
    levels = positions @ np.cross(axes[0], axes[1])
    order = np.argsort(levels, kind="stable")
    labels = np.zeros(len(slices), dtype=np.intp)
    starts = np.flatnonzero(np.diff(levels[order], prepend=-np.inf) > SAME_PLACE)
    count = 0
    for run in np.split(order, starts[1:]):
        rest = run
        while len(rest):
            is_here = np.linalg.norm(positions[rest] - positions[rest[0]], axis=1) <= SAME_PLACE
            labels[rest[is_here]] = count
            rest, count = rest[~is_here], count + 1
    return labels


def _drop_equal(slices: Sequence[Slice]) -> list[Slice]:
    """Keep one of the slices that share place, rescale and stored pixels."""
    labels = _label_places(slices)
    counts = np.bincount(labels)
    kept: dict[tuple[object, ...], Slice] = {}
    ordered = sorted(
        zip(labels.tolist(), slices, strict=True),
        key=lambda pair: (pair[1].header.sop_instance_uid, pair[1].plane.number),
    )
    for label, item in ordered:
        digest = _hash_pixels(item) if counts[label] > 1 else b""
        plane = item.plane
        kept.setdefault((label, plane.slope, plane.intercept, plane.scale, digest), item)
    return list(kept.values())


def _hash_pixels(item: Slice) -> bytes:
    """Hash a frame's stored bytes; what cannot be told from others equals only itself."""
    header = item.header
    found = header.pixel_range(item.plane.number)
    identity = f"{header.sop_instance_uid}/{item.plane.number}/{header.file}".encode()
    if found is None:
        return hashlib.sha256(identity).digest()
    # implicit and explicit VR differ in the header only
    syntax = "little endian" if header.is_little_endian else header.transfer_syntax_uid
    try:
        with header.file.open("rb") as file:
            return _hash_range(file, *found, kind=syntax)
    except OSError:
        return hashlib.sha256(identity).digest()


def _hash_range(file: BinaryIO, start: int, length: int, *, kind: str) -> bytes:
    digest = hashlib.sha256(kind.encode())
    file.seek(start)
    while length > 0 and (chunk := file.read(min(CHUNK, length))):
        digest.update(chunk)
        length -= len(chunk)
    return digest.digest()


def check_instances(slices: Sequence[Slice]) -> None:
    """Reject two instances under one UID: a reference could not tell them apart.

    Args:
        slices: All that volumes of a series are made of, without duplicates.

    Raises:
        DicomError: `conflicting_duplicates`.
    """
    names = {(s.header.sop_instance_uid, s.plane.number) for s in slices}
    if len(names) < len(slices):
        raise reject(
            Reason.CONFLICTING_DUPLICATES,
            f"{len(slices)} images must have as many SOPInstanceUIDs, found {len(names)}.",
        )
