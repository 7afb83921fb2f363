"""What MONAI Label answers beside the mask: light, verdict, record, and the case's report."""

import json
import logging
import os
import re
from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Transform

from grata_monai.read.cases import strip_extension
from grata_monai.record import Record
from grata_monai.record.sentences import describe_record
from grata_monai.report.handler import ReportHandler
from grata_monai.report.index import write_index
from grata_monai.report.pages import write_case
from grata_monai.report.rows import FOLDER

__all__ = ["PAGES", "REPORTS_FOLDER", "WRITABLE", "AnswerRecordd", "WriteReportd"]

logger = logging.getLogger(__name__)

PAGES = "/reports"
"""Where the server shows what `WriteReportd` writes."""
REPORTS_FOLDER = "GRATA_LABEL_REPORTS"
"""Environment variable that names the folder; the server sets it, a bundle cannot."""

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


class WriteReportd(Transform):
    """Write the case's page, and answer where the server shows it. Behind `AnswerRecordd`.

    A page that fails is a warning in the log. None is made where the client asked for no
    adaptation, or the host names no folder for pages.

    Args:
        names: Of the labels, by their numbers.
        result_key: Of the answer.
    """

    def __init__(self, names: Mapping[str, str], result_key: str = "result") -> None:
        self.names, self.result_key = names, result_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with ``report`` in the answer."""
        answered = dict(data)
        path, folder = answered.get("image_path"), os.environ.get(REPORTS_FOLDER)
        if not (isinstance(path, str) and folder) or answered.get("adapt") is False:
            return answered
        name = re.sub(r"[^\w.+-]", "_", strip_extension(path.rstrip("/").rpartition("/")[2]))
        item = {str(key): value for key, value in answered.items()}
        try:
            case = ReportHandler(folder, names=self.names).collect(name, item)
            write_case(case, folder, is_drawn=False)
            write_index(folder)
        except Exception as error:  # whatever it is, there is a mask to answer with
            logger.warning("no report could be made: %s", type(error).__name__)
            logger.debug("no report", exc_info=True)
            return answered
        report = f"{PAGES}/{FOLDER}/{name}.html"
        answered[self.result_key] = {**answered[self.result_key], "report": report}
        return answered


def _choose_extension(data: Mapping[Hashable, Any]) -> str:
    """Take what the client asks for, else the image's ending; a DICOM folder's name has none."""
    path = str(data["image_path"]).lower()
    own = next((ending for ending in WRITABLE if path.endswith(ending)), WRITABLE[0])
    return str(data.get("result_extension") or own)
