"""One case from Python: an image in, its mask and record out, nothing written."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor, decollate_batch
from monai.data.utils import list_data_collate
from monai.transforms import Compose
from numpy.typing import ArrayLike, NDArray

from grata_monai.bundle.open import Bundle, open_bundle
from grata_monai.bundle.shipped import find_shipped_bundle
from grata_monai.core.errors import SettingError, find_refusal
from grata_monai.record import Record

__all__ = ["Result", "predict_case", "segment"]


@dataclass(frozen=True)
class Result:
    """A mask and how it was made.

    Attributes:
        mask: Label map (x, y, z), uint8, on the grid of the image as it was given.
        affine_ras: 4×4, voxel index to RAS in mm, of that grid.
        record: What was done to the case.
    """

    mask: NDArray[np.uint8]
    affine_ras: NDArray[np.float64]
    record: Record


def segment(
    image: str | Path | ArrayLike | torch.Tensor,
    *,
    affine_ras: ArrayLike | None = None,
    recipe: str | Mapping[str, Any] | None = None,
    bundle_dir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    unverified: bool = False,
) -> Result:
    """Segment one case as `python -m monai.bundle run inference` does: the same bytes.

    Args:
        image: A NIfTI, MetaImage or NRRD file; a folder with one DICOM volume; or voxels
            (x, y, z), real numbers.
        affine_ras: 4×4, voxel index to RAS in mm; of voxels, which have none of their own. A
            `MetaTensor` brings its own.
        recipe: Name, or fields with a ``base``; the bundle's own, ``clinical``, if None.
        bundle_dir: Root of the bundle; the one that belongs to this package if None.
        settings: Further ids of the configuration and their values, such as
            ``{"precision": "bf16"}``.
        unverified: Do not hold the bundle to its manifest; the record says so.

    Returns:
        Mask and record. If adaptation failed or the guard refused it, the mask is the source
        network's, and the record says why.

    Raises:
        BundleError: If the bundle is not as its manifest says; nothing of it was parsed then.
        DatasetError: If a folder holds no acceptable DICOM volume, or more than one.
        CaseError: If the image cannot be read, or makes no sense.
        ValueError: If voxels come without affine, or a file with one; `SettingError` if a setting
            has no id of the configuration, or the recipe is given twice.
    """
    given = _take(image, affine_ras)
    asked = dict(settings or {})
    if recipe is not None:
        if "recipe" in asked:
            raise SettingError(
                "recipe must be given once, got it as an argument and in settings. "
                "Leave one of them out."
            )
        asked["recipe"] = recipe if isinstance(recipe, str) else dict(recipe)
    bundle_dir, case = bundle_dir or find_shipped_bundle(), ""
    if isinstance(given, str) and Path(given).is_dir():
        asked["dataset_dir"] = given
        bundle = open_bundle(bundle_dir, ("dicom",), asked, unverified=unverified)
        case = given = _name_volume(bundle.get("triage"))
    else:
        bundle = open_bundle(bundle_dir, (), asked, unverified=unverified)
    prepared = _prepare(bundle.preprocessing, {"image": given, "case": case})
    done = bundle.postprocessing(predict_case(prepared, bundle))
    mask = done["pred"]
    return Result(
        mask=np.ascontiguousarray(mask.as_tensor().cpu().numpy()[0].astype(np.uint8)),
        affine_ras=np.asarray(mask.affine.cpu(), dtype=np.float64),
        record=Record.from_json(done["grata"]),
    )


def predict_case(prepared: Mapping[Hashable, Any], bundle: Bundle) -> dict[Hashable, Any]:
    """Predict one prepared case as MONAI's evaluator does: a batch of one, without gradients.

    Args:
        prepared: What preprocessing gave, with ``image`` (c, *s).
        bundle: Whose network and inferer predict.

    Returns:
        The case, with ``pred`` (k, *s), ready for postprocessing.
    """
    data = list_data_collate([prepared])
    with torch.no_grad():
        images = data["image"].to(bundle.device)
        data["pred"] = bundle.inferer(inputs=images, network=bundle.network)
    (item,) = decollate_batch(data)
    return dict(item)


def _prepare(preprocessing: Compose, given: Mapping[str, str | MetaTensor]) -> Any:
    try:
        return preprocessing(dict(given))
    except RuntimeError as error:  # MONAI's wrapping of whatever a transform raises
        refusal = find_refusal(error)
    raise refusal


def _take(image: Any, affine_ras: ArrayLike | None) -> str | MetaTensor:
    """A path, or voxels with their affine."""
    is_path = isinstance(image, str | Path)
    has_affine = affine_ras is not None or isinstance(image, MetaTensor)
    if is_path == has_affine:
        raise ValueError(
            f"affine_ras must {'not ' if is_path else ''}be given with "
            f"{'a path: the file has its own. Leave it out' if is_path else 'voxels. Add it'}."
        )
    if is_path:
        return str(Path(image).expanduser().absolute())
    if isinstance(image, MetaTensor) and affine_ras is None:
        return image
    affine = torch.as_tensor(np.asarray(affine_ras, dtype=np.float64))
    if affine.shape != (4, 4):
        raise ValueError(f"affine_ras must be 4×4, got shape {tuple(affine.shape)}.")
    voxels = image if isinstance(image, torch.Tensor) else torch.as_tensor(np.asarray(image))
    return MetaTensor(voxels.to(torch.float32), affine=affine)


def _name_volume(found: Any) -> str:
    from grata_monai.read.dicom.folder import only_volume  # noqa: PLC0415  # pydicom is an extra

    return only_volume(found).name
