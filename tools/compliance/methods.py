"""The table of methods: what each does otherwise than its authors, and which test shows it."""

import ast
import inspect
import re
from pathlib import Path

from grata_monai.core.errors import DatasetError
from grata_monai.methods.registry import METHODS
from tools.compliance.tables import make_table

__all__ = ["render_methods"]

HEADER = ("method", "as published", "derived anew in")
TESTS = "tests/methods"


def render_methods(root: Path) -> str:
    """Make a row of every registered method, from its docstring and the tests.

    Args:
        root: Of the repository.

    Returns:
        Markdown.

    Raises:
        DatasetError: If a method names no source, or no test ``test_NAME_as_published`` exists.
    """
    tests = _find_tests(root)
    rows = []
    for name, made in METHODS.items():
        text = inspect.getdoc(made) or ""
        if not _section(text, "Source") or name not in tests:
            raise DatasetError(
                f"method {name!r} must name its source in its docstring, and have a test "
                f"test_{name}_as_published in {TESTS}. Write what is missing."
            )
        deviations = _section(text, "Deviations")
        form = f"deviates: {deviations}" if deviations else "exact"
        rows.append((f"`{name}`", form, f"`{tests[name]}`"))
    return make_table(HEADER, rows)


def _find_tests(root: Path) -> dict[str, str]:
    """Name of a method to its test, as pytest writes it."""
    found = {}
    for path in sorted((root / TESTS).glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.endswith("_as_published"):
                name = node.name.removeprefix("test_").removesuffix("_as_published")
                found[name] = f"{path.name}::{node.name}"
    return found


def _section(text: str, title: str) -> str:
    """A section of a docstring in one line; empty if there is none."""
    found = re.search(rf"^{title}:\n((?: +\S.*\n?|\n)+)", text, re.MULTILINE)
    return " ".join(found[1].split()) if found else ""
