import json
import os

import pytest
import torch

from grata_monai.bundle.lint import write_manifest
from grata_monai.core.errors import BundleError, NetworkError, WeightsError
from grata_monai.nnunet.folder import read_folder


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("hostile",)


def test_a_folder_says_what_predicting_needs(trained):
    folder = read_folder(trained())
    assert folder.folds == ("0",)
    assert folder.configuration == "3d_fullres"
    assert folder.channels == {0: "CT"}
    assert folder.labels == {1: "liver"}
    assert folder.checkpoints[0].mirroring == (0, 1)
    assert list(folder.checkpoints[0].weights) == ["weight"]
    assert folder.verified["name"] == "Dataset900_Balls 3d_fullres"
    assert not folder.verified["is_verified"]


def test_no_mirroring_in_training_is_none(trained):
    path = trained(inference_allowed_mirroring_axes=None)
    assert read_folder(path).checkpoints[0].mirroring is None


def test_regions_are_named_by_the_numbers_that_the_mask_gets(trained):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    path = trained(dataset={"labels": labels, "regions_class_order": [1, 2, 3]})
    assert read_folder(path).labels == {1: "whole", 2: "core", 3: "enhancing"}


def test_every_numbered_fold_is_taken_and_all_only_where_it_is_alone(trained):
    path = trained(folds=("0", "3", "all"))
    assert read_folder(path).folds == ("0", "3")
    assert read_folder(path, folds=["all"]).folds == ("all",)


def test_a_fold_that_is_not_there_is_named_with_those_that_are(trained):
    with pytest.raises(WeightsError, match=r"fold 4 must hold checkpoint_final.pth.*: 0, 1"):
        read_folder(trained(folds=("0", "1")), folds=["0", "4"])


def test_another_checkpoint_is_suggested(trained):
    with pytest.raises(WeightsError, match=r"hold checkpoint_final.pth: name one with -chk"):
        read_folder(trained(), checkpoint="checkpoint_best.pth")


def test_what_is_no_trained_folder_is_explained(tmp_path):
    with pytest.raises(BundleError, match=r"must hold a readable plans.json.*FileNotFoundError"):
        read_folder(tmp_path)


def test_a_dataset_of_version_1_is_explained(trained):
    with pytest.raises(BundleError, match="must have file_ending"):
        read_folder(trained(dataset={"file_ending": None}))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"asks for code to be run.*--trust"):
        read_folder(trained(logging=Hostile()))
    assert not (tmp_path / "hostile").exists()


def test_what_is_no_checkpoint_is_refused(trained):
    path = trained()
    (path / "fold_0" / "checkpoint_final.pth").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"fold_0/checkpoint_final.pth must be a checkpoint"):
        read_folder(path)


def test_a_checkpoint_of_something_else_is_refused(trained):
    with pytest.raises(WeightsError, match="lacks something"):
        read_folder(trained(init_args={}))


def test_a_foreign_class_in_the_plans_is_refused_unless_trusted(trained):
    path = trained(network="os.system")
    with pytest.raises(NetworkError, match=r"must name classes of nnU-Net.*'os.system'.*--trust"):
        read_folder(path)
    assert read_folder(path, trust=True).configuration == "3d_fullres"


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.modules.module.torch.hub.load",  # a module leads on to what it imports
        "torch.nn.functional.importlib.import_module",
        "torch.nn.modules.module.torch.ao.nn.quantized.Linear",
        "torch.nn.functional.relu",
        "torch.nn.modules",
        "torch.nnother.Evil",
    ],
)
def test_what_is_no_layer_is_refused_though_its_name_begins_like_one(trained, name):
    with pytest.raises(NetworkError, match=r"must name classes of nnU-Net or torch\.nn"):
        read_folder(trained(network=name))


def test_layers_are_looked_at_where_a_name_is_an_argument(trained):
    def plans(**layers):
        settings = {"arch_kwargs": layers, "_kw_requires_import": [*layers]}
        return {"3d_fullres": {"architecture": settings}}

    usual = plans(conv_op="torch.nn.modules.conv.Conv3d", dropout_op=None)
    path = trained(configurations=usual)
    assert read_folder(path).plans["configurations"] == usual
    evil = plans(conv_op="torch.nn.modules.utils.collections.deque")
    (path / "plans.json").write_text(json.dumps({"configurations": evil}))
    with pytest.raises(NetworkError, match=r"must name classes.*'torch\.nn\.modules\.utils\."):
        read_folder(path)


@pytest.mark.parametrize("parent", ["base", ""])
def test_a_class_that_a_configuration_inherits_is_looked_at_too(trained, parent):
    evil = {"architecture": {"network_class_name": "os.system"}}
    configurations = {"3d_fullres": {"inherits_from": parent}, parent: evil}
    with pytest.raises(NetworkError, match=r"must name classes of nnU-Net.*'os.system'"):
        read_folder(trained(configurations=configurations))


@pytest.mark.parametrize(
    "configurations",
    [
        {"3d_fullres": []},
        {"3d_fullres": {"inherits_from": ["3d_fullres"]}},
        {"3d_fullres": {"architecture": "torch.nn.Conv3d"}},
        {"3d_fullres": {"architecture": {"arch_kwargs": [1], "_kw_requires_import": ["a"]}}},
        {"3d_fullres": {"architecture": {"_kw_requires_import": 7}}},
    ],
)
def test_plans_of_another_form_are_refused_in_a_sentence(configurations, trained):
    with pytest.raises(BundleError, match=r"plans\.json must be as nnU-Net wrote it.*Error\)"):
        read_folder(trained(configurations=configurations))


def test_json_of_100000_levels_is_refused_in_a_sentence(trained):
    path = trained()
    (path / "plans.json").write_text("[" * 100_000)
    with pytest.raises(BundleError, match=r"readable plans\.json.*RecursionError"):
        read_folder(path)


def test_the_second_stage_of_a_cascade_is_refused(trained):
    cascade = {"3d_cascade": {"inherits_from": "base"}, "base": {"previous_stage": "3d_lowres"}}
    path = trained(configurations=cascade, init_args={"configuration": "3d_cascade"})
    with pytest.raises(NetworkError, match="second stage of a cascade: it needs the masks"):
        read_folder(path)


def test_plans_without_the_trained_configuration_are_refused(trained):
    path = trained(init_args={"configuration": "3d_fulres"})
    with pytest.raises(BundleError, match="Did you mean '3d_fullres'"):
        read_folder(path)


def test_folds_of_two_trainings_are_refused(trained):
    path = trained(folds=("0", "1"))
    file = path / "fold_1" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    torch.save({**content, "trainer_name": "nnUNetTrainer_5epochs"}, file)
    with pytest.raises(WeightsError, match="folds must be of one training, fold 1"):
        read_folder(path)


def test_a_folder_with_a_manifest_is_held_to_it(trained):
    path = trained()
    write_manifest(path)
    assert read_folder(path).verified["is_verified"]
    (path / "dataset.json").write_text("{}")
    with pytest.raises(BundleError, match=r"'dataset.json'"):
        read_folder(path)


def test_nothing_unsigned_is_opened_where_a_key_is_asked_for(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("GRATA_BUNDLE_KEY", str(tmp_path / "key.pem"))
    with pytest.raises(BundleError, match="sign"):
        read_folder(trained())
