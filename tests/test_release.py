"""A release has one version everywhere, and pages that say what the code holds."""

import re
import tomllib

import pytest


@pytest.fixture(scope="module")
def pyproject(repository) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))


def test_the_version_is_the_same_everywhere(pyproject, repository):
    version = re.escape(pyproject["project"]["version"])
    citation = (repository / "CITATION.cff").read_text("utf-8")
    assert re.search(rf"^version: {version}$", citation, re.M)
    changelog = (repository / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^(## \[{version}\]|What will be {version},)", changelog, re.M)


def test_the_table_of_rooms_is_what_import_linter_holds(pyproject, repository):
    contract = pyproject["tool"]["importlinter"]["contracts"][0]
    held = [set(layer.split(" | ")) for layer in contract["layers"]]
    text = (repository / "docs" / "architecture.md").read_text("utf-8")
    table = text.partition("| room | what for |")[2].partition("\n\n")[0]
    told = [set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in table.splitlines()[2:]]
    assert told == held


def test_the_wheel_carries_its_types(repository):
    assert (repository / "grata_monai" / "py.typed").exists()


def test_the_wheel_carries_every_file_of_the_bundle(pyproject, repository):
    carried = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    lines = (repository / "bundle" / "manifest.sha256").read_text("utf-8").splitlines()
    for file in ["manifest.sha256", *(line.split("  ", 1)[1] for line in lines)]:
        part = f"bundle/{file.split('/')[0]}"
        assert carried[part] == f"grata_monai/prostate_{part}"
