import json
import sys

import pytest

from tools.compliance import pages
from tools.compliance.command import main


@pytest.fixture
def outdated(monkeypatch) -> dict[str, str]:
    """What the pages would be said to need; the real ones are compared in test_pages."""
    found: dict[str, str] = {}
    monkeypatch.setattr(pages, "find_outdated", lambda root: found)
    return found


def test_up_to_date_ends_with_0(outdated, capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == "every page is up to date\n"


def test_out_of_date_ends_with_1_and_writes_nothing(outdated, tmp_path, capsys):
    outdated["a.md"] = "new"
    assert main(["--root", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "a.md is out of date; run: make compliance\n"
    assert list(tmp_path.iterdir()) == []


def test_write_writes_and_reminds_of_the_manifest(outdated, tmp_path, capsys):
    (tmp_path / "bundle").mkdir()
    outdated["bundle/a.md"] = "new"
    assert main(["--root", str(tmp_path), "--write"]) == 0
    assert (tmp_path / "bundle" / "a.md").read_text() == "new"
    assert "lint --write-manifest bundle" in capsys.readouterr().out


def test_the_bill_of_materials_is_written_where_it_was_asked_for(repository, tmp_path, capsys):
    path = tmp_path / "new" / "sbom.cdx.json"
    assert main(["--root", str(repository), "--sbom", str(path)]) == 0
    count = len(json.loads(path.read_text())["components"])
    assert capsys.readouterr().out == f"wrote {path}: {count} components\n"


def test_another_folder_is_refused_in_one_line(tmp_path, capsys):
    assert main(["--root", str(tmp_path)]) == 2
    assert "Run this in the root of the repository" in capsys.readouterr().err


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "tools.compliance.sbom", raising=False)
    monkeypatch.setitem(sys.modules, "cyclonedx", None)
    monkeypatch.setitem(sys.modules, "cyclonedx.contrib.license.factories", None)
    assert main(["--sbom", str(tmp_path / "a.json")]) == 2
    assert "pip install 'grata-monai[dev]'" in capsys.readouterr().err
