"""Fuzz DICOM parsing, triage and decoding: a series of which one file is changed.

Every answer is a volume of finite voxels on a finite grid, or a rejection with a remedy. Nothing
but `DicomError` may leave the parser, and the patient's name reaches neither log nor output.
Parsing and decoding run in this process, which is fast; so only decoders that cannot crash it.
"""

import io
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
from fuzzing import Judge, Target
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from grata_monai.core.errors import DicomError
from grata_monai.core.limits import MEBIBYTE, Limits
from grata_monai.phantom.dicom import SeriesOptions, make_series
from grata_monai.read.dicom import decode, headers
from grata_monai.read.dicom.load import read_volume
from grata_monai.read.dicom.rejection import REMEDIES
from grata_monai.read.dicom.triage import Triage, triage

__all__ = ["DICOM", "UnforeseenError", "parse_here"]

LIMITS = Limits(pixel_budget_bytes=64 * MEBIBYTE, memory_bytes=512 * MEBIBYTE, seconds=5.0)
NAME = "JANE^DOE"
KINDS: dict[str, dict[str, Any]] = {
    "explicit": {},
    "implicit": {"transfer_syntax": ImplicitVRLittleEndian, "modality": "CT"},
    "big_endian": {"transfer_syntax": ExplicitVRBigEndian},
    "rle": {"transfer_syntax": RLELossless},
    "philips": {"vendor": "philips", "scales": (0.5, 0.25, 1.0)},
    "enhanced": {"is_enhanced": True, "vendor": "philips"},
    "enhanced_ct": {"is_enhanced": True, "vendor": "siemens", "modality": "CT"},
}
TOKENS = (
    b"\x28\x00\x10\x00US\x02\x00",  # Rows
    b"\x28\x00\x08\x00IS\x04\x00",  # NumberOfFrames
    b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\xfe\xff\xdd\xe0\x00\x00\x00\x00",
    b"\xe0\x7f\x10\x00OW\x00\x00\xff\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"ISO 2022 IR 87\\",
    b"\x1b$B",
    NAME.encode(),
)


def _make(options: dict[str, Any]) -> list[bytes]:
    image = np.arange(6 * 5 * 3, dtype=np.float64).reshape(6, 5, 3)
    contents = []
    for dataset in make_series(image, np.eye(4), options=SeriesOptions(**options)):
        dataset.PatientName = dataset.SeriesDescription = NAME
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        contents.append(buffer.getvalue())
    return contents


SERIES = {name: _make(options) for name, options in KINDS.items()}


class UnforeseenError(Exception):
    """Something but `DicomError` left the parser or the decoder."""


def parse_here(function: Any, requests: Iterable[Any], **_: Any) -> Iterator[Any]:
    """Parse in this process; as for the sandbox, `DicomError` alone is an answer."""
    for request in requests:
        try:
            yield function(request)
        except DicomError as error:
            yield error
        except Exception as error:
            raise UnforeseenError(type(error).__name__) from error


def _decode(function: Any, request: Any, **_: Any) -> Iterator[Any]:
    try:
        yield from function(request)
    except (DicomError, MemoryError):
        raise
    except Exception as error:
        raise UnforeseenError(type(error).__name__) from error


@contextmanager
def open_dicom(folder: Path) -> Iterator[Judge]:
    """Triage series of the folder."""
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    logging.getLogger().addHandler(handler)

    def judge(name: str, content: bytes) -> tuple[str, str]:
        heard.seek(0)
        heard.truncate()
        with TemporaryDirectory(dir=folder) as place, warnings.catch_warnings(record=True) as said:
            for number, file in enumerate([content, *SERIES[name][1:]]):
                (Path(place) / f"{number}.dcm").write_bytes(file)
            try:
                answer, finding, shown = _judge_folder(Path(place))
            except UnforeseenError as error:
                return "surprise", f"{error} in parser or decoder"
        text = "".join([heard.getvalue(), shown, *(str(each.message) for each in said)])
        return answer, "a name in log or output" if "JANE" in text else finding

    with (
        mock.patch.object(headers, "run_each", parse_here),
        mock.patch.object(decode, "run_parts", _decode),
    ):
        try:
            yield judge
        finally:
            logging.getLogger().removeHandler(handler)


def _judge_folder(place: Path) -> tuple[str, str, str]:
    found = triage(place, limits=LIMITS)
    shown = found.to_json() + "".join(r.message for r in found.rejections)
    answers = [rejection.reason.value for rejection in found.rejections]
    finding = "" if _has_remedies(found) else "no remedy"
    for volume in found.volumes:
        try:
            image = read_volume(volume, limits=LIMITS)
        except DicomError as error:
            answers.append(error.reason)
            shown += str(error)
            continue
        answers.append("read")
        is_sound = image.shape[1:] == volume.spatial_shape or volume.tilt_degrees > 0
        if not (
            is_sound
            and np.isfinite(image.numpy()).all()
            and np.isfinite(image.affine.numpy()).all()
        ):
            finding = "an impossible image"
    return " ".join(sorted(set(answers))) or "foreign", finding, shown


def _has_remedies(found: Triage) -> bool:
    return all(r.message and r.remedy == REMEDIES[r.reason] for r in found.rejections)


DICOM = Target({name: files[0] for name, files in SERIES.items()}, open_dicom, TOKENS)
