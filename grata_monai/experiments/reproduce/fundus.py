"""Optic disc in fundus photographs: the paper's own task, from each hospital to the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grata_monai.core.errors import DatasetError
from grata_monai.experiments.reproduce.part import Part
from grata_monai.read.cases import split_cases

__all__ = ["fundus"]

_CENTRES = ("DrishtiGS_Madurai", "DRIONS_Zaragoza")
_HEADS = ["rotation", "denoising"]
_CALIBRATION_CASES, _HELD_BACK = 10, 10
_CALIBRATION_SHIFTS = ("none", "bias_field", "gamma_low", "low_field")

_PAIR = ["image", "label"]
_LOAD: list[dict[str, Any]] = [
    {"_target_": "LoadImaged", "keys": _PAIR, "reader": "PILReader", "ensure_channel_first": True},
    {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0.0, "maxv": 1.0},
]
_AUGMENT: list[dict[str, Any]] = [
    {"_target_": "EnsureTyped", "keys": _PAIR, "track_meta": False},
    {"_target_": "RandFlipd", "keys": _PAIR, "prob": 0.5, "spatial_axis": 0},
    {
        "_target_": "RandAffined",
        "keys": _PAIR,
        "prob": 0.8,
        "rotate_range": 0.3,
        "translate_range": [15, 15],
        "scale_range": 0.15,
        "mode": ["bilinear", "nearest"],
        "padding_mode": "reflection",
    },
    {"_target_": "RandAdjustContrastd", "keys": "image", "prob": 0.3, "gamma": [0.8, 1.25]},
]


def fundus(data: Path, *, cases: int, shifts: Sequence[str], seed: int) -> list[Part]:
    """Train in one hospital and meet the other, both ways; batch normalisation, sigmoid.

    Args:
        data: Folder with a folder per hospital, each with ``images/`` and ``labels/``, PNG.
        cases: Most images of the other hospital.
        shifts: Not used: the other hospital is foreign by itself.
        seed: Of the split.

    Returns:
        A part per direction.

    Raises:
        DatasetError: If a folder or a label is missing.
    """
    found = {centre: _list_centre(data / centre) for centre in _CENTRES}
    parts = []
    for home, away in (_CENTRES, _CENTRES[::-1]):
        rest, held_back = split_cases(found[home], held_back=_HELD_BACK, seed=seed)
        training, calibration = split_cases(rest, held_back=_CALIBRATION_CASES, seed=seed)
        _, tests = split_cases(found[away], held_back=min(cases, len(found[away]) - 1), seed=seed)
        parts.append(
            Part(
                name=f"{home}-to-{away}",
                tests=[{**case, "centre": "source"} for case in held_back] + tests,
                settings=_settings(),
                training=training,
                training_settings={
                    "load": _LOAD,
                    "augment": _AUGMENT,
                    "heads": _HEADS,
                    "batch_size": 4,
                    "max_epochs": 16,
                    "learning_rate": 0.003,
                    "training#trainer#loss_function": {"_target_": "DiceCELoss", "sigmoid": True},
                },
                source=training,
                calibration=calibration,
                calibration_shifts=_CALIBRATION_SHIFTS,
            )
        )
    return parts


def _list_centre(folder: Path) -> list[dict[str, str]]:
    images = sorted((folder / "images").glob("*.png"))
    if not images:
        raise DatasetError(
            f"images/ of {folder.name!r} must hold .png images, found none. "
            "Point --data to the folder of the hospitals."
        )
    cases: list[dict[str, str]] = []
    for image in images:
        label = folder / "labels" / image.name
        if not label.is_file():
            raise DatasetError(
                f"every image must have a label of its name, {image.name!r} has none. Add it."
            )
        name = f"{folder.name}_{image.stem}"
        cases.append(
            {"image": str(image), "label": str(label), "case": name, "centre": folder.name}
        )
    return cases


def _settings() -> dict[str, Any]:
    read = [{**step, "keys": _PAIR if i == 0 else "image"} for i, step in enumerate(_LOAD)]
    return {
        "preprocessing": {"_target_": "Compose", "transforms": read},
        "postprocessing#transforms": [
            {"_target_": "AsDiscreted", "keys": ["pred", "source"], "threshold": 0.0},
        ],
        "inferer#inferer": {"_target_": "SimpleInferer"},
        "inferer#activation": "sigmoid",
        "network_def": {
            "_target_": "DynUNet",
            "spatial_dims": 2,
            "in_channels": 3,
            "out_channels": 1,
            "kernel_size": [3, 3, 3, 3, 3],
            "strides": [1, 2, 2, 2, 2],
            "upsample_kernel_size": [2, 2, 2, 2],
            "filters": [16, 32, 64, 128, 160],
            "norm_name": "batch",
            "res_block": True,
        },
        "network#network": {
            "_target_": "grata_monai.networks.add_heads",
            "network": "@network_def",
            "tasks": _HEADS,
        },
    }
