"""Write a mask on its image's grid, together with the record of how it was made."""

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged
from monai.utils import MetaKeys
from numpy.typing import DTypeLike, NDArray

from grata_monai.core.errors import GeometryError, OutputError
from grata_monai.core.files import Typed, as_path, atomic_path
from grata_monai.read.cases import strip_extension
from grata_monai.read.outputs import RECORD_ENDING
from grata_monai.record.types import Mask, Output
from grata_monai.write.commit import claim, staged

__all__ = ["LiftRecordd", "SaveImageAndRecordd", "hash_labels", "write_label_map"]

AFFINE_TOLERANCE = 1e-3  # mm


def write_label_map(
    label_map: NDArray[Any] | torch.Tensor,
    *,
    affine_ras: NDArray[Any] | torch.Tensor,
    path: str | Path,
    dtype: DTypeLike = np.uint8,
) -> None:
    """Write a label map as NIfTI, whole or not at all; equal maps give equal bytes.

    Args:
        label_map: Whole numbers (*s).
        affine_ras: 4×4, voxel index to RAS in mm; becomes sform and qform.
        path: Ends in ``.nii`` or ``.nii.gz``.
        dtype: Of the voxels on disk.

    Raises:
        ValueError: If a label is no whole number or does not fit `dtype`.
        OutputError: If the file cannot be written.
    """
    labels = _as_labels(label_map, np.dtype(dtype))
    affine = _as_array(affine_ras).astype(np.float64)
    nifti = nib.Nifti1Image(labels, affine)
    nifti.header.set_xyzt_units("mm")
    nifti.set_qform(affine, code=1)
    nifti.set_sform(affine, code=1)
    with atomic_path(path) as temporary:
        nib.save(nifti, temporary)  # nibabel's gzip header has neither time nor file name


class LiftRecordd(MapTransform):
    """Take the record out of the prediction's meta data, which `Invertd` replaces.

    The first transform of postprocessing. ``pred.meta["grata"]`` (JSON text) becomes
    ``data[record_key]``. What the inferer was asked to keep follows, with the meta data of `pred`:
    ``pred.meta["grata_source"]`` (the source network's logits) becomes ``data["source"]``,
    ``pred.meta["grata_maps"]`` (what a report draws) ``data["maps"]``.

    Args:
        keys: Of the prediction, (k, *s).
        record_key: Where the record goes.
        allow_missing_keys: Whether to pass over missing keys.
    """

    def __init__(
        self, keys: KeysCollection, record_key: str = "grata", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.record_key = record_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with record and source beside the prediction."""
        lifted = dict(data)
        for key in self.key_iterator(lifted):
            pred = lifted[key]
            if not isinstance(pred, MetaTensor):
                continue
            meta = dict(pred.meta)
            record = meta.pop("grata", None)
            kept = {name: meta.pop(f"grata_{name}", None) for name in ("source", "maps")}
            lifted[key] = _with_meta(pred.as_tensor(), pred, meta)
            if record is not None:
                lifted[self.record_key] = record if isinstance(record, str) else record[0]
            for name, values in kept.items():
                if values is not None:
                    # hosts that index a batch of one instead of decollating it leave its first axis
                    one = values[0] if values.ndim > pred.ndim else values
                    lifted[name] = _with_meta(torch.as_tensor(one), pred, meta)
        return lifted


@SaveImaged.register
class SaveImageAndRecordd(MapTransform):
    """Write ``<case>_seg.nii.gz`` and ``<case>_record.json``, all of a case's files or none.

    The last transform of postprocessing, after `Invertd`. Hosts that write themselves take it out:
    MONAI Deploy because of "SaveImage" in its name, MONAI Label because it is a `SaveImaged` to
    `isinstance`.

    Args:
        keys: Of the prediction, whole numbers (1, *s) on the image's grid; further keys are
            further masks of the case.
        output_dir: Where to write; made if missing.
        record_key: Of the record's JSON text.
        suffix: Between the case's name and ``.nii.gz``, one for each key.
        image_key: Of the image, whose meta data tell the grid.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        output_dir: Typed = ".",
        record_key: str = "grata",
        suffix: str | Sequence[str] = "_seg",
        image_key: str = "image",
    ) -> None:
        super().__init__(keys)
        self.suffixes = (suffix,) if isinstance(suffix, str) else tuple(suffix)
        if len(self.keys) != len({*self.suffixes}) or len(self.keys) != len(self.suffixes):
            raise ValueError(
                f"suffix must be one for each key, each another, got {self.suffixes} for keys "
                f"{self.keys}. Write suffix=('_seg', '_source')."
            )
        self.output_dir = as_path(output_dir, name="output_dir")
        self.record_key, self.image_key = record_key, image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the paths written, ``mask_file`` and ``record_file``."""
        saved = dict(data)
        case = _find_case(saved, saved[self.first_key(saved)])
        for key in self.key_iterator(saved):
            _check_grid(saved[key], saved.get(self.image_key), case)
        if not isinstance(saved.get(self.record_key), str):
            raise OutputError(
                f"a mask must have its record, data of {case!r} have no {self.record_key!r}. Put "
                "LiftRecordd first in postprocessing, and predict with GraTaInferer."
            )
        labels = {
            f"{case}{suffix}.nii.gz": _as_labels(saved[key][0], np.dtype(np.uint8))
            for key, suffix in zip(self.keys, self.suffixes, strict=True)
        }
        output = _describe(labels, saved)
        record_file = self.output_dir / f"{case}{RECORD_ENDING}"
        if saved.get("record_file") == str(record_file):
            _check_same(saved.get("output"), output, case)
            return saved
        record = {**json.loads(saved[self.record_key]), "output": output}
        with claim(self.output_dir) as folder, staged(folder) as stage:
            for name, values in labels.items():
                write_label_map(values, affine_ras=saved[self.keys[0]].affine, path=stage / name)
            text = json.dumps(record, indent=2, sort_keys=True) + "\n"
            (stage / record_file.name).write_text(text, encoding="utf-8")
        paths = {"mask_file": self.output_dir / output["file"], "record_file": record_file}
        return {**saved, **{name: str(path) for name, path in paths.items()}, "output": output}


def _describe(labels: Mapping[str, NDArray[Any]], data: Mapping[Hashable, Any]) -> dict[str, Any]:
    """What the record says of the masks, the first of which is the case's own."""
    first, *more = (Mask(name, hash_labels(values)) for name, values in labels.items())
    made_from = str(data.get("made_from", ""))
    return asdict(Output(first.file, first.sha256, more=tuple(more), made_from=made_from))


