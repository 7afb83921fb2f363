"""Write the folder of a case: segmentation and record always, other objects by option."""

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from grata_monai.core.errors import OutputError
from grata_monai.core.files import atomic_folder, ensure_writable
from grata_monai.read.dicom.decode import decode_volume
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.load import map_probabilities_to_frames, map_to_frames
from grata_monai.read.dicom.volume import DicomVolume
from grata_monai.record import Record
from grata_monai.write.dicom.capture import write_capture
from grata_monai.write.dicom.coded_concepts import SegmentTerm
from grata_monai.write.dicom.instance import WrittenObject
from grata_monai.write.dicom.measurements import write_measurements
from grata_monai.write.dicom.report import write_report
from grata_monai.write.dicom.rtstruct import write_rtstruct
from grata_monai.write.dicom.segmentation import SegmentationOptions, write_segmentation
from grata_monai.write.pictures.sheet import Sheet

__all__ = ["OUTPUTS", "DicomOutput", "SaveDicomd"]

OUTPUTS = ("measurements", "capture", "report", "rtstruct")


@dataclass(frozen=True)
class DicomOutput:
    """What is written for a case besides its segmentation and record.

    Attributes:
        also: Any of ``measurements`` (TID 1500 structured report), ``capture`` (contact sheet),
            ``report`` (encapsulated PDF) and ``rtstruct``.
        kind: Of the segmentation: ``BINARY``, ``LABELMAP`` or ``FRACTIONAL``.
        omit_empty_frames: Whether the segmentation leaves out frames without a segment.

    Raises:
        ValueError: If a value is not allowed.
    """

    also: Sequence[str] = ()
    kind: str = "BINARY"
    omit_empty_frames: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        also = [self.also] if isinstance(self.also, str) else self.also
        object.__setattr__(self, "also", tuple(also))
        unknown = sorted(set(self.also) - set(OUTPUTS))
        if unknown:
            raise ValueError(f"also must be among {', '.join(OUTPUTS)}, got {unknown}.")
        SegmentationOptions(kind=self.kind)


