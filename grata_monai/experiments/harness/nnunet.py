"""A trained nnU-Net folder taken apart, so that experiments meet it as they meet a bundle.

Images are read, preprocessed, predicted and brought back by nnU-Net's own code; labels are read by
its reader, and compared on the image's own grid.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from grata_monai.adapt.network import hash_weights
from grata_monai.adapt.recipe import resolve_recipe
from grata_monai.bundle.network import choose_device
from grata_monai.bundle.settings import suggest
from grata_monai.core.errors import SettingError
from grata_monai.experiments.harness.bench import Bench, make_bare
from grata_monai.experiments.harness.key import digest
from grata_monai.experiments.harness.options import WEIGHTS
from grata_monai.nnunet.cases import check_files, check_voxels, read_voxels
from grata_monai.nnunet.folder import CHECKPOINT, ModelFolder, read_folder
from grata_monai.nnunet.grid import affine_ras, network_affine
from grata_monai.nnunet.options import Options
from grata_monai.nnunet.predictor import GraTaPredictor
from grata_monai.record.environment import versions

__all__ = ["open_nnunet"]

KNOWN = ("checkpoint", "disable_tta", "folds", "step_size", "trust")


def open_nnunet(path: Path, settings: dict[str, Any], *, unverified: bool = False) -> Bench:
    """Open a trained nnU-Net folder.

    Args:
        path: Holds ``plans.json``, ``dataset.json`` and ``fold_*``.
        settings: Out of `KNOWN`, which mean what they mean for ``grata-monai nnunet``; and
            ``device#name``.
        unverified: Do not hold it to its manifest, if it has one.

    Returns:
        The bench, with the mirror images by which nnU-Net predicts whole images.

    Raises:
        BundleError: If it is no trained folder.
        NetworkError: If its network cannot be built, or needs another network's masks.
        SettingError: If a setting is another.
        WeightsError: If a fold or its checkpoint cannot be read.
    """
    device = choose_device(settings.pop("device#name", "auto"))
    _refuse_others(settings)
    folds = settings.get("folds", ())
    folder = read_folder(
        path,
        folds=[str(f) for f in (folds if isinstance(folds, list | tuple) else [folds])],
        checkpoint=str(settings.get("checkpoint", CHECKPOINT)),
        trust=bool(settings.get("trust", False)),
        unverified=unverified,
    )
    step_size, is_mirrored = settings.get("step_size", 0.5), not settings.get("disable_tta", False)
    options = Options(
        resolve_recipe("clinical"), device=device, step_size=step_size, is_mirrored=is_mirrored
    )
    predictor = GraTaPredictor(folder, options)
    inferer = predictor.inferer
    assert inferer.bundle is not None
    reader = predictor.plans_manager.image_reader_writer_class()
    return Bench(
        network=predictor.network,
        inferer=predictor.window,
        preprocessing=Compose(
            [_ReadImage(folder, reader), _Preprocess(predictor), _ReadLabel(reader)]
        ),
        postprocessing=Compose([_Export(predictor)]),
        activation=inferer.activation,
        single_piece=False,
        precision="fp32",  # nnU-Net turns on its own half precision inside its window
        device=device,
        bare=make_bare(inferer.recipe),
        verified=inferer.bundle,
        fingerprint=digest(
            plans=folder.plans,
            dataset=folder.dataset,
            weights=hash_weights(predictor.network),
            window=(step_size, is_mirrored),
            versions=(inferer.bundle["version"], versions()["grata-monai"]),
        ),
        mirroring=inferer.mirroring,
        inferer_of=predictor.window.of,
        fit=predictor.fit,
    )


def _refuse_others(settings: dict[str, Any]) -> None:
    if settings.pop("precision", "fp32") != "fp32":
        raise SettingError(
            "precision must be left out for an nnU-Net, which chooses its own: half precision on "
            "a GPU, else single."
        )
    if WEIGHTS in settings:
        raise SettingError(
            "weights must be those of the nnU-Net folder, got a file. Write --set folds=[0,1], or "
            "--set checkpoint=checkpoint_best.pth."
        )
    for id in settings:
        if id not in KNOWN:
            raise SettingError(
                f"a setting of an nnU-Net must be one that it has, got {id!r}. "
                f"{suggest(id, dict.fromkeys(KNOWN))}"
            )


Item = Mapping[str, Any]


@dataclass(frozen=True)
class _ReadImage:
    """Read the files of a case to an image (c, x, y, z) with its affine."""

    folder: ModelFolder
    reader: Any

    def __call__(self, data: Item) -> dict[str, Any]:
        files = [str(data[key]) for key in sorted(data) if key.startswith("image")]
        check_files(files, self.folder.ending, self.folder.channels)
        voxels, properties = read_voxels(self.reader, files)
        check_voxels(voxels, len(self.folder.channels))
        meta = {"filename_or_obj": files[0], "spacing": [float(s) for s in properties["spacing"]]}
        turned = torch.from_numpy(_turn(voxels.astype(np.float32)))
        image = MetaTensor(turned, affine=torch.as_tensor(affine_ras(properties)), meta=meta)
        return {**data, "image": image}


@dataclass(frozen=True)
class _Preprocess:
    """Bring an image to the network's grid, and note how as JSON text."""

    predictor: GraTaPredictor

    def __call__(self, data: Item) -> dict[str, Any]:
        image = data["image"]
        affine = image.affine.cpu().numpy()
        found, known = np.linalg.norm(affine[:3, :3], axis=0)[::-1], image.meta["spacing"]
        # a shift may have changed the affine; else the reader's own numbers, not rounded ones
        spacing = np.where(np.isclose(found, known, rtol=1e-4), known, found).tolist()
        grid, noted = self.predictor.preprocess(
            _turn(image.as_tensor().cpu().numpy()), {"spacing": spacing}
        )
        there = network_affine(
            affine,
            noted,
            shape=grid.shape[1:],
            spacing=self.predictor.find_spacing(noted),
            transpose_forward=self.predictor.plans_manager.transpose_forward,
        )
        whole = MetaTensor(grid.float(), affine=torch.as_tensor(there))
        return {**data, "image": whole, "properties": json.dumps(noted, default=int)}


