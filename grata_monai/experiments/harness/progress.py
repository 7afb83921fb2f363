"""A bar with the time that is left, over the rows of a comparison."""

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from grata_monai.experiments.harness.run import Row

__all__ = ["show_progress"]


def show_progress(rows: Iterable[Row], *, total: int, console: Console | None = None) -> list[Row]:
    """Collect rows, and show how far they are.

    Args:
        rows: As they come.
        total: How many there will be.
        console: Standard error if None.

    Returns:
        All of them.
    """
    done = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console or Console(stderr=True)) as bar:
        task = bar.add_task("cases", total=total)
        for row in rows:
            done.append(row)
            bar.update(task, advance=1, description=f"{row.method} on {row.case!a}")
    return done
