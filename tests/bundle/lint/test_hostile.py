"""A corpus of hostile bundles: none passes; and one of harmless ones, which all do."""

import json
import pickle
import time
from pathlib import Path

import pytest
from hostile_bundles import FORMS, NOTES, PAYLOADS, TOP, Hostile, make_hostile, place

from grata_monai.bundle.authority import check_authority
from grata_monai.bundle.lint import write_manifest
from grata_monai.bundle.lint.rules import check_bundle
from grata_monai.core.errors import BundleError
from grata_monai.core.patterns import check_pattern

CORPUS = list(make_hostile())


@pytest.fixture(scope="module")
def shared(tmp_path_factory, request):
    """One small bundle for all of them, without weights, which are looked at elsewhere."""
    folder = tmp_path_factory.mktemp("shared") / "bundle"
    for name in ("configs", "docs"):
        (folder / name).mkdir(parents=True)
    config = {
        "bundle_root": ".",
        "handlers": [],
        "device": {"_target_": "grata_monai.bundle.choose_device"},
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    return folder


def findings(folder: Path, hostile: Hostile) -> list[str]:
    path = folder / hostile.file
    path.write_text(hostile.content)
    write_manifest(folder)
    try:
        return [str(found) for found in check_bundle(folder) if found.file == hostile.file]
    finally:
        path.unlink()


def test_the_corpus_is_as_large_as_it_says():
    assert len({hostile.name for hostile in CORPUS}) == len(CORPUS) >= 150


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
def test_no_hostile_bundle_passes(hostile, shared):
    assert findings(shared, hostile)


HARMLESS = {
    "a target": {"_target_": "SimpleInferer"},
    "a number": 1.5,
    "a text": "image",
    "a file of the bundle": "$@bundle_root + '/models/model.pt'",
    "weights of the bundle": {"weights": "$@bundle_root + '/models/training_eval.pt'"},
    "a folder of its own": {"_target_": "CheckpointSaver", "save_dir": "$@bundle_root + '/eval'"},
    "a method": "$@evaluator.run()",
    "lists": "$@load + @augment",
    "a macro": "%load",
    "a choice": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    "files": "$sorted(glob.glob(@dataset_dir + '/*.nii.gz'))",
}  # fmt: skip
AROUND = {"load": [{"_target_": "LoadImaged", "keys": "image"}], "augment": [], "dataset_dir": None}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", HARMLESS)
def test_the_same_forms_with_something_harmless_pass(name, form, shared):
    items = {**NOTES, **AROUND, **place(form, HARMLESS[name])}
    harmless = Hostile(name, "configs/overlay.json", json.dumps(items))
    assert findings(shared, harmless) == []


ZOO = {
    "imports": ["$import glob", "$import os", "$import torch"],
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "ckpt_dir": "$@bundle_root + '/models'",
    "ckpt_path": "$@ckpt_dir + '/model.pt'",
    "dataset_dir": "data/Task09_Spleen",
    "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
    "labels": "$sorted(glob.glob(os.path.join(@dataset_dir, 'labelsTr', '*.nii.gz')))",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "amp": True,
    "epochs": 1260,
    "steps": "$@epochs * len(@datalist) // 2",
    "network_def": {"_target_": "UNet", "spatial_dims": 3, "channels": [16, 32], "strides": [2]},
    "network": "$@network_def.to(@device)",
    "deterministic_transforms": [{"_target_": "LoadImaged", "keys": ["image", "label"]}],
    "random_transforms": [{"_target_": "RandFlipd", "keys": "image", "prob": 0.1}],
    "preprocessing": {
        "_target_": "Compose",
        "transforms": "$@deterministic_transforms + @random_transforms",
    },
    "loss": {"_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True},
    "optimizer": {
        "_target_": "torch.optim.AdamW",
        "params": "$@network.parameters()",
        "lr": 0.0001,
    },
    "validate": {"interval": "$@epochs // 10", "first": "$@epochs - 1 > 5 and not @amp"},
    "train": {
        "handlers": [
            {"_target_": "CheckpointSaver", "save_dir": "@ckpt_dir", "key_metric_filename": "a.pt"},
            {
                "_target_": "StatsHandler",
                "tag_name": "train_loss",
                "output_transform": "$monai.handlers.from_engine(['loss'], first=True)",
            },
        ],
        "again": "%train#handlers",
        "near": {"rate": 2, "twice": "$@#rate * 2"},
    },
    "saver": {
        "_target_": "SaveImaged",
        "keys": "pred",
        "output_dir": "@output_dir",
        "output_postfix": "seg",
    },
    "handlers": [
        {"_target_": "MetricsSaver", "save_dir": "@output_dir", "metrics": ["val_mean_dice"]},
        {"_target_": "CheckpointLoader", "load_path": "@ckpt_path", "load_dict": {"m": "@network"}},
    ],
    "evaluate": ["$@evaluator.run()"],
}  # fmt: skip


def test_what_bundles_of_the_zoo_write_passes(shared):
    benign = Hostile("zoo", "configs/inference.json", json.dumps(ZOO))
    before = (shared / benign.file).read_text()
    try:
        assert findings(shared, benign) == []
    finally:
        (shared / benign.file).write_text(before)


# ------------------------------------------------------------------------------- at run time

OF_CODE = ("a key of code", "the same by a copy of it", "a key that is a path", "a description",
           "an empty folder", "an address in two parts", "a pattern")  # fmt: skip


@pytest.mark.parametrize("name", [name for name in TOP if not name.startswith(OF_CODE)])
def test_what_only_the_operator_may_say_is_refused_also_if_nobody_linted(name, shared):
    path = shared / "configs" / "overlay.json"
    path.write_text(json.dumps(TOP[name]))
    try:
        with pytest.raises(BundleError, match=r"must leave to the operator|must be readable"):
            check_authority(shared)
    finally:
        path.unlink()


OF_AUTHORITY = ("a macro of a file", "a destination", "insecurity", "identifiers", "limits",
                "a verdict", "a folder", "a mask")  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [name for name in PAYLOADS if name.startswith(OF_AUTHORITY)])
def test_no_form_of_key_leads_round_it_if_nobody_linted(name, form, shared):
    path = shared / "configs" / "overlay.json"
    path.write_text(json.dumps({**NOTES, **place(form, PAYLOADS[name])}))
    try:
        with pytest.raises(BundleError, match="must leave to the operator"):
            check_authority(shared)
    finally:
        path.unlink()


def test_what_is_harmless_is_no_matter_of_authority(shared, repository):
    check_authority(shared)
    check_authority(repository / "bundle")


# ------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize("pattern", ["t2", "^t2.*(tse|fse)?$", r"\bax\w+ t2", "(?i)a{2,3}b*", ""])
def test_an_ordinary_pattern_is_allowed(pattern):
    check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(a+)+$", "must not hold repeats"),
        ("(a*)*b", "must not hold repeats"),
        ("((ab)?c*){2,}", "must not hold repeats"),
        ("(a|aa)+$", "must not hold repeats, alternatives"),
        (r"(a)(\1)*b", "back references"),
        ("(?:x(?=y+))+", "must not hold repeats"),
        ("a*a*a*a*b", "at most 3 repeats"),
        ("(", "must be a regular expression"),
        ("a" * 201, "at most 200 characters"),
    ],
)
def test_a_pattern_that_may_never_end_is_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        check_pattern(pattern)


