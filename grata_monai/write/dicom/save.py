"""Write the folder of a case: segmentation and record always, other objects on request."""

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from grata_monai.core.errors import OutputError
from grata_monai.core.files import Typed, as_path
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.load import map_probabilities_to_frames, map_to_frames
from grata_monai.read.dicom.volume import DicomVolume
from grata_monai.read.outputs import RECORD, SEGMENTATION
from grata_monai.record import Record
from grata_monai.record.types import DicomObject, DicomSeries
from grata_monai.write.commit import claim, staged
from grata_monai.write.dicom.case import SegmentedCase
from grata_monai.write.dicom.coded_concepts import Segment
from grata_monai.write.dicom.instance import Instance
from grata_monai.write.dicom.outputs import OUTPUTS
from grata_monai.write.dicom.segmentation import SegmentationOptions, write_segmentation

__all__ = ["OutputOptions", "SaveDicomd"]


@dataclass(frozen=True)
class OutputOptions:
    """Which objects are written for a case, and how its segmentation is.

    Attributes:
        also: Names of `OUTPUTS`: the objects besides segmentation and record.
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
            near = get_close_matches(unknown[0], OUTPUTS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"also must be among {', '.join(OUTPUTS)}, got {unknown}.{hint}")
        SegmentationOptions(kind=self.kind)


class SaveDicomd(MapTransform):
    """Write ``<volume's name>/`` with ``segmentation.dcm``, ``record.json`` and further objects.

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
        segments: Sequence[Segment],
        output_dir: Typed,
        output: Mapping[str, Any] | OutputOptions | None = None,
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
        self.output_dir = as_path(output_dir, name="output_dir")
        options = output if isinstance(output, OutputOptions) else OutputOptions(**(output or {}))
        self.output = options
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
        case = self._collect(saved, volume, Record.from_json(text))
        target = str(self.output_dir / volume.name)
        mask_sha256 = hashlib.sha256(case.masks.tobytes()).hexdigest()
        if saved.get("output_folder") == target:
            _check_same(saved.get("mask_sha256"), mask_sha256, volume.name)
            return saved
        with claim(self.output_dir) as output_dir, staged(output_dir) as stage:
            folder = stage / volume.name
            folder.mkdir()
            written = self._write_objects(case, folder)
            described = self._describe(case, written, mask_sha256)
            made_from = {"made_from": str(saved.get("made_from", ""))}
            content = {**json.loads(text), "dicom": asdict(described) | made_from}
            record = json.dumps(content, indent=2, sort_keys=True) + "\n"
            (folder / RECORD).write_text(record, encoding="utf-8")
        return {**saved, "output_folder": target, "mask_sha256": mask_sha256}

    def _find_volume(self, data: Mapping[Hashable, Any]) -> DicomVolume:
        name = data.get("case")
        if name not in self.volumes:
            raise OutputError(
                f"case must name one of the {len(self.volumes)} volumes, it does not. "
                "Take cases and volumes from one triage."
            )
        return self.volumes[str(name)]

    def _collect(
        self, data: dict[Hashable, Any], volume: DicomVolume, record: Record
    ) -> SegmentedCase:
        source = data.get(self.source_key)
        return SegmentedCase(
            masks=_on_frames(data[self.first_key(data)], volume),
            volume=volume,
            segments=self.segments,
            record=record,
            source=None if source is None else _on_frames(source, volume),
            probabilities=self._probabilities(data, volume),
            limits=self.limits,
        )

    def _write_objects(self, case: SegmentedCase, folder: Path) -> list[Instance]:
        options = SegmentationOptions(self.output.kind, self.output.omit_empty_frames)
        segmentation = write_segmentation(case, path=folder / SEGMENTATION, options=options)
        case = replace(case, segmentation=segmentation)
        wanted = [output for name, output in OUTPUTS.items() if name in self.output.also]
        others = [output.write(case, path=folder / f"{output.name}.dcm") for output in wanted]
        return [segmentation, *others]

    def _probabilities(self, data: Mapping[Hashable, Any], volume: DicomVolume) -> Any:
        if self.output.kind != "FRACTIONAL":
            return None
        maps = data[self.probabilities_key]
        values = map_probabilities_to_frames(maps.as_tensor(), maps.affine, volume).clip(0, 1)
        return values[-len(self.segments) :]  # a softmax network's first channel is background

    def _describe(
        self, case: SegmentedCase, written: Sequence[Instance], mask_sha256: str
    ) -> DicomSeries:
        volume, keeps = case.volume, self.phi == "keep"
        return DicomSeries(
            study=volume.study_uid if keeps else _hash(volume.study_uid),
            series=volume.series_uid if keeps else _hash(volume.series_uid),
            frames=len(volume.frames),
            notes=volume.notes,
            mask_sha256=mask_sha256,
            # an instance's UID follows from the content alone and does not identify the patient
            objects=tuple(
                DicomObject(item.path.name, item.sop_class_uid, item.sop_instance_uid)
                for item in written
            ),
        )


def _check_same(written: Any, mask_sha256: str, name: str) -> None:
    """Refuse to write a case twice in one run, but for a writer that has nothing else to say."""
    if written != mask_sha256:
        raise OutputError(
            f"a case must be written once, {name} was written by another writer before. Leave one "
            "writer in the configuration."
        )


def _on_frames(label_map: torch.Tensor, volume: DicomVolume) -> Any:
    affine = label_map.affine if isinstance(label_map, MetaTensor) else volume.affine_ras
    return map_to_frames(torch.as_tensor(label_map)[0], affine, volume)


def _hash(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()
