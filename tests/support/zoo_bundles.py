"""Bundles in the forms that the model zoo has: configuration only, tiny networks, one case."""

import json
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser

from grata_monai.bundle.foreign import code_on_path

__all__ = ["FORMS", "Form", "make_bundle", "render_table"]


def make_bundle(
    folder: Path,
    network: Mapping[str, Any],
    *,
    metadata: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Make a bundle in the model zoo's own shape, with random weights and one case."""
    for part in ("configs", "models", "data"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "bundle_root": str(folder),
        "output_dir": str(folder / "eval"),
        "dataset_dir": str(folder / "data"),
        "device": "$torch.device('cpu')",
        "imports": ["$import torch", "$import glob"],
        "datalist": "$[{'image': path} for path in glob.glob(@dataset_dir + '/*.nii.gz')]",
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [1.25, 1.25, 1.0]},
                {"_target_": "ScaleIntensityd", "keys": "image"},
            ],
        },
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32]},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing",
                 "orig_keys": "image", "to_tensor": True},
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
            ],
        },
        "handlers": [
            {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'",
             "load_dict": {"model": "@network"}}
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
        "inference": ["$@evaluator.run()"],
    }  # fmt: skip
    config |= changes
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    if metadata is not None:
        (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    torch.manual_seed(0)
    with code_on_path(folder), chdir(folder):
        model = ConfigParser(config).get_parsed_content("network_def")
    torch.save(model.state_dict(), folder / "models" / "model.pt")
    voxels = np.random.default_rng(0).random((32, 32, 32), dtype=np.float32)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / "data" / "one.nii.gz")
    return folder


@dataclass(frozen=True)
class Form:
    """One way in which a bundle may be written, and what becomes of it when it is wrapped.

    Attributes:
        network: Of its configuration.
        normalisation: Of the network, in words.
        output: Number and meaning of its channels, in words.
        result: What moves, or ``refused``.
        why: Words of the refusal.
        steps: Of its postprocessing, before inversion.
        changes: What else is unlike `make_bundle`.
        files: Further files of the bundle, path to text.
    """

    network: Mapping[str, Any]
    normalisation: str
    output: str
    result: str
    why: str = ""
    steps: tuple[Mapping[str, Any], ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def make(self, folder: Path) -> Path:
        """Write the bundle."""
        changes = dict(self.changes)
        if self.steps:
            invert = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing",
                      "orig_keys": "image", "to_tensor": True}  # fmt: skip
            save = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"}
            steps = [self.steps[0], invert, *self.steps[1:], save]
            changes["postprocessing"] = {"_target_": "Compose", "transforms": steps}
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return make_bundle(folder, dict(self.network), **changes)


def render_table() -> str:
    """Write what was tried as a Markdown table."""
    rows = ["| form | network | normalisation | output | result |", "|---|---|---|---|---|"]
    for name, form in FORMS.items():
        network = str(form.network["_target_"]).rsplit(".", 1)[-1]
        rows.append(
            f"| {name} | {network} | {form.normalisation} | {form.output} | {form.result} |"
        )
    return "\n".join(rows) + "\n"


SOFTMAX = ({"_target_": "Activationsd", "keys": "pred", "softmax": True},
           {"_target_": "AsDiscreted", "keys": "pred", "argmax": True})  # fmt: skip
