"""Decompress a file for a peer that takes no compressed one. Runs in the sandbox, writes no file.

Imports stay light: pydicom, and modules of ours that import no more.
"""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from grata_monai.core.errors import DicomError
from grata_monai.read.dicom.rejection import Reason

__all__ = ["decompress_file"]

_KEYWORDS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")


def decompress_file(request: Mapping[str, Any]) -> dict[str, Any]:
    """Make a copy in Explicit VR Little Endian.

    The instance keeps its UID, as decompression changes no pixel (DICOM PS3.5, annex A.4).

    Args:
        request: ``path`` of a file that is not deflated, and ``budget_bytes`` that its pixels may
            take.

    Returns:
        ``file``, the bytes of the copy.

    Raises:
        DicomError: If the pixels would take more.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(Path(request["path"]))
        size = int(dataset.get("NumberOfFrames") or 1)
        for keyword in _KEYWORDS:
            size *= int(dataset.get(keyword) or 1)
        if size > 8 * int(request["budget_bytes"]):
            raise DicomError(
                f"pixels must take at most {request['budget_bytes']} bytes to be decompressed for "
                f"this peer, they take {size // 8}. Let the peer accept them compressed.",
                reason=Reason.OVER_PIXEL_BUDGET.value,
            )
        dataset.decompress(generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        copy = io.BytesIO()
        dataset.save_as(copy, enforce_file_format=True)
    return {"file": np.frombuffer(copy.getvalue(), np.uint8)}