class SaveDicomd(MapTransform):
    """Write ``<volume's name>/``: ``segmentation.dcm``, ``record.json``, and what else is asked.

    The last transform of postprocessing, after `Invertd`. The folder appears whole or not at all.

    Args:
        keys: Of the prediction: one key, label map (1, *s) on the volume's grid.
        volumes: What triage accepted; the case's name says which one it is.
        segments: What the labels mean.
        output_dir: Where the folders of the cases are made.
        output: What to write.
        phi: ``hash``: the record names study and series by hashes; ``keep``: by their UIDs.
        limits: For decoding pixels again, which pictures need.
        source_key: Of the source network's label map, drawn beside the final one if it is there.
        probabilities_key: Of the probabilities (k, *s), which ``FRACTIONAL`` needs.
        record_key: Of the record's JSON text.
    """

    def __init__(  # noqa: PLR0913  # a transform's arguments are its configuration
        self,
        keys: KeysCollection,
        volumes: Sequence[DicomVolume],
        segments: Sequence[SegmentTerm],
        output_dir: str | Path,
        output: Mapping[str, Any] | DicomOutput | None = None,
        *,
        phi: str = "hash",
        limits: Limits | None = None,
        source_key: str = "source",
        probabilities_key: str = "probabilities",
        record_key: str = "grata",
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must be one key, got {self.keys}. Use one writer per mask.")
        if phi not in ("hash", "keep"):
            raise ValueError(f"phi must be 'hash' or 'keep', got {phi!r}.")
        self.phi = phi
        self.volumes = {volume.name: volume for volume in volumes}
        self.segments = tuple(segments)
        self.output_dir = Path(output_dir)
        self.output = output if isinstance(output, DicomOutput) else DicomOutput(**(output or {}))
        self.limits = limits or Limits()
        self.source_key, self.probabilities_key = source_key, probabilities_key
        self.record_key = record_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the folder written, ``output_folder``."""
        saved = dict(data)
        volume, text = self._find_volume(saved), saved.get(self.record_key)
        if not isinstance(text, str):
            raise OutputError(
                f"a mask must have its record, data of {volume.name} have no "
                f"{self.record_key!r}. Put LiftRecordd first in postprocessing, and predict with "
                "GraTaInferer."
            )
        mask = _on_frames(saved[self.first_key(saved)], volume)
        with atomic_folder(ensure_writable(self.output_dir) / volume.name) as folder:
            written = self._write_objects(folder, mask, volume, text, saved)
            described = self._describe(volume, mask.tobytes(), written)
            content = {**json.loads(text), "dicom": described}
            record = json.dumps(content, indent=2, sort_keys=True) + "\n"
            (folder / "record.json").write_text(record, encoding="utf-8")
        return {**saved, "output_folder": str(self.output_dir / volume.name)}

    def _find_volume(self, data: Mapping[Hashable, Any]) -> DicomVolume:
        name = data.get("case")
        if name not in self.volumes:
            raise OutputError(
                f"case must name one of the {len(self.volumes)} volumes, it does not. "
                "Take cases and volumes from one triage."
            )
        return self.volumes[str(name)]

    def _write_objects(
        self, folder: Path, mask: Any, volume: DicomVolume, text: str, data: Mapping[Hashable, Any]
    ) -> list[WrittenObject]:
        record = Record.from_json(text)
        given: dict[str, Any] = {"segments": self.segments, "record": record}
        segmentation = write_segmentation(
            mask,
            volume,
            path=folder / "segmentation.dcm",
            probabilities=self._probabilities(data, volume),
            options=SegmentationOptions(self.output.kind, self.output.omit_empty_frames),
            **given,
        )
        written = [segmentation]
        if "measurements" in self.output.also:
            written.append(
                write_measurements(
                    mask,
                    volume,
                    segmentation=segmentation,
                    path=folder / "measurements.dcm",
                    **given,
                )
            )
        if "rtstruct" in self.output.also:
            path = folder / "rtstruct.dcm"
            written.append(write_rtstruct(mask, volume, path=path, **given))
        if {"capture", "report"} & set(self.output.also):
            sheet = self._draw(mask, volume, record, data)
            for name, write in (("capture", write_capture), ("report", write_report)):
                if name in self.output.also:
                    written.append(write(sheet, path=folder / f"{name}.dcm"))
        return written

    def _probabilities(self, data: Mapping[Hashable, Any], volume: DicomVolume) -> Any:
        if self.output.kind != "FRACTIONAL":
            return None
        maps = data[self.probabilities_key]
        values = map_probabilities_to_frames(maps.as_tensor(), maps.affine, volume).clip(0, 1)
        return values[-len(self.segments) :]  # a softmax network's first channel is background

    def _draw(
        self, mask: Any, volume: DicomVolume, record: Record, data: Mapping[Hashable, Any]
    ) -> Sheet:
        source = data.get(self.source_key)
        return Sheet(
            voxels=decode_volume(volume, limits=self.limits).transpose(2, 1, 0),
            mask=mask,
            volume=volume,
            record=record,
            segments=self.segments,
            source=None if source is None else _on_frames(source, volume),
        )

    def _describe(
        self, volume: DicomVolume, mask: bytes, written: Sequence[WrittenObject]
    ) -> dict[str, Any]:
        keeps = self.phi == "keep"
        return {
            "study": volume.study_uid if keeps else _hash(volume.study_uid),
            "series": volume.series_uid if keeps else _hash(volume.series_uid),
            "frames": len(volume.frames),
            "notes": list(volume.notes),
            "mask_sha256": hashlib.sha256(mask).hexdigest(),
            "objects": [
                {
                    "file": item.path.name,
                    "sop_class_uid": item.sop_class_uid,
                    # made of content alone: it names an object of ours, not the patient
                    "sop_instance_uid": item.sop_instance_uid,
                }
                for item in written
            ],
        }


def _on_frames(label_map: torch.Tensor, volume: DicomVolume) -> Any:
    affine = label_map.affine if isinstance(label_map, MetaTensor) else volume.affine_ras
    return map_to_frames(torch.as_tensor(label_map)[0], affine, volume)


def _hash(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()
