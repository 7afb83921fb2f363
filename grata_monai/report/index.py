"""Write a run's index: one line a case, the worst first, for ten cases and for ten thousand."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from grata_monai.core.files import atomic_path
from grata_monai.report.rows import FOLDER, Row, read_rows, sort_worst_first
from grata_monai.report.templates import fill

__all__ = ["render_index", "write_index"]


def write_index(output_dir: str | Path) -> Path:
    """Write ``index.html`` from the rows that lie in a run's folder.

    Args:
        output_dir: The run's folder.

    Returns:
        The page.

    Raises:
        OutputError: If it cannot be written.
    """
    folder = Path(output_dir)
    with atomic_path(folder / "index.html") as path:
        path.write_text(render_index(read_rows(folder)), encoding="utf-8")
    return folder / "index.html"


def render_index(rows: Iterable[Row]) -> str:
    """Make the page: rows travel as data, and a few at a time become a table."""
    ordered = sort_worst_first(rows)
    counts = Counter(row.light for row in ordered)
    return fill(
        "index.html.j2",
        rows=[asdict(replace(row, made_from="")) for row in ordered],
        counts={light: counts[light] for light in ("refused", "red", "amber", "none", "green")},
        groups=sorted({row.group for row in ordered if row.group}),
        folder=FOLDER,
    )
