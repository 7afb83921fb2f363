"""Make trained nnU-Net v2 folders for tests, with nnU-Net's own programs; runs in its environment.

``python nnunet_folder.py FOLDER`` writes, from the same few images:

- ``trained/``: a 3d_fullres network, planned, preprocessed and trained by nnU-Net, folds 0 and 1
- ``plane/``: a 2d network with two input channels, not trained
- ``regions/``: overlapping regions, not trained
- ``total/``: 105 classes and no mirroring, as TotalSegmentator has them, not trained
- ``cascade/``: what says that it needs another network's masks
- ``images/``: cases that no training has seen
"""

import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import SimpleITK

SHAPE = (16, 32, 32)  # slices, rows, columns
SPACING = (1.0, 1.0, 2.0)  # mm, x, y, z
NAME = "Dataset900_Balls"
LABELS = {"background": 0, "ball": 1, "core": 2}
REGIONS = {"background": 0, "ball": [1, 2], "core": 2}
TOTAL = {"background": 0, **{f"organ_{number}": number for number in range(1, 106)}}
EPOCHS, BATCHES = 3, 5


def main(folder: Path) -> None:
    """Write every folder."""
    places = {name: folder / f"nnUNet_{name}" for name in ("raw", "preprocessed", "results")}
    for name, place in places.items():
        place.mkdir(parents=True)
        os.environ[f"nnUNet_{name}"] = str(place)
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
    threads: Any = SimpleNamespace(Pool=ThreadPool)  # quicker than processes
    multiprocessing.get_context = lambda method=None: threads
    write_raw(places["raw"] / NAME)
    write_image(folder / "images" / "one_0000.nii.gz", seed=50)
    write_image(folder / "images" / "two_0000.nii.gz", seed=51, spacing=(1.0, 1.0, 2.2))
    plan(places["preprocessed"])
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # no processes; planning counts with one at least
    for fold in (0, 1):
        train(fold)
    trained = next(places["results"].rglob("plans.json")).parent
    shutil.copytree(trained, folder / "trained")
    make_untrained(folder / "trained", folder)


