"""The threat model names tests that exist."""

import re

import pytest

PAGE = "docs/explanation/threat-model.md"
NAMED = re.compile(r"`(tests/[\w/.]+?)(?:::(\w+))?`")


def test_every_test_that_the_threat_model_names_exists(repository):
    named = NAMED.findall((repository / PAGE).read_text())
    assert len(named) > 20
    for file, test in named:
        assert (repository / file).exists(), file
        if test:
            assert f"def {test}(" in (repository / file).read_text(), f"{file}::{test}"


@pytest.mark.parametrize(
    ("section", "least"),
    [("What holds it", 40), ("What an attacker once found", 14), ("How much is tried", 5)],
)
def test_every_row_has_a_test(repository, section, least):
    _, found = (repository / PAGE).read_text().split(f"\n## {section}")
    rows = [line for line in found.split("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= least
    assert all(NAMED.search(row) for row in rows)
