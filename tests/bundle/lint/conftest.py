"""What the gatekeeper's tests share: a small bundle that passes every rule, to be spoilt."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import UNet

from grata_monai.bundle.lint import write_manifest

TENSOR = {
    "type": "image",
    "format": "magnitude",
    "num_channels": 1,
    "spatial_shape": [16, 16, 16],
    "dtype": "float32",
    "value_range": [0, 1],
    "is_patch_data": True,
    "channel_def": {"0": "image"},
}
METADATA = {
    "schema": "https://example.org/schema.json",
    "version": "0.1.0",
    "changelog": {"0.1.0": "first"},
    "monai_version": "1.6.1",
    "pytorch_version": "2.13.0",
    "numpy_version": "2.4.6",
    "required_packages_version": {"nibabel": "5.4.2"},
    "name": "small",
    "task": "none",
    "description": "a bundle for tests",
    "authors": "nobody",
    "copyright": "Apache-2.0",
    "intended_use": "tests",
    "network_data_format": {"inputs": {"image": TENSOR}, "outputs": {"pred": TENSOR}},
}
NETWORK = {"spatial_dims": 3, "in_channels": 1, "out_channels": 1, "channels": [2, 4]}
INFERENCE = {
    "bundle_root": ".",
    "dataset_dir": "data",
    "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    "datalist": [{"image": "a.nii.gz"}],
    "network_def": {"_target_": "UNet", **NETWORK, "strides": [2]},
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader"}],
    },
    "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
    "inferer": {"_target_": "SimpleInferer"},
    "handlers": [
        {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        }
    ],
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "val_handlers": "$@handlers if @handlers else None",
    },
    "run": ["$@evaluator.run()"],
}


@pytest.fixture
def make_bundle(tmp_path) -> Callable[..., Path]:
    """Write a bundle that passes every rule, with other items in its inference configuration."""

    def make(**items: Any) -> Path:
        folder = tmp_path / "bundle"
        for name in ("configs", "models", "docs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "LICENSE").write_text("Apache-2.0, in full\n")
        (folder / "docs" / "README.md").write_text("# Small\n")
        (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA))
        (folder / "configs" / "inference.json").write_text(json.dumps(INFERENCE | items))
        torch.save(UNet(**NETWORK, strides=[2]).state_dict(), folder / "models" / "model.pt")
        write_manifest(folder)
        return folder

    return make