# ------------------------------------------------------------------------------- files

PLANTED = pickle.dumps(time.sleep)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("docs/picture.png", PLANTED),
        ("docs/picture.jpg", PLANTED),
        ("docs/picture.png", PNG + PLANTED),
        ("docs/picture.jpeg", b"\xff\xd8\xff" + PLANTED),
        ("docs/net.PY", b"print(1)\n"),
        ("docs/net.Pkl", PLANTED),
        ("docs/notes.txt", b"cos\nsystem\n(S'true'\ntR."),
        ("docs/notes.md", b"(S'true'\nios\nsystem\n."),
        ("NOTICE", b"cos\nsystem\n(S'true'\ntR."),
        ("configs/json.txt", b'{"x": {"_target_": "os.system"}}'),
        ("configs/list.txt", b'["$exit()"]'),
        ("configs/yaml.txt", b"x:\n  _target_: os.system\n"),
        ("configs/overlay.JSON", b'{"x": {"_target_": "os.system"}}'),
        ("configs/log.txt", b"[formatters]\nkeys=f\n[formatter_f]\ndefaults=exit()\n"),
        ("configs/logging.conf", b"[formatter_f]\ndefaults=__import__('os').system('true')\n"),
        ("configs/logging.conf", b"[formatter_f]\nstyle={\n"),
        ("configs/logging.conf", b"[DEFAULT]\nargs=(exit(),)\n[handler_a]\nclass=StreamHandler\n"),
        ("configs/logging.conf", b"[handler_a]\nclass=StreamHandler\nstream=exit()\n"),
        ("configs/logging.conf", b"[logger_a]\nlevel=exit()\n"),
        ("configs/logging.conf", b"[filter_a]\nclass=exit()\n"),
        ("configs/logging.conf", b"[formatter_f]\nformat=%(message)999999999s\n"),
    ],
)  # fmt: skip
def test_a_file_is_known_by_what_it_holds(file, content, shared):
    path = shared / file
    path.write_bytes(content)
    write_manifest(shared)
    try:
        assert [found for found in check_bundle(shared) if found.file == file]
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("docs/picture.png", PNG + b"\0\0\0\0IEND\xaeB`\x82"),
        ("docs/picture.JPG", b"\xff\xd8\xff\xe0\xff\xd9"),
        ("docs/notes.txt", b"Note: read this.\n"),
        ("docs/notes.md", b"# A page\n\nkey: value\n"),
        (
            "configs/logging.conf",
            b"[loggers]\nkeys=root\n[logger_root]\nlevel=INFO\nhandlers=a, b\n[formatter_f]\n"
            b"format=%(asctime)s [%(name)s] %(message)s\ndatefmt=%H:%M\n[handler_a]\n"
            b"class=StreamHandler\nargs=(sys.stdout, )\n",
        ),
    ],
)
def test_an_ordinary_file_passes(file, content, shared):
    path = shared / file
    path.write_bytes(content)
    write_manifest(shared)
    try:
        assert [str(found) for found in check_bundle(shared) if found.file == file] == []
    finally:
        path.unlink()
