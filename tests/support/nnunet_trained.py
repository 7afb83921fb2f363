"""Write a small folder as nnU-Net's training leaves it, without nnU-Net."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def write_trained(
    folder: Path,
    *,
    folds: Sequence[str] = ("0",),
    dataset: Mapping[str, Any] | None = None,
    configurations: Mapping[str, Any] | None = None,
    network: str = UNET,
    **checkpoint: Any,
) -> Path:
    """Write it, with changes."""
    folder.mkdir()
    architecture = {
        "network_class_name": network,
        "arch_kwargs": {"conv_op": "torch.nn.Conv3d", "norm_op": None},
        "_kw_requires_import": ["conv_op", "norm_op"],
    }
    known = {"3d_fullres": {"architecture": architecture}, **(configurations or {})}
    plans = {"dataset_name": "Dataset900_Balls", "configurations": known}
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "ignore": 2},
        "file_ending": ".nii.gz",
        **(dataset or {}),
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(content))
    for fold in folds:
        (folder / f"fold_{fold}").mkdir()
        saved = {
            "network_weights": {"module.weight": torch.ones(2)},
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": "3d_fullres", "device": torch.device("cpu")},
            "inference_allowed_mirroring_axes": (0, 1),
            "_best_ema": np.float64(0.5),
            "logging": {"train_losses": [np.float32(0.25)]},
            **checkpoint,
        }
        torch.save(saved, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder
