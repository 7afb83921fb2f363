"""Plots of a comparison: source against method, and the gain against where a case began."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from grata_monai.compare.run import Row
from grata_monai.compare.statistics import HARM

__all__ = ["plot_gains", "plot_pairs"]

COLUMNS = 4
PANEL_INCHES = 2.6
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito


def plot_pairs(rows: Sequence[Row], path: Path) -> None:
    """Draw the Dice of each method against the source network's, a point per case.

    Args:
        rows: With rows of the method ``source``.
        path: PNG to write.
    """

    def draw(axes: Any, source: np.ndarray, dice: np.ndarray, colour: str, centre: str) -> None:
        axes.scatter(source, dice, s=14, color=colour, label=centre or "cases")
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, zorder=0)

    _draw(rows, path, draw, labels=("source Dice", "Dice"))


def plot_gains(rows: Sequence[Row], path: Path) -> None:
    """Draw the gain of each method against the source network's Dice, a point per case.

    Args:
        rows: With rows of the method ``source``.
        path: PNG to write.
    """

    def draw(axes: Any, source: np.ndarray, dice: np.ndarray, colour: str, centre: str) -> None:
        axes.scatter(source, dice - source, s=14, color=colour, label=centre or "cases")
        axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        axes.axhline(-HARM, color="#D55E00", linewidth=0.8, linestyle=":", zorder=0)

    _draw(rows, path, draw, labels=("source Dice", "gain in Dice"))


def _draw(
    rows: Sequence[Row],
    path: Path,
    draw: Callable[[Any, np.ndarray, np.ndarray, str, str], None],
    *,
    labels: tuple[str, str],
) -> None:
    source = {row.case: row.dice for row in rows if row.method == "source"}
    done = [row for row in rows if not row.refusal and row.case in source]
    methods = [m for m in dict.fromkeys(row.method for row in done) if m != "source"] or ["source"]
    centres = list(dict.fromkeys(row.centre for row in done))
    columns = min(COLUMNS, len(methods))
    lines = -(-len(methods) // columns)
    with mpl.rc_context({"font.size": 8}):
        size = (PANEL_INCHES * columns, PANEL_INCHES * lines + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flat
        for method, axes in zip(methods, panels, strict=False):
            for index, centre in enumerate(centres):
                points = [r for r in done if r.method == method and r.centre == centre]
                before = np.array([source[r.case] for r in points])
                after = np.array([r.dice for r in points])
                draw(axes, before, after, COLOURS[index % len(COLOURS)], centre)
            axes.set_title(method)
            axes.set(xlabel=labels[0], ylabel=labels[1])
        for axes in list(panels):  # those that are left
            axes.set_visible(False)
        if any(centres):
            figure.axes[0].legend(frameon=False)
        figure.savefig(path, dpi=150, format="png")
