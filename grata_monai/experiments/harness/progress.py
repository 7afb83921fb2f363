"""A bar with the time that is left, over the rows of a comparison, and a forecast before it."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from grata_monai.experiments.harness.run import Row

__all__ = ["describe_forecast", "show_progress"]

_MINUTE, _HOUR = 60, 3600


def show_progress(rows: Iterable[Row], *, total: int, console: Console | None = None) -> list[Row]:
    """Collect rows, and show how far they are: a bar on a terminal, else a line each.

    Args:
        rows: As they come.
        total: How many there will be.
        console: Standard error if None.

    Returns:
        All of them.

    Raises:
        KeyboardInterrupt: As it came, saying how far it is: rows that are done are on the disk.
    """
    done: list[Row] = []
    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("cases", total=total)
        try:
            for row in rows:
                done.append(row)
                told = f"{row.method} on {row.case!a}"
                bar.update(task, advance=1, description=told)
                if not console.is_terminal:
                    console.print(f"{len(done)} of {total}: {told}", markup=False, soft_wrap=True)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(
                f"{len(done)} of {total} rows are done. The same command goes on with the others."
            ) from error
    return done


def describe_forecast(rows: Sequence[Row], *, cases: int, workers: int = 1) -> str:
    """Say how long a comparison will take, from the rows of its first case.

    Args:
        rows: A row per method.
        cases: How many there will be.
        workers: How many share them.

    Returns:
        Methods, the slowest first, with their share, and the whole time.
    """
    known = sorted((row for row in rows if not row.refusal), key=lambda row: -row.seconds)
    per_case = sum(row.seconds for row in known)
    lines = [f"{row.method}: {_write_time(row.seconds)} a case" for row in known]
    whole = _write_time(per_case * max(cases - 1, 0) / workers)
    return "\n".join([*lines, f"about {whole} for the other {max(cases - 1, 0)} case(s)"])


def _write_time(seconds: float) -> str:
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"
