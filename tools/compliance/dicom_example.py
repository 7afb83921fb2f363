"""One of every kind of DICOM object that we write, made from a phantom, and what is in it."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
from grata_monai.record.types import (
    BundleVerification,
    Change,
    Environment,
    MovingParameters,
    OutcomeName,
    Precision,
    Statistics,
    Views,
    WeightHashes,
    Windows,
)
from grata_monai.write.dicom.case import SegmentedCase
from grata_monai.write.dicom.coded_concepts import read_segments
from grata_monai.write.dicom.outputs import OUTPUTS
from grata_monai.write.dicom.segmentation import (
    SEGMENTATION_KINDS,
    SegmentationOptions,
    write_segmentation,
)

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
        Segmentations in the order of `SEGMENTATION_KINDS`, then all of `OUTPUTS`.

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


def _write(phantom: PhantomCase, folder: Path, metadata: Path) -> Iterable[Example]:
    write_series(folder / "source", phantom.image, phantom.affine_ras)
    (volume,) = triage(folder / "source").volumes
    masks = np.ascontiguousarray(np.transpose(phantom.label, (2, 1, 0)).astype(np.uint8))
    case = SegmentedCase(
        masks=masks,
        volume=volume,
        segments=read_segments(metadata),
        record=_make_record(),
        probabilities=masks[None].astype(np.float32),
        voxels=np.transpose(phantom.image, (2, 1, 0)).astype(np.float32),
    )
    path = folder / "object.dcm"
    for kind in SEGMENTATION_KINDS:
        segmentation = write_segmentation(case, path=path, options=SegmentationOptions(kind=kind))
        option = "always, by default" if kind == "BINARY" else f"`kind` `{kind}`"
        yield Example(kind, option, pydicom.dcmread(path))
    for output in OUTPUTS.values():
        output.write(replace(case, segmentation=segmentation), path=path)
        yield Example(output.label, f"`also` `{output.name}`", pydicom.dcmread(path))


def _make_record() -> Record:
    """Of an invented case: only the objects' attributes are looked at."""
    return Record(
        schema_version=SCHEMA_VERSION,
        outcome=OutcomeName.SOURCE,
        reason="example",
        recipe={"name": "source"},
        recipe_sha256=sha256(b"recipe").hexdigest(),
        weights=WeightHashes(*[sha256(b"weights").hexdigest()] * 3),
        parameters=MovingParameters(),
        statistics=Statistics(),
        views=Views(),
        windows=Windows(),
        steps=(),
        change=Change(dice=1.0, source_voxels=1, final_voxels=1, volume_ratio=1.0),
        environment=Environment(
            "cpu",
            Precision("fp32", "fp32"),
            seed=0,
            threads=1,
            bundle=BundleVerification(True, "c" * 64, "", "example", "1.0"),
        ),
        seconds={},
    )
