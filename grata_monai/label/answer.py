"""What MONAI Label answers beside the mask: the light, the verdict, and the whole record."""

import json
from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Transform

__all__ = ["AnswerRecordd"]

EXTENSION = ".nii.gz"
WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")  # as one file


class AnswerRecordd(Transform):
    """Put the record where MONAI Label looks for what it answers beside the mask.

    A host that does not look there is not disturbed. Behind `LiftRecordd`.

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
            record = json.loads(text)
            answered[self.result_key] = {
                "light": record["verdict"]["light"],
                "verdict": record["verdict"]["reason"] or record["reason"],
                "outcome": record["outcome"],
                "reason": record["reason"],
                "record": record,
            }
        if _lacks_extension(answered):
            answered["result_extension"] = EXTENSION
        return answered


def _lacks_extension(data: Mapping[Hashable, Any]) -> bool:
    """MONAI Label ends the mask's name like the image's; that of a DICOM folder has no ending."""
    path = data.get("image_path")
    is_known = isinstance(path, str) and path.lower().endswith(WRITABLE)
    return isinstance(path, str) and not is_known and not data.get("result_extension")
