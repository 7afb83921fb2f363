"""Decode the frames of one volume in the sandbox, and rescale them in this process.

Decisions:

- The subprocess sends stored integers; slope and intercept are applied in this process, in float64.
- A file's header is compared with what triage saw before a pixel of it is decoded: a file that
  was exchanged in between, or that claims another size, is rejected.
- pydicom picks the decoder, clears the bits above BitsStored, and corrects the sign.

The sandbox loads this module: imports stay light (no torch, no MONAI).
"""

import math
from collections.abc import Generator, Mapping
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.codec import iterate_frames, iterate_streams
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.rejection import Reason
from grata_monai.read.dicom.sandbox import run_parts
from grata_monai.read.dicom.volume import DicomVolume, SourceFrame

__all__ = ["check_budget", "decode_files", "decode_padded", "decode_volume"]

HEADER = ["SOPInstanceUID", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames"]
JPEG_SYNTAXES = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)
END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike; never inside their data
LARGEST = float(np.finfo(np.float32).max)

_EXPORT_AGAIN = "Export the series again from the archive."


def decode_volume(volume: DicomVolume, *, limits: Limits) -> NDArray[np.float32]:
    """Decode and rescale all frames of a volume.

    Args:
        volume: What triage accepted.
        limits: Voxels of the volume; memory and time of the subprocess.

    Returns:
        (columns, rows, frames), intensities: stored values × slope + intercept of each frame;
        padding, which is no image, has the smallest intensity of the image.

    Raises:
        DicomError: `over_pixel_budget` before anything is read; `over_decoding_limit`,
            `undecodable`, `truncated_pixel_data`, `mixed_size` or `unreadable` if a file is not
            what triage saw; `invalid_rescale` if an intensity is no float32.
    """
    return decode_padded(volume, limits=limits)[0]


def decode_padded(volume: DicomVolume, *, limits: Limits) -> tuple[NDArray[np.float32], int]:
    """Decode and rescale all frames of a volume, and count its padding.

    Arguments and errors are those of `decode_volume`.

    Returns:
        Its result, and how many of these voxels are padding.
    """
    voxels = _decode_frames(volume, limits)
    is_padding = np.isnan(voxels)
    count = int(is_padding.sum())
    if count:
        voxels[is_padding] = voxels[~is_padding].min() if count < voxels.size else 0
    return voxels, count


def _decode_frames(volume: DicomVolume, limits: Limits) -> NDArray[np.float32]:
    """Decode and rescale; NaN where padding is."""
    check_budget(volume.spatial_shape, limits=limits)
    voxels = np.zeros(volume.spatial_shape, np.float32)  # pages exist once they are written
    request = {"files": _list_files(volume), "rows": volume.rows, "columns": volume.columns}
    missing = set(range(len(volume.frames)))
    parts = run_parts(decode_files, request, limits=limits, subject=f"volume {volume.name}")
    for part in parts:
        index, stored = part.get("index"), part.get("frame")
        is_frame = isinstance(stored, np.ndarray) and stored.shape == (volume.rows, volume.columns)
        if index not in missing or not is_frame:
            raise DicomError(
                f"decoder must return every frame once, volume {volume.name} yields something "
                f"else. {_EXPORT_AGAIN}",
                reason=Reason.UNDECODABLE.value,
            )
        missing.remove(index)
        voxels[:, :, index] = _rescale(np.asarray(stored), volume.frames[index], index).T
    if missing:
        raise DicomError(
            f"pixel data must hold every frame, {len(missing)} of {len(volume.frames)} are not "
            f"there. {_EXPORT_AGAIN}",
            reason=Reason.TRUNCATED_PIXEL_DATA.value,
        )
    return voxels


def check_budget(spatial_shape: tuple[int, ...], *, limits: Limits) -> None:
    """Reject a grid whose voxels (float32) do not fit the budget.

    Args:
        spatial_shape: Voxels along each axis.
        limits: Holds the budget.

    Raises:
        DicomError: `over_pixel_budget`.
    """
    size = math.prod(spatial_shape) * 4
    if size > limits.pixel_budget_bytes:
        raise DicomError(
            f"volume must take at most {limits.pixel_budget_bytes} bytes, "
            f"{'×'.join(map(str, spatial_shape))} voxels take {size}. Leave it out, or raise "
            "pixel_budget_bytes if the size is true.",
            reason=Reason.OVER_PIXEL_BUDGET.value,
        )


