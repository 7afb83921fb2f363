"""Decode frames with pydicom: every syntax with version 3, uncompressed data only with version 2.4.

MONAI Label requires pydicom 2.4, whose decoders have another interface. There, compressed data are
rejected, because those decoders were not tested against the checks of this package. The sandbox
loads this module: imports stay light.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

__all__ = ["IS_OLD", "has_decoder", "iterate_frames", "iterate_streams"]

IS_OLD = int(pydicom.__version__.partition(".")[0]) < 3
UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)


def has_decoder(transfer_syntax_uid: str) -> bool:
    """Whether a decoder for the syntax is there; nothing is decoded."""
    if IS_OLD:
        return transfer_syntax_uid in UNCOMPRESSED
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415  # new in pydicom 3

    try:
        return bool(get_decoder(UID(transfer_syntax_uid)).is_available)
    except NotImplementedError:
        return False


def iterate_frames(path: str, indices: Sequence[int]) -> Iterable[NDArray[Any]]:
    """Decode frames of a file.

    Args:
        path: Of the file.
        indices: Of its frames, counted from 0, in ascending order.

    Returns:
        Stored values (rows, columns) of each frame, without what lies above BitsStored.

    Raises:
        Exception: Whatever pydicom raises for data that it cannot decode.
    """
    if IS_OLD:
        return _iterate_uncompressed(path, indices)
    from pydicom.pixels.utils import iter_pixels  # noqa: PLC0415  # new in pydicom 3

    return iter_pixels(path, indices=indices, raw=True)


def iterate_streams(path: str) -> Iterator[bytes]:
    """List the compressed stream of every frame of a file; with pydicom 3 only."""
    from pydicom.encaps import generate_frames  # noqa: PLC0415  # new in pydicom 3

    dataset = dcmread(path, specific_tags=["NumberOfFrames", "PixelData"])
    count = int(dataset.get("NumberOfFrames") or 1)
    return generate_frames(dataset.PixelData, number_of_frames=count)


def _iterate_uncompressed(path: str, indices: Sequence[int]) -> Generator[NDArray[Any], None, None]:
    dataset = dcmread(path)
    if dataset.file_meta.TransferSyntaxUID not in UNCOMPRESSED:
        raise NotImplementedError("pixel data must be uncompressed")
    frames = dataset.pixel_array.reshape(-1, int(dataset.Rows), int(dataset.Columns))
    for index in indices:
        yield _clear_unused_bits(frames[index], dataset)


def _clear_unused_bits(frame: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Drop the bits above BitsStored and spread the sign over them, as pydicom 3 does."""
    unused = int(dataset.BitsAllocated) - int(dataset.BitsStored)
    return np.right_shift(np.left_shift(frame, unused), unused) if unused else frame