def write_raw(folder: Path) -> None:
    """Write a data set of five balls with a core, as nnU-Net takes it."""
    for number in range(5):
        write_image(
            folder / "imagesTr" / f"case_{number}_0000.nii.gz",
            seed=number,
            label=folder / "labelsTr" / f"case_{number}.nii.gz",
        )
    content = {
        "channel_names": {"0": "MRI"},
        "labels": LABELS,
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def write_image(
    path: Path, *, seed: int, spacing: Sequence[float] = SPACING, label: Path | None = None
) -> None:
    """Write a noisy ball with a brighter core at some place, and its label if asked for."""
    generator = np.random.default_rng(seed)
    centre = np.asarray(SHAPE) / 2 + generator.uniform(-3, 3, 3)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1) - centre
    radius = np.linalg.norm(grid * np.asarray(spacing)[::-1], axis=-1)
    labels = (radius < 10).astype(np.uint8) + (radius < 5)
    voxels = 100 + 60 * labels + generator.normal(0, 15, SHAPE)
    for target, values in ((path, voxels.astype(np.float32)), (label, labels)):
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            image = SimpleITK.GetImageFromArray(values)
            image.SetSpacing(spacing)
            image.SetOrigin((-20.0, 5.0, 30.0))
            image.SetDirection((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
            SimpleITK.WriteImage(image, str(target))


def plan(folder: Path) -> None:
    """Let nnU-Net plan and preprocess; a smaller network than it would take does for a test."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    extract_fingerprints([900], num_processes=1)
    plan_experiments([900])
    path = next(folder.rglob("nnUNetPlans.json"))
    plans = json.loads(path.read_text())
    configuration = plans["configurations"]["3d_fullres"]
    configuration["patch_size"] = [16, 32, 32]
    shrink(configuration["architecture"]["arch_kwargs"])
    path.write_text(json.dumps(plans))
    preprocess([900], configurations=("3d_fullres",), num_processes=(1,))


def shrink(network: dict[str, Any]) -> None:
    """Cut a network to three stages of few features."""
    for key, value in network.items():
        if isinstance(value, list) and len(value) >= 3:
            network[key] = value[:3]
        if isinstance(value, list) and key.endswith("_decoder"):
            network[key] = value[:2]
    network |= {"n_stages": 3, "features_per_stage": [8, 16, 16]}


def train(fold: int) -> None:
    """Train a fold with nnU-Net's trainer, for a few batches."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.manual_seed(fold)
    np.random.seed(fold)
    trainer = get_trainer_from_args("900", "3d_fullres", fold, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch = EPOCHS, BATCHES
    trainer.num_val_iterations_per_epoch, trainer.save_every = 1, 100
    trainer.run_training()


def make_untrained(trained: Path, folder: Path) -> None:
    """Write folders of other forms with networks that have learnt nothing."""
    regions = {"labels": REGIONS, "regions_class_order": [1, 2]}
    write_untrained(trained, folder / "regions", dataset=regions)
    total = {"labels": TOTAL, "channel_names": {"0": "CT"}}
    write_untrained(trained, folder / "total", dataset=total, mirroring=None)
    two = {"channel_names": {"0": "T2", "1": "DWI"}}
    write_untrained(trained, folder / "plane", dataset=two, configuration="2d", mirroring=(0, 1))
    cascade = folder / "cascade"
    shutil.copytree(trained, cascade)
    plans = json.loads((cascade / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["previous_stage"] = "3d_lowres"
    plans["configurations"]["3d_lowres"] = plans["configurations"]["2d"]
    (cascade / "plans.json").write_text(json.dumps(plans))


def write_untrained(
    trained: Path,
    target: Path,
    *,
    dataset: Mapping[str, Any],
    configuration: str = "3d_fullres",
    mirroring: Sequence[int] | None = (0, 1, 2),
) -> None:
    """Write a folder like a trained one, with other labels and channels and random weights."""
    import torch
    from nnunetv2.run.run_training import nnUNetTrainer
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = json.loads((trained / "plans.json").read_text())
    if configuration == "2d":
        plane = plans["configurations"]["2d"]
        plane["patch_size"] = [32, 32]
        plane["normalization_schemes"] = plane["normalization_schemes"] * 2
        plane["use_mask_for_norm"] = plane["use_mask_for_norm"] * 2
        known = plans["foreground_intensity_properties_per_channel"]
        known["1"] = known["0"]
        shrink(plane["architecture"]["arch_kwargs"])
    content = json.loads((trained / "dataset.json").read_text()) | dataset
    manager = PlansManager(deepcopy(plans))
    config = manager.get_configuration(configuration)
    torch.manual_seed(0)
    heads = manager.get_label_manager(content).num_segmentation_heads
    network = nnUNetTrainer.build_network_architecture(
        *architecture(nnUNetTrainer, manager, config),
        determine_num_input_channels(manager, config, content),
        heads,
        enable_deep_supervision=False,
    )
    (target / "fold_0").mkdir(parents=True)
    (target / "plans.json").write_text(json.dumps(plans))
    (target / "dataset.json").write_text(json.dumps(content))
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": configuration},
        "inference_allowed_mirroring_axes": mirroring,
    }
    torch.save(checkpoint, target / "fold_0" / "checkpoint_final.pth")


def architecture(trainer: Any, manager: Any, config: Any) -> Sequence[Any]:
    """What a trainer of this version of nnU-Net wants to know before the channels."""
    import inspect

    if "plans_manager" in inspect.signature(trainer.build_network_architecture).parameters:
        return manager, config
    return (
        config.network_arch_class_name,
        config.network_arch_init_kwargs,
        config.network_arch_init_kwargs_req_import,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
