"""The threat model names tests that exist."""

import re

PAGE = "docs/explanation/threat-model.md"
NAMED = re.compile(r"`(tests/[\w/.]+?)(?:::(\w+))?`")


def test_every_test_that_the_threat_model_names_exists(repository):
    named = NAMED.findall((repository / PAGE).read_text())
    assert len(named) > 20
    for file, test in named:
        assert (repository / file).exists(), file
        if test:
            assert f"def {test}(" in (repository / file).read_text(), f"{file}::{test}"


def test_every_threat_has_a_test(repository):
    text = (repository / PAGE).read_text().split("## What holds it")[1].split("## What is not")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 12
    assert all(NAMED.search(row) for row in rows)
