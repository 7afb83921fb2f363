"""What MONAI Label answers beside the mask: the light, the verdict, and the whole record."""

import json
from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Transform

from grata_monai.record import Record
from grata_monai.record.sentences import describe_record

__all__ = ["WRITABLE", "AnswerRecordd"]

WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Formats of a mask as one file, the one that is taken without a wish first."""


class AnswerRecordd(Transform):
    """Put the record where MONAI Label looks for what it answers beside the mask.

    A host that does not look there is not disturbed. Behind `LiftRecordd`. For MONAI Label it also
    chooses the mask's format, where the client did not.

    Args:
        record_key: Of the record's JSON text.
        result_key: Where the answer goes.
    """

    def __init__(self, record_key: str = "grata", result_key: str = "result") -> None:
        self.record_key, self.result_key = record_key, result_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with ``light``, ``verdict``, ``outcome``, ``reason`` and ``record``."""
        answered = dict(data)
        text = answered.get(self.record_key)
        if isinstance(text, str):
            record = Record.from_json(text)
            answered[self.result_key] = {
                "light": str(record.verdict.light),
                "verdict": describe_record(record),
                "outcome": str(record.outcome),
                "reason": record.reason,
                "record": json.loads(text),
            }
        if isinstance(answered.get("image_path"), str):  # the host is MONAI Label
            answered["result_extension"] = _choose_extension(answered)
            answered["result_dtype"] = answered.get("result_dtype") or "uint8"
        return answered


def _choose_extension(data: Mapping[Hashable, Any]) -> str:
    """Take what the client asks for, else the image's ending; a DICOM folder's name has none."""
    path = str(data["image_path"]).lower()
    own = next((ending for ending in WRITABLE if path.endswith(ending)), WRITABLE[0])
    return str(data.get("result_extension") or own)
