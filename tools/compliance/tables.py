"""Tables in Markdown."""

from collections.abc import Iterable, Sequence

__all__ = ["make_table"]


def make_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Make a table; bars in cells are escaped.

    Args:
        header: One title per column; all empty for a table of facts.
        rows: As many cells each.

    Returns:
        Lines without an end of line after the last one.

    >>> print(make_table(("a", "b"), [("1", "x|y")]))
    | a | b |
    |---|---|
    | 1 | x\|y |
    """
    lines = [_line(header), "|" + "---|" * len(header)]
    return "\n".join([*lines, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    if not any(cells):
        return "|" + " |" * len(cells)
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"