SIGMOID = ({"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
           {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5})  # fmt: skip


def _unet(outputs: int, dims: int = 3, norm: str = "batch") -> dict[str, Any]:
    return {"_target_": "UNet", "spatial_dims": dims, "in_channels": 1, "out_channels": outputs,
            "channels": [4, 8], "strides": [2], "norm": norm}  # fmt: skip


def _pred(**said: Any) -> dict[str, Any]:
    return {"network_data_format": {"inputs": {}, "outputs": {"pred": said}}}


OWN = """
from torch import nn

class Own(nn.Sequential):
    def __init__(self, widths):
        super().__init__(nn.Conv3d(1, widths[0], 3, padding=1), nn.GroupNorm(2, widths[0]),
                         nn.PReLU(), nn.Conv3d(widths[0], 2, 1))

class Prompted(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))

    def forward(self, images, point_coords=None, class_vector=None):
        if point_coords is None and class_vector is None:
            return images.detach()
        return self.body(images).transpose(0, 1)[class_vector[:, 0]]

class Classifier(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.AdaptiveAvgPool3d(1),
                         nn.Flatten())

class Finished(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Softmax(1))
"""
SCRIPTS = {"scripts/__init__.py": "", "scripts/networks.py": OWN}
SIDED = {"0": "background", "1": "left_kidney", "2": "right_kidney", "3": "spleen"}
TO_LABELS = "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, x[[1]] * 2))"
FLIPS = {"train": {"preprocessing": [
    {"_target_": "RandFlipd", "keys": ["image", "label"], "prob": 0.5, "spatial_axis": [1]}
]}}  # fmt: skip

FORMS: dict[str, Form] = {
    "spleen-like": Form(_unet(2), "batch", "2, softmax", "adapted: norm"),
    "run id `run`, no `inference`": Form(
        _unet(2, norm="instance"), "instance, without affine", "2, softmax", "adapted: adapters",
        changes={"inference": None}),
    "BraTS-like regions": Form(
        {"_target_": "SegResNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3,
         "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
        "group", "3, sigmoid", "adapted: norm", steps=SIGMOID),
    "regions by a threshold alone": Form(
        _unet(3), "batch", "3, sigmoid", "adapted: norm",
        steps=({"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x.sigmoid()"},
               SIGMOID[1])),
    "regions made one label map": Form(
        _unet(3), "batch", "3, sigmoid", "adapted: norm",
        steps=(*SIGMOID, {"_target_": "Lambdad", "keys": "pred", "func": TO_LABELS})),
    "loaded by `initialize`, displayable options": Form(
        _unet(2), "batch", "2, softmax", "adapted: norm",
        changes={
            "load_pretrain": True,
            "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
            "checkpointloader": {
                "_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"}},
            "initialize": ["$setattr(torch.backends.cudnn, 'benchmark', False)",
                           "$@checkpointloader(@evaluator) if @load_pretrain else None"],
            "displayable_configs": {"sw_overlap": 0.25, "sw_batch_size": 2},
            "inferer": {
                "_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32], "mode": "gaussian",
                "overlap": "@displayable_configs#sw_overlap",
                "sw_batch_size": "@displayable_configs#sw_batch_size"}}),
    "DiNTS-like, a file of the root": Form(
        {"_target_": "scripts.networks.Own",
         "widths": "$json.loads(pathlib.Path(@bundle_root + '/models/arch.json').read_text())"},
        "group", "2, softmax", "adapted: norm",
        changes={"bundle_root": ".", "output_dir": "$@bundle_root + '/eval'",
                 "imports": ["$import json", "$import glob", "$import pathlib"],
                 "dataset_dir": "$@bundle_root + '/data'"},
        files={**SCRIPTS, "models/arch.json": "[4]"}),
    "2D, slice by slice": Form(
        _unet(3, dims=2), "batch", "3, softmax", "adapted: norm",
        changes={"inferer": {"_target_": "SliceInferer", "roi_size": [32, 32], "spatial_dim": 2}}),
    "deep supervision": Form(
        {"_target_": "BasicUNetPlusPlus", "spatial_dims": 3, "in_channels": 1, "out_channels": 2,
         "features": [4, 4, 4, 4, 4, 4], "deep_supervision": True},
        "instance", "2, softmax, several heads", "adapted: norm"),
    "sided labels": Form(
        _unet(4), "batch", "4, softmax, left and right", "adapted: norm",
        changes={"metadata": _pred(channel_def=SIDED)}),
    "sided labels, training mirrored axis 1": Form(
        _unet(4), "batch", "4, softmax, left and right", "adapted: norm",
        files={"configs/train.json": json.dumps(FLIPS)},
        changes={"metadata": _pred(channel_def=SIDED)}),
    "whole body": Form(
        _unet(105), "batch", "105, softmax", "adapted: norm"),
    "engine `validator`, no inferer": Form(
        _unet(2), "batch", "2, softmax", "adapted: norm",
        changes={"evaluator": None, "inferer": None, "inference": None,
                 "run": ["$@validator.run()"],
                 "validator": {
                     "_target_": "SupervisedEvaluator", "device": "@device",
                     "val_data_loader": "@dataloader", "network": "@network",
                     "postprocessing": "@postprocessing", "val_handlers": "$@handlers"}}),
    "VISTA3D-like prompts": Form(
        {"_target_": "scripts.networks.Prompted"}, "batch", "by prompt", "refused",
        why="must give gradients.*ClassPrompts", files=SCRIPTS),
    "VISTA3D-like, classes given": Form(
        {"_target_": "grata_monai.networks.ClassPrompts",
         "network": {"_target_": "scripts.networks.Prompted"}, "classes": [1, 0]},
        "batch", "2, sigmoid", "adapted: norm", steps=SIGMOID, files=SCRIPTS),
    "a classifier": Form(
        {"_target_": "scripts.networks.Classifier"}, "batch", "2 numbers", "refused",
        why="must return a map of logits on the grid", files=SCRIPTS),
    "softmax inside the network": Form(
        {"_target_": "scripts.networks.Finished"}, "batch", "2 probabilities", "refused",
        why="returns values in .0, 1., as after a softmax", files=SCRIPTS),
}  # fmt: skip
