import sys
from email.message import Message

import pytest

from grata_monai.core.errors import DatasetError
from tools.compliance.packages import (
    Package,
    _find_licence,
    _find_maker,
    _find_tracker,
    find_parts,
    installed,
    needed_by,
    read_lock,
)

PYPROJECT = """
[project]
dependencies = ["engine>=1"]
[project.optional-dependencies]
dicom = ["pictures[fast]"]
dev = ["checker", "engine"]
"""


def about(**fields: str | list[str]) -> Message:
    """Metadata as importlib.metadata gives them; a list stands there several times."""
    message = Message()
    for name, value in fields.items():
        for each in [value] if isinstance(value, str) else value:
            message[name.replace("_", "-")] = each
    return message


def package(name: str, *requirements: str) -> Package:
    return Package(name, "1", "MIT", "", "", "", requirements)


@pytest.fixture
def packages() -> dict[str, Package]:
    found = (
        package("engine", "Wheel_Maker", "absent", 'windows; sys_platform == "nowhere"'),
        package("Wheel_Maker"),
        package("windows"),
        package("pictures", 'decoder; extra == "fast"', 'unused; extra == "slow"'),
        package("decoder", "Wheel_Maker"),
        package("unused"),
        package("checker", "decoder"),
    )
    return {each.name.lower().replace("_", "-"): each for each in found}


def test_the_lock_gives_exact_versions_under_normalised_names(tmp_path):
    (tmp_path / "constraints.txt").write_text("# a remark\nB.b_C==1.0\n\nalpha==2.0.post1\n")
    assert read_lock(tmp_path) == {"alpha": "2.0.post1", "b-b-c": "1.0"}


def test_a_lock_with_a_range_is_refused(tmp_path):
    (tmp_path / "constraints.txt").write_text("alpha>=2\n")
    with pytest.raises(DatasetError, match="must have the form name==version, 'alpha>=2' has not"):
        read_lock(tmp_path)


def test_a_folder_without_a_lock_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"constraints\.txt must be readable.*--root"):
        read_lock(tmp_path)


def test_a_part_is_what_its_requirements_lead_to_and_the_first_part_wins(tmp_path, packages):
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    assert find_parts(tmp_path, packages) == {
        "engine": "segmenting",
        "wheel-maker": "segmenting",
        "pictures": "DICOM",
        "decoder": "DICOM",
        "checker": "development",
    }


def test_a_package_names_those_that_need_it_here(packages):
    users = needed_by(packages)
    assert users["wheel-maker"] == ["engine", "decoder"]
    assert users["decoder"] == ["checker"]  # the extra was not asked for
    assert users["windows"] == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License_Expression": "MIT OR BSD-2-Clause", "License": "other"}, "MIT OR BSD-2-Clause"),
        ({"License": "Apache License 2.0"}, "Apache-2.0"),
        ({"License": "BSD"}, "BSD"),
        ({"License": "Copyright\nby all", "Classifier": ["License :: OSI :: MIT License"]}, "MIT"),
        ({"License": "LICENSE", "Classifier": ["License :: OSI :: MIT License"]}, "MIT"),
        ({"Classifier": ["Topic :: Other"]}, ""),
    ],
)
def test_the_licence_is_an_expression_a_short_text_or_a_classifier(fields, expected):
    assert _find_licence(about(**fields)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"Author": "Ada Lovelace, Charles Babbage"}, "Ada Lovelace"),
        ({"Author_email": "Ada Lovelace <ada@example.org>"}, "Ada Lovelace"),
        ({"Author": "ada@example.org", "Maintainer": "The Engine Team"}, "The Engine Team"),
        ({"Author_email": "ada@example.org"}, ""),
    ],
)
def test_the_maker_is_a_name_and_never_an_address(fields, expected):
    assert _find_maker(about(**fields)) == expected


@pytest.mark.parametrize(
    ("urls", "home", "expected"),
    [
        (["Source, https://x.org", "Bug Tracker, https://x.org/bugs"], "", "https://x.org/bugs"),
        (["Funding, https://github.com/sponsors/a", "Code, https://github.com/a/b.git"], "",
         "https://github.com/a/b/issues"),
        ([], "http://github.com/a/b.c", "https://github.com/a/b.c/issues"),
        (["Docs, https://x.org"], "https://y.org", "https://x.org"),
        ([], "", ""),
    ],
)  # fmt: skip
def test_the_tracker_is_named_or_follows_from_the_repository(urls, home, expected):
    assert _find_tracker(about(Project_URL=urls, Home_page=home)) == expected


def test_our_own_package_is_none_of_the_installed_ones():
    found = installed()
    assert "grata-monai" not in found
    assert found["torch"].name == "torch"
    assert sys.prefix not in repr(found)