def decode_files(request: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
    """Decode frames of files. Runs in the sandbox.

    Args:
        request: ``rows`` and ``columns`` of every frame; ``files``, each with its ``path``,
            ``sop_instance_uid``, frame ``numbers`` counted from 1 in ascending order, and
            ``indices``, where in the volume these frames belong.

    Yields:
        ``index`` in the volume, ``frame`` (rows, columns) of stored values.

    Raises:
        DicomError: If a file is not what triage saw, or cannot be decoded.
    """
    for file in request["files"]:
        label = f"frame {file['indices'][0] + 1} of the volume"
        frames = _iterate_frames(file, label, _check_header(file, request, label))
        for index, frame in zip(file["indices"], frames, strict=True):
            yield {"index": index, "frame": frame}


def _check_header(file: Mapping[str, Any], request: Mapping[str, Any], label: str) -> UID:
    """Compare a file's header with what triage saw; return its transfer syntax."""
    try:
        dataset = dcmread(file["path"], stop_before_pixels=True, specific_tags=HEADER)
        uid, found = str(dataset.SOPInstanceUID), _read_size(dataset)
        count = int(dataset.get("NumberOfFrames") or 1)
        syntax = UID(dataset.file_meta.TransferSyntaxUID)
    except MemoryError:
        raise
    except Exception as error:
        raise DicomError(
            f"file must still be readable, {label} is not ({type(error).__name__}). "
            "Look through the folder again.",
            reason=Reason.UNREADABLE.value,
        ) from error
    if uid != file["sop_instance_uid"]:
        raise DicomError(
            f"file must be the one that triage saw, {label} is another instance. "
            "Look through the folder again, once no program writes into it.",
            reason=Reason.UNREADABLE.value,
        )
    expected = (request["rows"], request["columns"], 1)
    if found != expected:
        raise DicomError(
            f"frames must have {expected[0]}×{expected[1]} pixels of 1 sample, {label} has "
            f"{found[0]}×{found[1]} of {found[2]}. {_EXPORT_AGAIN}",
            reason=Reason.MIXED_SIZE.value,
        )
    if file["numbers"][-1] > count:
        raise DicomError(
            f"file must hold {file['numbers'][-1]} frames, that of {label} says {count}. "
            f"{_EXPORT_AGAIN}",
            reason=Reason.TRUNCATED_PIXEL_DATA.value,
        )
    return syntax


def _read_size(dataset: Dataset) -> tuple[int, int, int]:
    return int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel") or 1)


def _iterate_frames(
    file: Mapping[str, Any], label: str, syntax: UID
) -> Generator[NDArray[Any], None, None]:
    """Decode the frames of one file, in the order of their numbers."""
    indices = [number - 1 for number in file["numbers"]]
    try:
        if syntax in JPEG_SYNTAXES:
            _check_ends(file["path"])
        yield from iterate_frames(file["path"], indices)
    except MemoryError:
        raise
    except Exception as error:
        if "allocate" in str(error):  # pydicom turns a decoder's MemoryError into text
            raise MemoryError from None
        name = "what the file says" if syntax.name == str(syntax) else syntax.name
        is_native = not syntax.is_private and not syntax.is_encapsulated
        reason = Reason.TRUNCATED_PIXEL_DATA if is_native else Reason.UNDECODABLE
        raise DicomError(
            f"pixel data must be complete and decodable as {name}, that of {label} is not "
            f"({type(error).__name__}). {_EXPORT_AGAIN}",
            reason=reason.value,
        ) from error


def _check_ends(path: str) -> None:
    """Reject a JPEG stream without an end: decoders fill in the missing pixels without an error."""
    for stream in iterate_streams(path):
        if END_OF_IMAGE not in stream[-64:]:
            raise EOFError("codestream has no end")


def _list_files(volume: DicomVolume) -> list[dict[str, Any]]:
    """Group the volume's frames by file: each file is opened once."""

    def key(pair: tuple[int, SourceFrame]) -> tuple[str, str]:
        return str(pair[1].file), pair[1].sop_instance_uid

    pairs = sorted(enumerate(volume.frames), key=lambda pair: (*key(pair), pair[1].number))
    files = []
    for (path, uid), group in groupby(pairs, key):
        members = list(group)
        files.append(
            {
                "path": path,
                "sop_instance_uid": uid,
                "numbers": [frame.number for _, frame in members],
                "indices": [index for index, _ in members],
            }
        )
    return files


def _rescale(stored: NDArray[Any], frame: SourceFrame, index: int) -> NDArray[np.float64]:
    """Apply slope and intercept, not to padding; reject what float32 cannot hold."""
    is_padding = np.zeros(stored.shape, bool)
    if frame.padding:
        is_padding = (stored >= frame.padding[0]) & (stored <= frame.padding[-1])
    image = stored[~is_padding] if is_padding.any() else stored
    if image.size == 0:
        return np.full(stored.shape, np.nan)
    ends = np.array([image.min(), image.max()], np.float64)  # a linear map is largest there
    with np.errstate(over="ignore", invalid="ignore"):
        ends = ends * frame.slope + frame.intercept
    if not np.isfinite(ends).all() or np.abs(ends).max() > LARGEST:
        raise DicomError(
            f"intensities must be finite float32 numbers, slope {frame.slope:g} and intercept "
            f"{frame.intercept:g} of frame {index + 1} of the volume make others. "
            "Correct RescaleSlope and RescaleIntercept, or leave the series out.",
            reason=Reason.INVALID_RESCALE.value,
        )
    rescaled = stored * np.float64(frame.slope) + np.float64(frame.intercept)
    rescaled[is_padding] = np.nan
    return rescaled