@dataclass(frozen=True)
class _ReadLabel:
    """Read a label (1, x, y, z) with its affine, where a case has one."""

    reader: Any

    def __call__(self, data: Item) -> dict[str, Any]:
        if "label" not in data:
            return dict(data)
        voxels, properties = self.reader.read_seg(str(data["label"]))
        label = torch.from_numpy(_turn(voxels).astype(np.int32))
        affine = torch.as_tensor(affine_ras(properties))
        return {**data, "label": MetaTensor(label, affine=affine)}


@dataclass(frozen=True)
class _Export:
    """Bring logits to a label map on the image's grid; what was not annotated counts as nothing."""

    predictor: GraTaPredictor

    def __call__(self, item: Item) -> dict[str, Any]:
        noted = json.loads(item["properties"])
        noted = {key: tuple(v) if key.startswith("shape") else v for key, v in noted.items()}
        labels = self.predictor.export(item["pred"].as_tensor()[None], noted)
        pred, label = torch.from_numpy(_turn(labels[None]).astype(np.int32)), item["label"].clone()
        ignored = self.predictor.label_manager.ignore_label
        if ignored is not None and pred.shape == label.shape:
            pred[label.as_tensor() == ignored] = 0
            label[label == ignored] = 0
        return {**item, "pred": MetaTensor(pred, affine=label.affine), "label": label}


def _turn(voxels: Any) -> Any:
    """Turn (c, z, y, x), as nnU-Net has it, into (c, x, y, z), and back."""
    return np.ascontiguousarray(voxels.transpose(0, 3, 2, 1))
