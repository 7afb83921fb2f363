"""MSD hippocampus: small networks, with batch and with instance normalisation, under shifts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from grata_monai.adapt.heads import HEAD_LOSSES
from grata_monai.experiments.reproduce.part import Part
from grata_monai.read.cases import list_cases, split_cases

__all__ = ["hippocampus", "objectives"]

_SIZE = [64, 64, 48]
_HEADS = ("rotation", "denoising")
_TRAINING_CASES, _CALIBRATION_CASES = 60, 10
_FIRST_CASES = 6  # of the calibration, drawn before the training cases
_NORMS: Mapping[str, Any] = {"batch": "batch", "instance": ["instance", {"affine": True}]}

_PAIR = ["image", "label"]
_AUGMENT: list[dict[str, Any]] = [
    {"_target_": "SpatialPadd", "keys": _PAIR, "spatial_size": _SIZE},
    {"_target_": "CenterSpatialCropd", "keys": _PAIR, "roi_size": _SIZE},
    {"_target_": "RandFlipd", "keys": _PAIR, "prob": 0.5, "spatial_axis": 0},
    {
        "_target_": "RandAffined",
        "keys": _PAIR,
        "prob": 0.8,
        "rotate_range": [0.15, 0.15, 0.15],
        "translate_range": [3, 3, 3],
        "scale_range": 0.1,
        "mode": ["bilinear", "nearest"],
        "padding_mode": "zeros",
    },
    {"_target_": "RandAdjustContrastd", "keys": "image", "prob": 0.3, "gamma": [0.8, 1.25]},
    {"_target_": "RandGaussianNoised", "keys": "image", "prob": 0.3, "std": 0.03},
]


def objectives(data: Path, *, cases: int, shifts: Sequence[str], seed: int) -> list[Part]:
    """As `hippocampus`, with batch normalisation alone and a head for every auxiliary task.

    Args:
        data: As of `hippocampus`.
        cases: As of `hippocampus`.
        shifts: As of `hippocampus`.
        seed: As of `hippocampus`.

    Returns:
        One part, without calibration.

    Raises:
        DatasetError: If a folder is missing.
    """
    heads = tuple(sorted(HEAD_LOSSES))
    (part,) = _make_parts(data, {"heads": "batch"}, heads, cases=cases, shifts=shifts, seed=seed)
    return [replace(part, calibration=())]


def hippocampus(data: Path, *, cases: int, shifts: Sequence[str], seed: int) -> list[Part]:
    """Train on one group of the data, meet its own cases under shifts, and the other group.

    Args:
        data: Folder with ``group_float32`` and ``group_uint8``, each with images and labels.
        cases: Most test cases per group.
        shifts: Of the test cases of ``group_float32``.
        seed: Of the split.

    Returns:
        A part per kind of normalisation.

    Raises:
        DatasetError: If a folder is missing.
    """
    return _make_parts(data, _NORMS, _HEADS, cases=cases, shifts=shifts, seed=seed)


def _make_parts(
    data: Path,
    norms: Mapping[str, Any],
    heads: Sequence[str],
    *,
    cases: int,
    shifts: Sequence[str],
    seed: int,
) -> list[Part]:
    found = list_cases(data, labels=True, only=["group_float32"])
    rest, tests = split_cases(found, held_back=cases, seed=seed)
    rest, first = split_cases(rest, held_back=_FIRST_CASES, seed=seed)
    spare, training = split_cases(rest, held_back=min(_TRAINING_CASES, len(rest) - 1), seed=seed)
    calibration = [*first, *spare][:_CALIBRATION_CASES]
    foreign = list_cases(data, labels=True, only=["group_uint8"])
    _, others = split_cases(foreign, held_back=min(cases, len(foreign) - 1), seed=seed)
    return [
        Part(
            name=name,
            tests=[{**case, "centre": "source"} for case in tests] + others,
            settings=_network(norm, heads),
            training=training,
            training_settings={
                "augment": _AUGMENT,
                "heads": list(heads),
                "batch_size": 2,
                "max_epochs": 14,
                "learning_rate": 0.003,
            },
            source=training,
            calibration=calibration,
            calibration_shifts=shifts,
            shifts=shifts,
        )
        for name, norm in norms.items()
    ]


def _network(norm: Any, heads: Sequence[str]) -> dict[str, Any]:
    return {
        "spacing": [1.0, 1.0, 1.0],
        "roi_size": _SIZE,
        "network_def": {
            "_target_": "DynUNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 3,
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [12, 24, 48],
            "norm_name": norm,
        },
        "network#network": {
            "_target_": "grata_monai.networks.add_heads",
            "network": "@network_def",
            "tasks": list(heads),
        },
    }
