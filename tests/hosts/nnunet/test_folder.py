import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from grata_monai.bundle.lint import write_manifest
from grata_monai.core.errors import BundleError, NetworkError, WeightsError
from grata_monai.hosts.nnunet.folder import read_folder

UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("hostile",)


@pytest.fixture
def write(tmp_path):
    """Write a folder as nnU-Net's training leaves it, with changes."""

    def write(
        *, folds=("0",), dataset=None, configurations=None, network=UNET, **checkpoint
    ) -> Path:
        folder = tmp_path / "model"
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

    return write


def test_a_folder_says_what_predicting_needs(write):
    folder = read_folder(write())
    assert folder.folds == ("0",)
    assert folder.configuration == "3d_fullres"
    assert folder.channels == {0: "CT"}
    assert folder.labels == {1: "liver"}
    assert folder.checkpoints[0].mirroring == (0, 1)
    assert list(folder.checkpoints[0].weights) == ["weight"]
    assert folder.verified["name"] == "Dataset900_Balls 3d_fullres"
    assert not folder.verified["is_verified"]


def test_no_mirroring_in_training_is_none(write):
    path = write(inference_allowed_mirroring_axes=None)
    assert read_folder(path).checkpoints[0].mirroring is None


def test_regions_are_named_by_the_numbers_that_the_mask_gets(write):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    path = write(dataset={"labels": labels, "regions_class_order": [1, 2, 3]})
    assert read_folder(path).labels == {1: "whole", 2: "core", 3: "enhancing"}


def test_every_numbered_fold_is_taken_and_all_only_where_it_is_alone(write):
    path = write(folds=("0", "3", "all"))
    assert read_folder(path).folds == ("0", "3")
    assert read_folder(path, folds=["all"]).folds == ("all",)


def test_a_fold_that_is_not_there_is_named_with_those_that_are(write):
    with pytest.raises(WeightsError, match=r"fold 4 must hold checkpoint_final.pth.*: 0, 1"):
        read_folder(write(folds=("0", "1")), folds=["0", "4"])


def test_another_checkpoint_is_suggested(write):
    with pytest.raises(WeightsError, match=r"hold checkpoint_final.pth: name one with -chk"):
        read_folder(write(), checkpoint="checkpoint_best.pth")


def test_what_is_no_trained_folder_is_explained(tmp_path):
    with pytest.raises(BundleError, match=r"must hold a readable plans.json.*FileNotFoundError"):
        read_folder(tmp_path)


def test_a_dataset_of_version_1_is_explained(write):
    with pytest.raises(BundleError, match="must have file_ending"):
        read_folder(write(dataset={"file_ending": None}))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"asks for code to be run.*--trust"):
        read_folder(write(logging=Hostile()))
    assert not (tmp_path / "hostile").exists()


def test_what_is_no_checkpoint_is_refused(write):
    path = write()
    (path / "fold_0" / "checkpoint_final.pth").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"fold_0/checkpoint_final.pth must be a checkpoint"):
        read_folder(path)


def test_a_checkpoint_of_something_else_is_refused(write):
    with pytest.raises(WeightsError, match="lacks something"):
        read_folder(write(init_args={}))


def test_a_foreign_class_in_the_plans_is_refused_unless_trusted(write):
    path = write(network="os.system")
    with pytest.raises(NetworkError, match=r"must name classes of nnU-Net.*'os.system'.*--trust"):
        read_folder(path)
    assert read_folder(path, trust=True).configuration == "3d_fullres"


def test_the_second_stage_of_a_cascade_is_refused(write):
    cascade = {"3d_cascade": {"inherits_from": "base"}, "base": {"previous_stage": "3d_lowres"}}
    path = write(configurations=cascade, init_args={"configuration": "3d_cascade"})
    with pytest.raises(NetworkError, match="second stage of a cascade: it needs the masks"):
        read_folder(path)


def test_plans_without_the_trained_configuration_are_refused(write):
    path = write(init_args={"configuration": "3d_fulres"})
    with pytest.raises(BundleError, match="Did you mean '3d_fullres'"):
        read_folder(path)


def test_folds_of_two_trainings_are_refused(write):
    path = write(folds=("0", "1"))
    file = path / "fold_1" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    torch.save({**content, "trainer_name": "nnUNetTrainer_5epochs"}, file)
    with pytest.raises(WeightsError, match="folds must be of one training, fold 1"):
        read_folder(path)


def test_a_folder_with_a_manifest_is_held_to_it(write):
    path = write()
    write_manifest(path)
    assert read_folder(path).verified["is_verified"]
    (path / "dataset.json").write_text("{}")
    with pytest.raises(BundleError, match=r"'dataset.json'"):
        read_folder(path)


def test_nothing_unsigned_is_opened_where_a_key_is_asked_for(write, monkeypatch, tmp_path):
    monkeypatch.setenv("GRATA_BUNDLE_KEY", str(tmp_path / "key.pem"))
    with pytest.raises(BundleError, match="sign"):
        read_folder(write())
