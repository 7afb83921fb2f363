"""One of every kind of DICOM object that we write, made from a phantom, and what is in it."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.datadict import dictionary_description
from pydicom.tag import BaseTag
from pydicom.uid import UID

from grata_monai.phantom import PhantomCase, make_case
from grata_monai.phantom.dicom import write_series
from grata_monai.read.dicom.triage import triage
from grata_monai.record import SCHEMA_VERSION, Record
from grata_monai.write.dicom.capture import write_capture
from grata_monai.write.dicom.coded_concepts import read_segments
from grata_monai.write.dicom.measurements import write_measurements
from grata_monai.write.dicom.report import write_report
from grata_monai.write.dicom.rtstruct import write_rtstruct
from grata_monai.write.dicom.segmentation import (
    SEGMENTATION_KINDS,
    SegmentationOptions,
    write_segmentation,
)
from grata_monai.write.pictures.sheet import Sheet

__all__ = ["Example", "list_codes", "name_tag", "write_examples"]


@dataclass(frozen=True)
class Example:
    """One object, as it was written.

    Attributes:
        name: Of its kind, short enough for the head of a column.
        option: What has to be asked for.
        dataset: Read back, with its file meta information.
    """

    name: str
    option: str
    dataset: Dataset

    @property
    def syntax(self) -> UID:
        """Its transfer syntax."""
        return UID(self.dataset.file_meta.TransferSyntaxUID)


def write_examples(metadata: Path) -> list[Example]:
    """Write every kind of object from one small phantom, and read it back.

    Args:
        metadata: The bundle's ``metadata.json``, for the segments' codes.

    Returns:
        Segmentations first, in the order of `SEGMENTATION_KINDS`.

    Raises:
        DicomError: If the metadata name no segments.
    """
    case = make_case(0, spacing=(4.0, 4.0, 6.0), spatial_shape=(32, 32, 8))
    with tempfile.TemporaryDirectory() as folder:
        return list(_write(case, Path(folder), metadata))


def list_codes(dataset: Dataset) -> set[tuple[str, str, str]]:
    """Collect every coded term of an object: scheme, value, meaning."""
    found = set()
    for element in dataset.iterall():
        if element.VR == "SQ":
            for item in element.value:
                if "CodeValue" in item and "CodeMeaning" in item:
                    found.add((item.CodingSchemeDesignator, str(item.CodeValue), item.CodeMeaning))
    return found


def name_tag(tag: BaseTag) -> str:
    """Write a tag and its name: ``(0010,0020) Patient ID``."""
    return f"({tag.group:04X},{tag.element:04X}) {dictionary_description(tag)}"


def _write(case: PhantomCase, folder: Path, metadata: Path) -> Iterable[Example]:
    write_series(folder / "source", case.image, case.affine_ras)
    (volume,) = triage(folder / "source").volumes
    masks = np.ascontiguousarray(np.transpose(case.label, (2, 1, 0)).astype(np.uint8))
    terms, record = read_segments(metadata), _make_record()
    sheet = Sheet(
        voxels=np.transpose(case.image, (2, 1, 0)).astype(np.float32),
        mask=masks,
        volume=volume,
        record=record,
        segments=terms,
    )
    path = folder / "object.dcm"
    for kind in SEGMENTATION_KINDS:
        segmentation = write_segmentation(
            masks,
            volume,
            segments=terms,
            record=record,
            path=path,
            probabilities=masks[None].astype(np.float32),
            options=SegmentationOptions(kind=kind),
        )
        option = "always, by default" if kind == "BINARY" else f"`kind` `{kind}`"
        yield Example(kind, option, pydicom.dcmread(path))
    write_measurements(
        masks, volume, segments=terms, record=record, path=path, segmentation=segmentation
    )
    yield Example("SR", "`also` `measurements`", pydicom.dcmread(path))
    write_capture(sheet, path=path)
    yield Example("SC", "`also` `capture`", pydicom.dcmread(path))
    write_report(sheet, path=path)
    yield Example("PDF", "`also` `report`", pydicom.dcmread(path))
    write_rtstruct(masks, volume, segments=terms, record=record, path=path)
    yield Example("RTSTRUCT", "`also` `rtstruct`", pydicom.dcmread(path))


def _make_record() -> Record:
    """Of an invented case: only the objects' attributes are looked at."""
    return Record(
        schema_version=SCHEMA_VERSION,
        outcome="source",
        reason="example",
        recipe={"name": "source"},
        recipe_sha256=sha256(b"recipe").hexdigest(),
        weights={"before": sha256(b"weights").hexdigest()},
        parameters={"count": 0, "groups": [], "names": []},
        statistics={},
        views={"weak": [], "prediction": [], "focus": [], "dropped": {}},
        windows={},
        steps=(),
        change={"dice": 1.0, "source_voxels": 1, "final_voxels": 1, "volume_ratio": 1.0},
        environment={"device": "cpu", "versions": {}},
        seconds={},
    )
