"""`label install` puts the bundle in its place whole, or says why not and leaves all as it was."""

import shutil
import sys

import pytest
import torch

from grata_monai.bundle.lint import verify_manifest, write_manifest
from grata_monai.cli import main
from grata_monai.hosts.label.install import MODEL


@pytest.fixture
def app(tmp_path):
    """An app as `monailabel apps --download` leaves it."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("")
    return tmp_path / "app"


@pytest.fixture
def bundle(repository, tmp_path):
    keep = shutil.ignore_patterns("eval", "training")
    return shutil.copytree(repository / "bundle", tmp_path / "bundle", ignore=keep)


@pytest.fixture
def install(app, bundle, capsys):
    def install(*more, to=app):
        status = main(["label", "install", str(to), "--bundle", str(bundle), *more])
        said = capsys.readouterr()
        return status, said.out + said.err

    return install


def test_the_bundle_lies_where_the_app_finds_it(install, app, bundle):
    (bundle / "eval").mkdir()
    (bundle / "eval" / "mask.json").write_text("")
    status, said = install()
    target = app / "model" / MODEL
    assert status == 0
    assert MODEL.endswith("_segmentation")
    assert verify_manifest(target) == verify_manifest(bundle)
    assert verify_manifest(bundle) in said
    assert "--host 127.0.0.1" in said
    assert not (target / "eval").exists()
    assert [path.name for path in (app / "model").iterdir()] == [MODEL]


def test_an_unchanged_bundle_is_replaced_and_a_changed_one_is_not(install, app, bundle):
    assert install()[0] == 0
    (bundle / "LICENSE").write_text("another version")
    write_manifest(bundle)
    assert install()[0] == 0
    target = app / "model" / MODEL
    assert (target / "LICENSE").read_text() == "another version"
    (target / "LICENSE").write_text("mine")
    status, said = install()
    assert status == 2
    assert "it is no unchanged bundle. Move it away" in said
    assert (target / "LICENSE").read_text() == "mine"


def test_a_link_shows_changes_at_once_and_a_copy_replaces_it(install, app, bundle):
    target = app / "model" / MODEL
    assert install("--link")[0] == 0
    assert target.is_symlink()
    assert verify_manifest(target) == verify_manifest(bundle)
    assert install("--link")[0] == 0
    assert install()[0] == 0
    assert not target.is_symlink()
    status, said = install("--link")
    assert status == 2
    assert "a link would replace a folder" in said


def test_a_file_in_its_place_is_refused(install, app):
    (app / "model").mkdir()
    (app / "model" / MODEL).write_text("")
    status, said = install()
    assert (status, "no unchanged bundle" in said) == (2, True)


def test_a_changed_bundle_is_refused_before_anything_is_made(install, bundle, tmp_path):
    (bundle / "LICENSE").write_text("changed")
    status, said = install(to=tmp_path / "new")
    assert status == 2
    assert "every file of the bundle must be as manifest.sha256 says, 'LICENSE' differs" in said
    assert not (tmp_path / "new").exists()


def test_weights_that_do_not_fit_are_refused(install, app, bundle):
    weights = bundle / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    torch.save({f"other.{key}": value for key, value in state.items()}, weights)
    write_manifest(bundle)
    status, said = install()
    assert status == 2
    assert "must have exactly the network's keys" in said
    assert not (app / "model" / MODEL).exists()


def test_a_folder_that_is_no_app_is_refused(install, tmp_path):
    status, said = install(to=tmp_path)
    assert status == 2
    assert "has no main.py. Give a new folder, or one that `monailabel apps --download" in said


def test_without_monai_label_a_new_app_cannot_be_made(install, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))
    status, said = install(to=tmp_path / "new")
    assert status == 2
    assert "this Python has no MONAI Label" in said
    assert not (tmp_path / "new").exists()


def test_the_stock_app_is_copied_without_its_leftovers(install, tmp_path, monkeypatch):
    stock = tmp_path / "python" / "monailabel" / "sample-apps" / "monaibundle"
    for name in ("main.py", "lib/infers/__init__.py", "logs/app.log", "__pycache__/main.pyc"):
        (stock / name).parent.mkdir(parents=True, exist_ok=True)
        (stock / name).write_text("")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "python"))
    status, said = install(to=tmp_path / "apps" / "new")
    new = tmp_path / "apps" / "new"
    assert status == 0
    assert "copied the stock app" in said
    assert sorted(path.name for path in new.iterdir()) == ["lib", "main.py", "model"]
    assert (new / "lib" / "infers" / "__init__.py").exists()
