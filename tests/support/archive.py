"""A DICOMweb archive made of files, for the fake service of the transfer tests."""

import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom

SERIES, INSTANCE = "0020000E", "00080018"


def listed(tag: str, *uids: str) -> list[Any]:
    """Items of an answer to QIDO-RS with nothing but a UID."""
    return [{tag: {"vr": "UI", "Value": [uid]}} for uid in uids]


class Archive:
    """Answers QIDO-RS and WADO-RS from files; a test may put its own answers in front."""

    def __init__(self, files: Sequence[Path], replies: Any) -> None:
        self.replies = replies
        self.content: dict[str, dict[str, bytes]] = {}
        for file in files:
            dataset = pydicom.dcmread(file, stop_before_pixels=True)
            self.study = str(dataset.StudyInstanceUID)
            series = self.content.setdefault(str(dataset.SeriesInstanceUID), {})
            series[str(dataset.SOPInstanceUID)] = file.read_bytes()
        self.first: list[Any] = []
        self.wrap = replies.multipart

    def __call__(self, request: Any) -> Any:
        if self.first:
            return self.first.pop(0)
        url = urllib.parse.urlsplit(request.path)
        offset = int(dict(urllib.parse.parse_qsl(url.query)).get("offset", 0))
        words = url.path.split("/")[2:]
        if len(words) == 3:
            return self.replies.json(listed(SERIES, *list(self.content)[offset:]))
        if len(words) == 5:
            return self.replies.json(listed(INSTANCE, *list(self.content[words[3]])[offset:]))
        return self.wrap(self.content[words[3]][words[5]])
