"""The manifest names every file, and every other byte, file or link is refused by its name."""

import hashlib
import json
import os
import shutil
import subprocess

import pytest
from crash import kill_at_call

from grata_monai.bundle.lint import verify_bundle, verify_manifest, write_manifest
from grata_monai.bundle.verify import find_differences, manifest_digest
from grata_monai.core.errors import BundleError

STALE = (
    "bundle/manifest.sha256 is stale. Check what changed in bundle/, then run: "
    "python -m grata_monai lint --write-manifest bundle"
)


def test_the_manifest_of_our_bundle_is_up_to_date(repository):
    assert find_differences(repository / "bundle") == [], STALE


def test_it_lists_every_file_but_itself_sorted_with_its_hash(make_bundle):
    bundle = make_bundle()
    lines = (bundle / "manifest.sha256").read_text().splitlines()
    names = [line[66:] for line in lines]
    files = [p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()]
    assert names == sorted(set(files) - {"manifest.sha256"})
    for line in lines:
        content = (bundle / line[66:]).read_bytes()
        assert line == f"{hashlib.sha256(content).hexdigest()}  {line[66:]}"


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum")
def test_sha256sum_reads_it(make_bundle):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "manifest.sha256"],
        cwd=make_bundle(),
        check=False,
    )
    assert done.returncode == 0


def test_a_bundle_as_it_was_written_is_verified_and_named_by_its_manifest(make_bundle):
    bundle = make_bundle()
    digest = hashlib.sha256((bundle / "manifest.sha256").read_bytes()).hexdigest()
    assert verify_manifest(bundle) == manifest_digest(bundle) == digest
    assert verify_bundle(bundle) == {
        "is_verified": True,
        "manifest_sha256": digest,
        "reason": "",
        "name": "small",
        "version": "0.1.0",
        "signed_by": None,
    }


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        ('{"name": "A\\u0000\\\\B\\n", "version": 1}', {"name": "AB", "version": "1"}),
        (json.dumps({"name": "x" * 99}), {"name": "x" * 64, "version": ""}),
        ("[1]", {"name": "", "version": ""}),
        ("{ no JSON", {}),
    ],
)
def test_a_bundle_is_named_in_what_fits_into_dicom(tmp_path, metadata, name):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text(metadata)
    unverified = {"is_verified": False, "manifest_sha256": None, "reason": "it has no manifest"}
    assert verify_bundle(tmp_path, unverified=True) == unverified | name


def flip_a_bit(bundle):
    path = bundle / "models" / "model.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def link(bundle):
    (bundle / "docs" / "README.md").rename(bundle.parent / "elsewhere.md")
    (bundle / "docs" / "README.md").symlink_to(bundle.parent / "elsewhere.md")


def list_twice(bundle):
    path = bundle / "manifest.sha256"
    path.write_text(path.read_text() * 2)