def _check_same(written: Any, output: Mapping[str, Any], case: str) -> None:
    """Refuse to write a case twice in one run, but for a writer that has nothing else to say."""
    if written != output:
        raise OutputError(
            f"a case must be written once, {case!r} was written by another writer before. Leave "
            "one writer in the configuration, and give it the keys of all masks."
        )


def hash_labels(labels: NDArray[Any]) -> str:
    """SHA-256 of a label map's voxels, as records have it."""
    return hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()


def _check_grid(pred: torch.Tensor, image: Any, case: str) -> None:
    """Refuse a prediction that does not lie on the grid of the image's file."""
    meta = image.meta if isinstance(image, MetaTensor) else getattr(pred, "meta", {})
    shape, affine = meta.get(MetaKeys.SPATIAL_SHAPE), meta.get(MetaKeys.ORIGINAL_AFFINE)
    if not isinstance(pred, MetaTensor) or shape is None or affine is None:
        raise GeometryError(
            f"mask of {case!r} must know its image's grid, it has no meta data. "
            "Keep MetaTensor tracking on, and put Invertd before the writer."
        )
    expected = (1, *(int(extent) for extent in shape))
    if tuple(pred.shape) != expected:
        raise GeometryError(
            f"mask must have the shape of its image, {expected}, {case!r} has {tuple(pred.shape)}. "
            "Put argmax and Invertd before the writer."
        )
    if not np.allclose(_as_array(pred.affine), _as_array(affine), atol=AFFINE_TOLERANCE, rtol=0):
        raise GeometryError(
            f"mask must have the affine of its image, {case!r} has another. "
            "Put Invertd with all of preprocessing before the writer."
        )


def _find_case(data: Mapping[Hashable, Any], pred: Any) -> str:
    name = data.get("case") or getattr(pred, "meta", {}).get("filename_or_obj")
    if not isinstance(name, str):
        raise OutputError(
            "data must name their case, neither 'case' nor the image's file name is there. "
            "Add 'case' to the data, as list_cases does."
        )
    return strip_extension(Path(name).name)


def _as_labels(label_map: NDArray[Any] | torch.Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    values = _as_array(label_map)
    labels = values.astype(dtype)
    if not np.array_equal(labels, values):
        raise ValueError(
            f"label_map must hold whole numbers that fit {dtype}, got values in "
            f"[{values.min()}, {values.max()}]. Take the argmax first, or choose a wider dtype."
        )
    return labels


def _as_array(values: NDArray[Any] | torch.Tensor) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _with_meta(values: torch.Tensor, like: MetaTensor, meta: dict[str, Any]) -> MetaTensor:
    return MetaTensor(values, meta=dict(meta), applied_operations=like.applied_operations)
