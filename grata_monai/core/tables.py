"""Print a table as wide as it needs to be."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

__all__ = ["print_unfolded"]

_WIDEST = 400  # characters of a line


def print_unfolded(console: Console, table: Table) -> None:
    """Print a table whose cells are not folded: a folded name can be neither read nor copied."""
    width = console.width
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    console.width = max(width, needed)
    console.print(table, crop=False)
    console.width = width
