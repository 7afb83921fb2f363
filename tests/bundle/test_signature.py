"""A bundle is signed with a key, and opened only with that signature where the operator asks."""

import hashlib
import json
import shutil
import subprocess

import pytest

from grata_monai.bundle import open_bundle
from grata_monai.bundle.lint import write_manifest
from grata_monai.bundle.lint.rules import check_bundle
from grata_monai.bundle.signature import KEY_VARIABLE, SIGNATURE
from grata_monai.bundle.verify import verify_bundle
from grata_monai.cli import main
from grata_monai.core.errors import BundleError

CURVE = ("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out")


@pytest.fixture
def copy(bundle, tmp_path):
    """The bundle without its weights, which need not be hashed time and again."""
    ignored = shutil.ignore_patterns("eval", "training", "*.pt")
    folder = shutil.copytree(bundle, tmp_path / "copy", ignore=ignored)
    write_manifest(folder)
    return folder


@pytest.fixture
def keys(tmp_path):
    """A private and a public key."""
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    subprocess.run([*CURVE, private], check=True)
    subprocess.run(
        ["openssl", "ec", "-in", private, "-pubout", "-out", public],
        check=True,
        capture_output=True,
    )
    return private, public


def test_without_a_wish_of_the_operator_no_signature_is_needed(copy, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert verify_bundle(copy)["is_verified"]


@pytest.mark.parametrize("unverified", [False, True])
def test_an_unsigned_bundle_is_refused_before_it_is_parsed(copy, keys, monkeypatch, unverified):
    monkeypatch.setenv(KEY_VARIABLE, str(keys[1]))
    (copy / "configs" / "inference.json").write_text("{ no JSON")
    with pytest.raises(BundleError, match=r"must be (signed here|verified where GRATA_BUNDLE_KEY)"):
        open_bundle(copy, unverified=unverified)


def test_a_signed_bundle_opens_wherever_it_is_moved_and_after_runs(
    copy, keys, monkeypatch, capsys, tmp_path
):
    assert main(["sign", str(copy), "--key", str(keys[0])]) == 0
    assert SIGNATURE in capsys.readouterr().out
    assert [one for one in check_bundle(copy) if one.file != "models"] == []
    moved = copy.rename(tmp_path / "moved")
    (moved / "eval").mkdir()
    (moved / "eval" / "a_seg.nii.gz").touch()
    monkeypatch.setenv(KEY_VARIABLE, str(keys[1]))
    signed_by = hashlib.sha256(keys[1].read_bytes()).hexdigest()
    assert open_bundle(moved).verified["signed_by"] == signed_by


def change(copy, *, with_manifest):
    path = copy / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"overlap": 0.5}))
    if with_manifest:
        write_manifest(copy)


@pytest.mark.parametrize("with_manifest", [False, True])
def test_a_change_after_signing_is_refused_also_with_a_new_manifest(
    copy, keys, monkeypatch, with_manifest
):
    main(["sign", str(copy), "--key", str(keys[0])])
    change(copy, with_manifest=with_manifest)
    monkeypatch.setenv(KEY_VARIABLE, str(keys[1]))
    with pytest.raises(BundleError, match="must be as it was signed with the key of"):
        open_bundle(copy)


def test_the_signature_of_another_key_is_refused(copy, keys, monkeypatch, tmp_path):
    subprocess.run([*CURVE, tmp_path / "other.pem"], check=True)
    main(["sign", str(copy), "--key", str(tmp_path / "other.pem")])
    monkeypatch.setenv(KEY_VARIABLE, str(keys[1]))
    with pytest.raises(BundleError, match="must be as it was signed with the key of"):
        open_bundle(copy)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[1]"])
def test_a_broken_signature_is_refused(copy, keys, monkeypatch, content):
    (copy / SIGNATURE).write_bytes(content)
    monkeypatch.setenv(KEY_VARIABLE, str(keys[1]))
    with pytest.raises(BundleError, match="must be as it was signed with the key of"):
        open_bundle(copy)


def test_a_changed_bundle_is_not_signed(copy, keys, capsys):
    change(copy, with_manifest=False)
    assert main(["sign", str(copy), "--key", str(keys[0])]) == 2
    assert "'configs/inference.json' differs" in capsys.readouterr().err
    assert not (copy / SIGNATURE).exists()


def test_what_is_no_key_is_refused(copy, keys, monkeypatch, capsys):
    assert main(["sign", str(copy), "--key", str(copy / "LICENSE")]) == 2
    assert "key must be a PEM file with a private key" in capsys.readouterr().err
    main(["sign", str(copy), "--key", str(keys[0])])
    monkeypatch.setenv(KEY_VARIABLE, str(copy / "LICENSE"))
    with pytest.raises(ValueError, match="GRATA_BUNDLE_KEY must be a PEM file with a public key"):
        open_bundle(copy)
