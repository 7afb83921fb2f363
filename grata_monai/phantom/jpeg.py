"""JPEG as DICOM has it, where pydicom has no encoder: lossless, baseline, high-throughput."""

import io
import struct

import numpy as np
from numpy.typing import NDArray

__all__ = ["encode_baseline", "encode_high_throughput", "encode_lossless"]

CODE_BITS = 5  # one length for all 17 categories: no table to optimise, and valid
CATEGORIES = 17


def encode_lossless(frame: NDArray[np.unsignedinteger], *, bits: int) -> bytes:
    """Encode one frame without loss, each pixel predicted by its left neighbour.

    Args:
        frame: Pixels, shape (rows, columns), below 2**`bits`.
        bits: Precision, 2 to 16.

    Returns:
        A JPEG stream of process 14, selection value 1.

    Source:
        ITU-T T.81 (1992), annex H.
    """
    rows, columns = frame.shape
    size = struct.pack(">BHHB3B", bits, rows, columns, 1, 1, 0x11, 0)
    counts = bytes(CATEGORIES if length == CODE_BITS else 0 for length in range(1, 17))
    return b"".join(
        [
            b"\xff\xd8",
            _segment(0xC3, size),
            _segment(0xC4, b"\x00" + counts + bytes(range(CATEGORIES))),
            _segment(0xDA, bytes([1, 1, 0x00, 1, 0, 0])),
            _pack(_differences(frame.astype(np.int64), bits)).replace(b"\xff", b"\xff\x00"),
            b"\xff\xd9",
        ]
    )


def encode_baseline(frame: NDArray[np.uint8]) -> bytes:
    """Encode one frame of 8 bits, with loss unless every 8×8 block has one value.

    Args:
        frame: Pixels, shape (rows, columns).

    Returns:
        A JPEG stream of process 1.

    Raises:
        ImportError: If Pillow is not installed.
    """
    from PIL import Image  # noqa: PLC0415  # needed for this syntax only

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).save(stream, format="JPEG", quality=100)
    return stream.getvalue()


def encode_high_throughput(frame: NDArray[np.integer]) -> bytes:
    """Encode one frame as High-Throughput JPEG 2000, without loss.

    Args:
        frame: Pixels of 8 or 16 bits, shape (rows, columns).

    Returns:
        A codestream of ISO/IEC 15444-15.

    Raises:
        ImportError: If imagecodecs is not installed.
    """
    import imagecodecs  # noqa: PLC0415  # of the extra `dev`; needed for this syntax only

    return bytes(imagecodecs.htj2k_encode(frame, reversible=True))


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _differences(frame: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    predicted = np.empty_like(frame)
    predicted[:, 1:] = frame[:, :-1]
    predicted[1:, 0] = frame[:-1, 0]
    predicted[0, 0] = 1 << (bits - 1)
    signed = (frame - predicted + 32768) % 65536 - 32768
    return np.where(signed == -32768, 32768, signed).ravel()


def _pack(differences: NDArray[np.int64]) -> bytes:
    """Write each difference as the code of its category and, up to 15, that many bits."""
    category = np.ceil(np.log2(np.abs(differences) + 1)).astype(np.int64)
    extra = np.where(category == 16, 0, category)
    offset = np.where(differences < 0, (1 << category) - 1, 0)
    values = (category << extra) | np.where(extra > 0, differences + offset, 0)
    bits = np.unpackbits(values.astype(">u4").view(np.uint8).reshape(-1, 4), axis=1)
    kept = bits[np.arange(32) >= 32 - (CODE_BITS + extra)[:, None]]
    return np.packbits(np.append(kept, np.ones(-kept.size % 8, dtype=np.uint8))).tobytes()
