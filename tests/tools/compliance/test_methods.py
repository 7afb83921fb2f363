import re

import pytest

from grata_monai.core.errors import DatasetError
from grata_monai.methods.registry import METHODS
from tools.compliance.methods import TESTS, render_methods


def test_every_registered_method_has_a_row_as_the_page_shows_it(repository):
    table = render_methods(repository)
    assert re.findall(r"^\| `(\w+)` \| (?:exact|deviates: \S.+) \| `test_", table, re.M) == [
        *METHODS
    ]
    assert (
        "| `source` | exact | `test_published_statistics.py::test_source_as_published` |" in table
    )
    assert "| `cotta` | deviates: Six views, the authors' 14" in table
    assert table in (repository / "docs" / "reference" / "methods.md").read_text(encoding="utf-8")


def test_a_method_without_a_derivation_is_refused(tmp_path):
    (tmp_path / TESTS).mkdir(parents=True)
    (tmp_path / TESTS / "test_a.py").write_text("def test_source_as_published(): ...\n")
    with pytest.raises(DatasetError, match=r"method 'mirror' must name its source .*, and have a"):
        render_methods(tmp_path)
