"""Bundles with something planted in them are found out, by file and id; ours passes."""

import json
import os
import pickle
import zipfile

import pytest
import torch
from monai.networks.nets import UNet

from grata_monai.bundle.items import iterate_items
from grata_monai.bundle.lint import write_manifest
from grata_monai.bundle.lint.rules import check_bundle
from grata_monai.bundle.lint.targets import allowed_names


class Planted:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch planted",)


def spoil(bundle, name, content):
    """Replace a file, and let the manifest agree, so that only the rule itself can find it."""
    path = bundle / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    write_manifest(bundle)
    return check_bundle(bundle)


def test_our_bundle_passes_every_rule(repository):
    assert [str(finding) for finding in check_bundle(repository / "bundle")] == []


def test_our_bundle_imports_nothing_and_has_few_expressions(repository):
    expressions = [
        item.value
        for path in (repository / "bundle" / "configs").glob("*.json")
        for item in iterate_items(json.loads(path.read_text()))
        if isinstance(item.value, str) and item.value.startswith("$")
    ]
    assert not any("import" in text for text in expressions)
    assert len(expressions) < 40


def test_a_small_bundle_passes(make_bundle):
    assert check_bundle(make_bundle()) == []


# ------------------------------------------------------------------------------- configuration

PLANTED = {
    "os.system as a target": ({"x": {"_target_": "os.system", "command": "true"}}, "x#_target_"),
    "builtins as a target": ({"x": {"_target_": "eval"}}, "x#_target_"),
    "a target in a list in a list": ({"x": [[{"_target_": "os.system"}]]}, "x#0#0#_target_"),
    "a target set by an overlay's key": ({"inferer#_target_": "os.system"}, "inferer#_target_"),
    "the same with the other separator": ({"inferer::_target_": "os.system"}, "inferer::_target_"),
    "the same merged": ({"+_target_": "os.system"}, "+_target_"),
    "a target that is a reference": ({"y": "os.system", "x": {"_target_": "@y"}}, "x#_target_"),
    "a target that is a macro": ({"y": "os.system", "x": {"_target_": "%y"}}, "x#_target_"),
    "a target that is an expression": ({"x": {"_target_": "$@run.append"}}, "x#_target_"),
    "a target that is no text": ({"x": {"_target_": ["os.system"]}}, "x#_target_"),
    "the debugger": ({"x": {"_target_": "SimpleInferer", "_mode_": "debug"}}, "x#_mode_"),
    "a breakpoint": ({"x": {"_target_": "SimpleInferer", "_debug_": True}}, "x#_debug_"),
    "a reader that is code": (
        {"x": {"_target_": "LoadImaged", "keys": "a", "reader": "os.system", "command": "true"}},
        "x#reader",
    ),
    "a reader that is code, in a list": (
        {"x": {"_target_": "LoadImaged", "keys": "a", "reader": ["ITKReader", "open"]}},
        "x#reader",
    ),
    "a reader that is a reference": ({"x": {"_target_": "LoadImaged", "reader": "@y"}}, "x#reader"),
    "a writer that is code": ({"x": {"_target_": "grata_monai.write.image.SaveImageAndRecordd",
                                     "writer": "subprocess.run"}}, "x#writer"),
    "a writer whose target is code": ({"writer": {"_target_": "os.system"}}, "writer#_target_"),
    "unpickled images": ({"x": {"_target_": "LoadImaged", "keys": "a", "allow_pickle": True}},
                         "x#allow_pickle"),
    "unpickled weights": ({"x": {"_target_": "CheckpointLoader", "weights_only": False}},
                          "x#weights_only"),
    "a download": ({"x": {"_target_": "monai.apps.download_url", "url": "a"}}, "x#_target_"),
    "os.system in an expression": ({"x": "$__import__('os').system('true')"}, "x"),
    "an import": ({"imports": ["$import torch", "$import sys"]}, "imports#1"),
    "an import far away from the imports": ({"_desc_": {"a": ["$import sys"]}}, "_desc_#a#0"),
    "an import in a description": ({"x": {"_desc_": "$import sys"}}, "x#_desc_"),
    "attributes up to object": ({"x": "$().__class__.__mro__[1].__subclasses__()"}, "x"),
    "a condition": ({"x": {"_target_": "SimpleInferer", "_disabled_": "$exit()"}}, "x#_disabled_"),
    "a requirement": ({"x": {"_target_": "SimpleInferer", "_requires_": ["$exit()"]}},
                      "x#_requires_#0"),
    "an address": ({"weights": "https://example.org/model.pt"}, "weights"),
    "an address of a bucket": ({"weights": "s3://bucket/model.pt"}, "weights"),
    "an address without its scheme": ({"x": "://example.org"}, "x"),
    "weights from elsewhere": ({"x": {"_target_": "UNet", "pretrained": True}}, "x#pretrained"),
    "a path upwards": ({"weights": "../other/model.pt"}, "weights"),
    "a path upwards in the middle": ({"weights": "models/../../model.pt"}, "weights"),
    "a path upwards in an expression": ({"weights": "$@bundle_root + '/../x.pt'"}, "weights"),
    "an absolute path": ({"weights": "/etc/passwd"}, "weights"),
    "a path of Windows": ({"weights": "C:\\weights.pt"}, "weights"),
    "a path from home": ({"weights": "~/weights.pt"}, "weights"),
    "a macro of another file": ({"x": "%/tmp/other.json::x"}, "x"),
    "a macro of a file beside": ({"x": "%other.yaml"}, "x"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_the_configuration_is_refused_for(name, make_bundle):
    items, id = PLANTED[name]
    found = check_bundle(make_bundle(**items))
    assert {(finding.file, finding.id) for finding in found} == {("configs/inference.json", id)}
    assert all(finding.problem and finding.remedy for finding in found)


def test_an_overlay_a_yaml_file_and_the_metadata_are_looked_into_too(make_bundle):
    bundle = make_bundle()
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    planted = {**metadata, "notes": "$import sys"}
    spoil(bundle, "configs/metadata.json", json.dumps(planted))
    spoil(bundle, "docs/far.yml", "x:\n  - _target_: os.system\n")
    found = spoil(bundle, "configs/overlay.json", '{"inferer": {"_target_": "os.system"}}')
    assert [(finding.file, finding.id) for finding in found] == [
        ("configs/metadata.json", "notes"),
        ("configs/overlay.json", "inferer#_target_"),
        ("docs/far.yml", "x#0#_target_"),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "1e-320", "null", '{"a": 1, "a": 2}', "\xff\xfe",
     '{"a":' * 3000 + "1" + "}" * 3000],
    ids=["empty", "open", "a list", "a number", "nothing", "a key twice", "no text", "deep"],
)  # fmt: skip
def test_a_configuration_that_parsers_may_read_differently_is_refused(text, make_bundle):
    content = text.encode("latin-1")
    found = spoil(make_bundle(), "configs/overlay.json", content)
    assert {finding.file for finding in found} == {"configs/overlay.json"}


def test_the_list_can_be_extended_for_a_name_that_was_read(make_bundle):
    bundle = make_bundle(x={"_target_": "my_package.MyTransform"}, y="$@x.shape")
    assert {finding.rule for finding in check_bundle(bundle)} == {"target", "expression"}
    allowed = allowed_names(["my_package.MyTransform", ".shape"])
    assert check_bundle(bundle, allowed=allowed) == []


# ------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "name",
    ["scripts/net.py", "numpy.pyc", "torch.so", "a.pkl", "models/model.ts", "run.sh", "a.npz",
     "large_files", "a.onnx", "b.exe"],
)  # fmt: skip
def test_files_that_may_be_code_are_refused(name, make_bundle):
    (finding,) = spoil(make_bundle(), name, "text")
    assert (finding.file, finding.rule) == (name, "kind")