DAMAGE = {
    "a bit": (flip_a_bit, r"'models/model\.pt' differs"),
    "a missing file": (lambda b: (b / "LICENSE").unlink(), "'LICENSE' is missing"),
    "an unlisted file": (lambda b: (b / "numpy.py").write_text(""), r"'numpy\.py' is not listed"),
    "an unlisted file below eval of another folder": (
        lambda b: ((b / "configs" / "eval").mkdir(), (b / "configs/eval/a.txt").write_text("")),
        r"'configs/eval/a\.txt' is not listed",
    ),
    "a file in place of a folder of outputs": (
        lambda b: (b / "eval").write_text(""),
        "'eval' is not listed",
    ),
    "a link with the same content": (link, r"'docs/README\.md' is a symbolic link"),
    "a linked folder": (lambda b: (b / "eval").symlink_to(b / "docs"), "'eval' is a symbolic link"),
    "a pipe": (lambda b: os.mkfifo(b / "docs" / "pipe"), "'docs/pipe' is no regular file"),
    "no manifest": (
        lambda b: (b / "manifest.sha256").unlink(),
        r"'manifest\.sha256' is missing",
    ),
    "a linked manifest": (
        lambda b: (
            (b / "manifest.sha256").rename(b.parent / "m"),
            (b / "manifest.sha256").symlink_to(b.parent / "m"),
        ),
        r"'manifest\.sha256' is a symbolic link",
    ),
    "a manifest that is none": (
        lambda b: (b / "manifest.sha256").write_text("hello\n"),
        r"'(LICENSE' is not listed|manifest\.sha256' has a faulty line 1)",
    ),
    "a manifest that lists a file twice": (list_twice, r"'manifest\.sha256' has a faulty line 6"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_it_refuses(name, make_bundle):
    damage, message = DAMAGE[name]
    bundle = make_bundle()
    damage(bundle)
    with pytest.raises(BundleError, match=message):
        verify_bundle(bundle)


def test_the_message_says_how_many_more_and_what_to_do(make_bundle):
    bundle = make_bundle()
    (bundle / "LICENSE").unlink()
    (bundle / "more.md").write_text("")
    with pytest.raises(BundleError, match=r"missing, and 1 more\. Get .* --write-manifest BUNDLE"):
        verify_manifest(bundle)


def test_what_runs_leave_behind_is_not_looked_at(make_bundle):
    bundle = make_bundle()
    for name in ("eval", "training"):
        (bundle / name).mkdir()
        (bundle / name / "left.txt").write_text("by a run")
    assert find_differences(bundle) == []
    assert write_manifest(bundle).read_text().count("\n") == 5


@pytest.mark.parametrize("name", ["a\nb.txt", "a\\b.txt", "\udcff.txt"])
def test_a_name_that_sha256sum_would_escape_is_refused_before_anything_is_written(
    name, make_bundle
):
    bundle = make_bundle()
    before = (bundle / "manifest.sha256").read_bytes()
    (bundle / name).write_text("")
    with pytest.raises(BundleError, match="has a name that cannot be listed"):
        write_manifest(bundle)
    assert (bundle / "manifest.sha256").read_bytes() == before


def test_what_is_no_folder_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="bundle must be a folder, 'gone' is none"):
        verify_bundle(tmp_path / "gone")


def test_an_unreadable_file_is_named_without_its_folder(make_bundle, monkeypatch):
    bundle = make_bundle()
    original = type(bundle).open

    def refuse(path, *arguments, **more):
        if path.name == "model.pt":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *arguments, **more)

    monkeypatch.setattr(type(bundle), "open", refuse)
    with pytest.raises(BundleError, match=r"'model\.pt' is not: Permission denied") as caught:
        verify_bundle(bundle)
    assert str(bundle) not in str(caught.value)


def test_unverified_looks_at_nothing_and_says_so(tmp_path, caplog):
    assert verify_bundle(tmp_path / "gone", unverified=True) == {
        "is_verified": False,
        "manifest_sha256": None,
        "reason": "it has no manifest",
    }
    assert "the bundle is not verified: it has no manifest" in caplog.text


def test_a_folder_for_results_must_not_lead_elsewhere(make_bundle, tmp_path):
    bundle = make_bundle()
    (bundle / "eval").mkdir(exist_ok=True)
    (bundle / "eval" / "far").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(BundleError, match="'eval/far' is a symbolic link to a folder"):
        verify_manifest(bundle)


def test_a_manifest_killed_while_it_is_written_leaves_the_old_or_the_new_one(make_bundle):
    bundle = make_bundle()
    (bundle / "docs").mkdir(exist_ok=True)
    (bundle / "docs" / "README.md").write_text("changed\n")
    before = (bundle / "manifest.sha256").read_bytes()
    seen, number, is_killed = [], 0, True
    while is_killed:
        number += 1
        is_killed = kill_at_call(number, lambda: write_manifest(bundle))
        seen.append((bundle / "manifest.sha256").read_bytes())
    assert number > 3
    assert len({*seen}) == 2
    assert seen[0] == before
    assert find_differences(bundle) == []
