"""Fuzz a DICOMweb service's answers: a fetch is whole, or refused by `TransferError`.

One answer of an archive with three instances is changed, its head included. The series' own count
stands in the answer, so that a list that lost an instance must be refused.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any
from unittest import mock

import numpy as np
import pydicom
from archive import INSTANCE, SERIES, listed
from fuzz_dicom import parse_here
from fuzzing import Judge, Target
from hostile_peer import Wire, hostile_peer

from grata_monai.core.errors import TransferError
from grata_monai.phantom.dicom import make_series
from grata_monai.read.dicom import headers
from grata_monai.transfer.exchange import fetch
from grata_monai.transfer.retry import Retry

__all__ = ["DICOMWEB"]

ONE_SECOND = Retry(attempts=1, connect_seconds=1, answer_seconds=1)
COUNT = "00201209"
MULTIPART = 'multipart/related; type="application/dicom"; boundary=edge'
TOKENS = (
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"HTTP/1.1 404 Not Found\r\n\r\n",
    b"Location: http://127.0.0.1:1/\r\n",
    b"\r\n--edge--",
    b"\r\n--edge\r\n\r\n",
    b'{"vr":"UI"}',
    b"[]",
)


def _write(dataset: Any) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


DATASETS = make_series(np.arange(6 * 5 * 3, dtype=np.float64).reshape(6, 5, 3), np.eye(4))
STUDY, SERIES_UID = (str(DATASETS[0][k].value) for k in ("StudyInstanceUID", "SeriesInstanceUID"))
FILES = {str(dataset.SOPInstanceUID): _write(dataset) for dataset in DATASETS}


def _reply(body: bytes, kind: str = "application/dicom+json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _list_series() -> bytes:
    (item,) = listed(SERIES, SERIES_UID)
    return _reply(json.dumps([item | {COUNT: {"vr": "IS", "Value": [len(FILES)]}}]).encode())


def _wrap(file: bytes) -> bytes:
    part = b"--edge\r\nContent-Type: application/dicom\r\n\r\n"
    return _reply(part + file + b"\r\n--edge--", MULTIPART)


FIRST = next(iter(FILES))
SEEDS = {
    "series": _list_series(),
    "instances": _reply(json.dumps(listed(INSTANCE, *FILES)).encode()),
    "instance": _wrap(FILES[FIRST]),
}


def _name_question(path: str) -> str:
    """Which seed answers a request; empty for what lies behind the end of a list, and others."""
    words = path.split("?", maxsplit=1)[0].strip("/").split("/")
    if "offset=" in path and "offset=0" not in path:
        return ""
    if words[-1] == FIRST:
        return "instance"
    return words[-1] if words[-1] in SEEDS else ""


def _answer(path: str) -> bytes:
    name = _name_question(path)
    uid = path.split("?", maxsplit=1)[0].rstrip("/").rpartition("/")[2]
    return SEEDS[name] if name else _wrap(FILES[uid]) if uid in FILES else _reply(b"[]")


@contextmanager
def open_dicomweb(folder: Path) -> Iterator[Judge]:
    """Fetch from a service on the loopback interface."""
    changed: dict[str, bytes] = {}

    def behave(wire: Wire) -> None:
        while request := wire.read_http():
            path = request.split()[1].decode()
            name = _name_question(path)
            wire.send(changed.get(name, _answer(path)))
            if name in changed:  # what is left to say would be waited for
                wire.connection.close()
                return

    with (
        hostile_peer(behave) as port,
        mock.patch.object(headers, "run_each", parse_here),
    ):

        def judge(name: str, content: bytes) -> tuple[str, str]:
            changed.clear()
            changed[name] = content
            out = folder / "out"
            try:
                fetch(f"dicomweb://127.0.0.1:{port}?study={STUDY}", out, retry=ONE_SECOND)
            except TransferError as error:
                left = "" if not list(folder.iterdir()) else "something was left"
                return "TransferError", left or ("" if STUDY not in str(error) else "a UID is told")
            uids = {str(pydicom.dcmread(f, force=True).SOPInstanceUID) for f in out.iterdir()}
            rmtree(out)
            return "fetched", "" if uids == set(FILES) else "an instance was lost"

        yield judge


DICOMWEB = Target(SEEDS, open_dicomweb, TOKENS)