@pytest.mark.parametrize("content", [b"\x7fELF\0", b"#!/bin/sh\ntrue\n", b"\xff\xfe"])
def test_a_text_file_must_be_a_text_and_no_script(content, make_bundle):
    (finding,) = spoil(make_bundle(), "docs/notes.txt", content)
    assert (finding.file, finding.rule) == ("docs/notes.txt", "kind")


def test_a_list_of_downloads_is_refused(make_bundle):
    text = "large_files:\n  - path: models/model.pt\n    url: https://example.org/model.pt\n"
    (finding,) = spoil(make_bundle(), "large_files.yml", text)
    assert finding.id == "large_files#0#url"


def test_links_are_refused(make_bundle):
    bundle = make_bundle()
    (bundle / "models" / "model.pt").rename(bundle.parent / "model.pt")
    (bundle / "models" / "model.pt").symlink_to(bundle.parent / "model.pt")
    found = check_bundle(bundle)
    assert {(f.file, f.rule) for f in found} >= {("models/model.pt", "path")}


def test_a_changed_file_is_found_by_the_manifest(make_bundle):
    bundle = make_bundle()
    (bundle / "docs" / "README.md").write_text("# Changed\n")
    (finding,) = check_bundle(bundle)
    assert (finding.file, finding.rule) == ("docs/README.md", "manifest")


# ------------------------------------------------------------------------------- weights


