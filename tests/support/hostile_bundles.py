"""Hostile bundles for tests: what is planted, under which form of key, in which file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SEND = "grata_monai.transfer.run.send_results"
SECURITY = "grata_monai.transfer.security.Security"
LIMITS = "grata_monai.read.dicom.limits.Limits"
INFERER = {"_target_": "SimpleInferer"}

PAYLOADS: Mapping[str, Any] = {
    "a target": {"_target_": "os.system", "command": "true"},
    "an expression": "$__import__('os').system('true')",
    "a call without names": "$monai.transforms.LoadImaged('image', 'os.system', command='true')",
    "a reader": {"_target_": "LoadImaged", "keys": "image", "reader": "os.system"},
    "a macro of a file": "%eval/evil.json::payload",
    "a macro of a file that ends in capitals": "%eval/evil.JSON::payload",
    "an address": "dicoms://EVIL@evil.example:104",
    "an absolute path": "/etc/passwd",
    "a text of texts": "$@note_a + @notes[0]",
    "a text of one sign each": "$@note_a[0] + @note_a[1]",
    "a text of a key": "$max(@notes) + min(@notes)",
    "a citation": "@_meta_::schema",
    "a destination": {"_target_": SEND, "destination": "@note_a"},
    "a destination in a callable": {"_target_": SEND, "_mode_": "callable", "destination": "a"},
    "insecurity": {"_target_": SEND, "security": {"_target_": SECURITY, "is_insecure": True}},
    "identifiers": {"_target_": "grata_monai.write.dicom.save.SaveDicomd", "phi": "keep"},
    "limits": {"_target_": "grata_monai.read.dicom.load.LoadDicomVolumed",
               "limits": {"_target_": LIMITS, "memory_bytes": 1e15}},
    "a verdict": {"_target_": "grata_monai.GraTaInferer", "inferer": INFERER,
                  "bundle": {"is_verified": True, "manifest_sha256": "0" * 64, "reason": ""}},
    "a folder": {"_target_": "CheckpointSaver", "save_dir": ".ssh", "final_filename": "a"},
    "a folder of texts": {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@note_a"},
    "a compiler": {"_target_": "SupervisedEvaluator", "compile": True,
                   "compile_kwargs": {"options": {"cpp.cxx": ["eval/evil"]}}},
    "a folder to write phantoms": {"_target_": "grata_monai.read.cases.list_cases",
                                   "dataset_dir": None, "phantom_dir": "configs"},
    "a mask over its image": {"_target_": "SaveImaged", "keys": "pred", "output_dir": "eval",
                              "output_postfix": "", "data_root_dir": "eval/a/b"},
    "a mask without a folder": {"_target_": "SaveImaged", "keys": "pred", "output_postfix": ""},
    "a pattern for keys": {"_target_": "DeleteItemsd", "keys": "(a+)+$", "use_re": True},
}  # fmt: skip
"""Name to what is planted; all of it is JSON."""


def place(form: str, payload: Any) -> dict[str, Any]:
    """Write a payload under one form of key.

    Args:
        form: A name of `FORMS`.
        payload: Of `PAYLOADS`.

    Returns:
        Items of a configuration.
    """
    return {
        "a plain key": {"x": payload},
        "below a key": {"x": {"y": {"z": payload}}},
        "in lists": {"x": [1, [payload]]},
        "a path with #": {"device": {}, "device#y": payload},
        "a path with ::": {"device": {}, "device::y": payload},
        "merged": {"+handlers": [payload]},
        "a description": {"x": {"_desc_": payload}},
        "a requirement": {"x": {**INFERER, "_requires_": [payload]}},
    }[form]


FORMS = (
    "a plain key",
    "below a key",
    "in lists",
    "a path with #",
    "a path with ::",
    "merged",
    "a description",
    "a requirement",
)
NOTES = {"note_a": "dicom", "notes": ["s:", "evil"]}

TOP: Mapping[str, dict[str, Any]] = {
    "destination": {"destination": "evil"},
    "destination of texts": {"note": "evil", "destination": "@note"},
    "destination by a macro": {"note": "evil", "destination": "%note"},
    "source": {"source": "evil"},
    "weights that no manifest covers": {
        "network#weights": "$@bundle_root + '/training/model.pt'",
    },
    "a profile that no manifest covers": {"profile": "eval/profile.json"},
    "the same by a reference": {"results": "eval", "profile": "$@results + '/profile.json'"},
    "the same from the side": {"load_path": "$@bundle_root + '/models/../eval/model.pt'"},
    "weights anywhere": {"network#weights": "/tmp/model.pt"},
    "weights at home": {"weights": "~/model.pt"},
    "weights beside the bundle": {"load_path": "../model.pt"},
    "weights beside it by steps": {"weights": "$@bundle_root + '/models/../../model.pt'"},
    "weights of a folder anywhere": {"ckpt_dir": "/tmp", "load_path": "$@ckpt_dir + '/a.pt'"},
    "weights joined anywhere": {"weights": "$os.path.join('/tmp', 'a.pt')"},
    "weights by an address": {"weights": "file:///tmp/a.pt"},
    "the same by a component": {
        "profile": {"_target_": "grata_monai.bundle.find_profile", "bundle_root": "training"},
    },
    "the same by os.path.join": {
        "where": "training",
        "weights": "$os.path.join(@bundle_root, @where, 'model.pt')",
    },
    "security": {"security": {"_target_": SECURITY, "is_insecure": True}},
    "security by a path": {"security": {"_target_": SECURITY}, "security#is_insecure": True},
    "security by another path": {"security::ca": "a.pem"},
    "security merged": {"+security": {"is_insecure": True}},
    "unverified": {"unverified": True},
    "verified": {"verified": {"is_verified": True, "manifest_sha256": "0" * 64, "reason": ""}},
    "verified by a path": {"verified#unverified": True},
    "verified another bundle": {
        "verified": {
            "_target_": "grata_monai.bundle.verify_own_bundle",
            "bundle_root": "other",
            "unverified": "@unverified",
        }
    },
    "bundle_root": {"bundle_root": "other"},
    "phi": {"phi": "keep"},
    "phi by an expression": {"phi": "$'keep'"},
    "allow_refused": {"allow_refused": True},
    "limits": {"limits": {"_target_": LIMITS, "seconds": 1e9}},
    "case_seconds": {"case_seconds": 10**9},
    "case_seconds of the inferer": {"case_seconds": 1e9, "i": "@case_seconds"},
    "limits by a path": {"limits#pixel_budget_bytes": 10**15},
    "output_dir": {"output_dir": "somewhere"},
    "output_dir hidden": {"output_dir": "$@bundle_root + '/eval/.ssh'"},
    "output_dir over configurations": {"output_dir": "$@bundle_root + '/configs'"},
    "output_dir by steps": {"output_dir": "@a_dir", "a_dir": "$@b_dir + '/c'", "b_dir": "home"},
    "output_dir joined": {"output_dir": "$os.path.join(@b_dir, 'a')", "b_dir": "home"},
    "output_dir in a circle": {"output_dir": "$@a_dir + '/a'", "a_dir": "@output_dir"},
    "record_dir": {"h": {"_target_": "grata_monai.GraTaHandler", "record_dir": "home"}},
    "phantom_dir": {"phantom_dir": "$@bundle_root + '/configs'"},
    "data_root_dir": {"saver": {"_target_": "SaveImaged", "data_root_dir": "@images_dir"}},
    "data_root_dir by a path": {"saver#data_root_dir": "eval/a/b"},
    "a path for a name": {"h": {"final_filename": "$@dataset_dir + '/a.nii.gz'"}},
    "a path for a name by steps": {
        "a_dir": "$@dataset_dir + '/a'",
        "h": {"output_postfix": "@a_dir"},
    },
    "a name in a circle": {
        "file_prefix": "@key_metric_filename",
        "key_metric_filename": "@file_prefix",
    },
    "saved anywhere": {"saver": {"_target_": "monai.transforms.SaveImaged", "keys": "pred"}},
    "a pattern that never ends": {"selection": {"description": "(a+)+$"}},
    "a pattern with alternatives": {"selection#description": "(a|aa)+$"},
    "a pattern of many repeats": {"selection": {"description": "a*a*a*a*b"}},
    "a relative macro below a file's name": {"bundle/eval/evil.json": {"x": "%#payload"}},
    "the same, deeper": {"eval": {"evil.json": {"y": {"x": "%##payload"}}}},
    "the same in one key": {"a#eval/evil.yaml": {"x": "%#payload"}},
    "the same merged": {"+evil.yml": {"x": "%#payload"}},
    "the same by a copy": {"evil.json": "%copied", "copied": {"x": "%#payload"}},
    "a relative macro out of the configuration": {"x": "%####a"},
    "a key of code": {"x'] or exit() or ['": {"y": "$@#a"}},
    "the same by a copy of it": {"x'] or exit() or ['": "%copied", "copied": {"y": "$@#a"}},
    "a key that is a path": {"notes": {"../../a": 1}, "x": "$list(@notes)[0]"},
    "a description that is handed on": {"x": {"_desc_": "../../etc/passwd"}, "y": "@x::_desc_"},
    "an empty folder": {"a_dir": "", "x": "$@a_dir + '/etc/passwd'"},
    "an address in two parts": {"a_dir": "http:/", "x": "$@a_dir + '/evil.example'"},
}
"""Name to whole items at the top of a configuration."""

YAML: Mapping[str, str] = {
    "aliases": "note: &n {_target_: os.system}\nx: *n\n",
    "a merged mapping": "note: &n {_target_: os.system}\nx: {<<: *n, command: 'true'}\n",
    "an object": "x: !!python/object/apply:os.system ['true']\n",
    "a name": "x: !!python/name:os.system\n",
    "bytes": "x: !!binary L2V0Yy9wYXNzd2Q=\n",
    "a set": "x: !!set {a, b}\n",
    "a bomb": "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "itself": "x: &x [*x]\n",
    "a key twice": "x: 1\nx: {_target_: os.system}\n",
    "a key that is a date": "2026-01-01: {_target_: os.system}\n",
    "a key that is a list": "? [a]\n: 1\n",
    "a file's name": "eval/evil.yaml:\n  x: '%#payload'\n",
}
"""Name to a file that only YAML can write."""


@dataclass(frozen=True)
class Hostile:
    """One hostile bundle: a configuration file that a small harmless bundle gets besides.

    Attributes:
        name: What it is.
        file: Path in the bundle.
        content: Of the file.
    """

    name: str
    file: str
    content: str


def make_hostile() -> Iterator[Hostile]:
    """Make every hostile bundle of the corpus: payload by form of key, then those with one form."""
    files = ("configs/overlay.json", "docs/far.yaml")
    for number, (name, payload) in enumerate(PAYLOADS.items()):
        for form in FORMS:
            items = {**NOTES, **place(form, payload)}
            file = files[(number + FORMS.index(form)) % 2]
            yield Hostile(f"{name}, {form}", file, json.dumps(items))
    for name, items in TOP.items():
        yield Hostile(f"top: {name}", "configs/overlay.json", json.dumps(items))
    for name, text in YAML.items():
        yield Hostile(f"YAML: {name}", "configs/overlay.yaml", text)
