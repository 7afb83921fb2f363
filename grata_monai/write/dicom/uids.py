"""Make the UIDs of what we write: the same for the same content, so that sending twice is safe."""

import hashlib
import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grata_monai.read.dicom.volume import DicomVolume
from grata_monai.record import Record

__all__ = ["hash_to_uid", "instance_uid", "series_uid", "tracking_uid"]


def hash_to_uid(*parts: bytes | str) -> str:
    """Make a UID from what it stands for: ``2.25.`` and a UUID as a number (at most 44 characters).

    Args:
        parts: Any texts or bytes; where one part ends and the next begins matters.

    Returns:
        The same UID for the same parts, on every machine.

    Source:
        ITU-T X.667 and DICOM PS3.5 B.2 (UUID derived UIDs); version 5 layout over SHA-256.

    >>> hash_to_uid("prostate", b"1") == hash_to_uid("prostate", b"1")
    True
    >>> hash_to_uid("prostate", "1") == hash_to_uid("prostate1")
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
    return f"2.25.{uuid.UUID(bytes=digest.digest()[:16], version=5).int}"


def instance_uid(
    kind: str,
    *,
    volume: DicomVolume,
    record: Record,
    arrays: Iterable[NDArray[Any]] = (),
    settings: Iterable[str] = (),
) -> str:
    """Make the SOPInstanceUID of an object from everything that decides its content.

    Args:
        kind: What is written, such as ``BINARY`` or ``measurements``.
        volume: The source.
        record: Of the case; its times do not count.
        arrays: Masks or probabilities on the source's frames.
        settings: Whatever else shapes the object, as text.

    Returns:
        The UID.
    """
    parts: list[bytes | str] = [kind, record.digest, volume.series_uid]
    parts += [f"{frame.sop_instance_uid} {frame.number}" for frame in volume.frames]
    for array in arrays:
        parts += [f"{array.dtype.str} {array.shape}", np.ascontiguousarray(array).tobytes()]
    return hash_to_uid(*parts, *settings)


def tracking_uid(volume: DicomVolume, number: int, type_code: str) -> str:
    """Make the UID that tracks one segment of one series, in every object of every run.

    Args:
        volume: The source.
        number: Of the segment.
        type_code: Code of the segmented property type.
    """
    return hash_to_uid("tracking", volume.name, volume.series_uid, str(number), type_code)


def series_uid(sop_instance_uid: str) -> str:
    """Make the SeriesInstanceUID of the series that an object has for itself.

    It follows from the object alone, so that an instance never belongs to two series.

    Args:
        sop_instance_uid: Of the object, from `instance_uid`.

    Returns:
        The UID.
    """
    return hash_to_uid("series", sop_instance_uid)