def test_a_pickle_in_the_weights_is_refused_by_what_it_asks_for_and_never_run(
    make_bundle, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    bundle = make_bundle()
    torch.save({"weight": torch.zeros(1), "x": Planted()}, bundle / "models" / "model.pt")
    write_manifest(bundle)
    (finding,) = check_bundle(bundle)
    assert (finding.file, finding.rule) == ("models/model.pt", "weights")
    assert "posix.system" in finding.problem
    assert not (tmp_path / "planted").exists()


def test_a_plain_pickle_named_as_weights_is_refused(make_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (finding,) = spoil(make_bundle(), "models/model.pt", pickle.dumps(Planted()))
    assert finding.rule == "weights"
    assert not (tmp_path / "planted").exists()


def test_a_whole_network_and_a_tensor_are_no_weights(make_bundle):
    bundle = make_bundle()
    torch.save(UNet(3, 1, 2, (2, 4), (2,)), bundle / "models" / "module.pt")
    torch.save(torch.zeros(1), bundle / "models" / "tensor.pt")
    with zipfile.ZipFile(bundle / "models" / "zip.pt", "w") as archive:
        archive.writestr("a", "b")
    (bundle / "models" / "empty.pt").write_bytes(b"")
    write_manifest(bundle)
    found = check_bundle(bundle)
    names = ["empty", "module", "tensor", "zip"]
    assert [f.file for f in found] == [f"models/{name}.pt" for name in names]
    assert {f.rule for f in found} == {"weights"}


def test_torchscript_is_no_weights_whatever_its_name(make_bundle):
    bundle = make_bundle()
    torch.jit.script(torch.nn.Linear(1, 1)).save(bundle / "models" / "script.pt")
    write_manifest(bundle)
    (finding,) = check_bundle(bundle)
    assert (finding.file, finding.rule) == ("models/script.pt", "weights")


def test_weights_must_be_inside(make_bundle):
    bundle = make_bundle()
    (bundle / "models" / "model.pt").unlink()
    write_manifest(bundle)
    (finding,) = check_bundle(bundle)
    assert (finding.file, finding.rule) == ("models", "weights")


# ------------------------------------------------------------------------------- logging


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("handler_a", "class", "handlers.SocketHandler"),
        ("handler_a", "class", "__import__('os').system('true')"),
        ("handler_a", "args", "(__import__('os').system('true'),)"),
        ("handler_a", "kwargs", "{}"),
        ("formatter_a", "class", "os.system"),
    ],
)
def test_a_logging_configuration_that_does_more_than_log_is_refused(
    section, key, value, make_bundle
):
    text = f"[loggers]\nkeys=root\n[{section}]\n{key}={value}\n"
    (finding,) = spoil(make_bundle(), "configs/logging.conf", text)
    assert (finding.id, finding.rule) == (f"{section}#{key}", "logging")


def test_a_logging_configuration_that_cannot_be_read_is_refused(make_bundle):
    (finding,) = spoil(make_bundle(), "configs/logging.conf", "no section\n")
    assert finding.rule == "logging"


# ------------------------------------------------------------------------------- what must be there


@pytest.mark.parametrize("version", [">=1.5", "1.5.*", "latest", "", None, 1, "1"])
def test_every_version_must_be_a_pin(version, make_bundle):
    bundle = make_bundle()
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    metadata["required_packages_version"]["nibabel"] = version
    (finding,) = spoil(bundle, "configs/metadata.json", json.dumps(metadata))
    assert finding.id == "required_packages_version#nibabel"


@pytest.mark.parametrize("key", ["version", "changelog", "copyright", "intended_use", "authors"])
def test_metadata_must_be_complete(key, make_bundle):
    bundle = make_bundle()
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    del metadata[key]
    (finding,) = spoil(bundle, "configs/metadata.json", json.dumps(metadata))
    assert (finding.file, finding.id) == ("configs/metadata.json", key)


def test_every_tensor_must_be_described(make_bundle):
    bundle = make_bundle()
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    del metadata["network_data_format"]["inputs"]["image"]["dtype"]
    metadata["network_data_format"]["outputs"] = {}
    one, two = spoil(bundle, "configs/metadata.json", json.dumps(metadata))
    assert (one.id, two.id) == (
        "network_data_format#inputs#image",
        "network_data_format#outputs",
    )


@pytest.mark.parametrize("name", ["LICENSE", "configs/metadata.json"])
def test_what_is_missing_is_named(name, make_bundle):
    bundle = make_bundle()
    (bundle / name).unlink()
    write_manifest(bundle)
    (finding,) = check_bundle(bundle)
    assert finding.file == name


def test_an_empty_licence_is_none(make_bundle):
    (finding,) = spoil(make_bundle(), "LICENSE", " \n")
    assert finding.rule == "licence"
