"""The measured table: it is kept in one page, and copied from there into the others."""

import re
from dataclasses import dataclass
from pathlib import Path

from grata_monai.core.errors import DatasetError

__all__ = [
    "SCORES_FROM",
    "SCORES_IN",
    "Score",
    "read_page",
    "read_scores",
    "read_table",
    "replace_table",
]

SCORES_FROM = "docs/explanation/measured.md"
SCORES_IN = ("README.md", "bundle/docs/README.md", "docs/how-to/instructions-for-use.md")
TABLE = re.compile(r"^\| centre \| cases \| source \|.*\n(?:\|.*\n)+", re.MULTILINE)
DICE = re.compile(r"\*{0,2}(?P<value>\.\d+)\*{0,2}")


@dataclass(frozen=True)
class Score:
    """One cell of the table.

    Attributes:
        centre: The cases that it is a mean of.
        cases: How many.
        method: Title of the column.
        dice: Mean Dice, as text: ``.838``.
        counts: Lost and gained cases as written, ``0 / 4``; empty for the source network.
    """

    centre: str
    cases: str
    method: str
    dice: str
    counts: str


def read_page(root: Path, page: str) -> str:
    """Read a page of the repository.

    Raises:
        DatasetError: If it is not there.
    """
    try:
        return (root / page).read_text(encoding="utf-8")
    except OSError as error:
        raise DatasetError(
            f"{page} must be readable, it is not ({type(error).__name__}). "
            "Run this in the root of the repository, or name it with --root."
        ) from error


def read_table(root: Path) -> str:
    """Read the table of the page that keeps it, line by line as it stands there.

    Raises:
        DatasetError: If the page or the table is not there.
    """
    return _find(read_page(root, SCORES_FROM), SCORES_FROM).group()


def replace_table(text: str, page: str, table: str) -> str:
    """Put the table where a page has its copy.

    Args:
        text: Of the page.
        page: Its name, for errors.
        table: From `read_table`.

    Raises:
        DatasetError: If the page has no copy.
    """
    match = _find(text, page)
    return text[: match.start()] + table + text[match.end() :]


def read_scores(root: Path) -> list[Score]:
    """Read the table's cells, row by row.

    Raises:
        DatasetError: If there is no table, or a cell that is no score.
    """
    header, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in read_table(root).splitlines()
    ]
    return [
        _read_cell(row[0], row[1], method.replace("`", ""), cell)
        for row in rows
        for method, cell in zip(header[2:], row[2:], strict=True)
    ]


def _read_cell(centre: str, cases: str, method: str, cell: str) -> Score:
    match = DICE.match(cell)
    if match is None:
        raise DatasetError(
            f"a score must begin with a Dice such as .838, {cell!r} does not. "
            f"Correct the table in {SCORES_FROM}."
        )
    counts = cell[match.end() :].strip().strip("()")
    return Score(centre, cases, method, match["value"], counts)


def _find(text: str, page: str) -> re.Match[str]:
    match = TABLE.search(text)
    if match is None:
        raise DatasetError(
            f"{page} must have the table of scores, it has none. Begin one with the line "
            "'| centre | cases | source |', or take the page out of SCORES_IN."
        )
    return match
