"""Plots of a comparison: source against method, gains against what may foretell them, and risk."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from grata_monai.experiments.compare.statistics import HARM
from grata_monai.experiments.harness.run import Row

__all__ = ["plot_cosines", "plot_gains", "plot_pairs", "plot_risk"]

COLUMNS = 4
PANEL_INCHES = 2.6
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito


def plot_pairs(rows: Sequence[Row], path: Path) -> None:
    """Draw the Dice of each method against the source network's, a point per case.

    Args:
        rows: With rows of the method ``source``.
        path: PNG to write.
    """

    def draw(axes: Any, points: _Points, colour: str, centre: str) -> None:
        axes.scatter(points.source, points.dice, s=14, color=colour, label=centre or "cases")
        if len(points.source):  # through a point of the data, so that the view stays on them
            middle = float(points.source.mean())
            axes.axline((middle, middle), slope=1, color="0.6", linewidth=0.8, zorder=0)

    _draw(rows, path, draw, labels=("source Dice", "Dice"))


def plot_gains(rows: Sequence[Row], path: Path) -> None:
    """Draw the gain of each method against the source network's Dice, a point per case.

    Args:
        rows: With rows of the method ``source``.
        path: PNG to write.
    """

    def draw(axes: Any, points: _Points, colour: str, centre: str) -> None:
        axes.scatter(points.source, points.gain, s=14, color=colour, label=centre or "cases")
        _draw_harm(axes)

    _draw(rows, path, draw, labels=("source Dice", "gain in Dice"))


def plot_cosines(rows: Sequence[Row], path: Path) -> None:
    """Draw the gain of each method that steps by a cosine against its mean, a point per case.

    Args:
        rows: With rows of the method ``source``.
        path: PNG to write.
    """

    def draw(axes: Any, points: _Points, colour: str, centre: str) -> None:
        axes.scatter(points.cosine, points.gain, s=14, color=colour, label=centre or "cases")
        _draw_harm(axes)

    stepping = {row.method for row in rows if math.isfinite(row.cosine)}
    kept = [row for row in rows if row.method in {"source", *stepping}]
    _draw(kept, path, draw, labels=("mean cosine", "gain in Dice"))


def plot_risk(rows: Sequence[Row], path: Path) -> None:
    """Draw the risk of each guarded method against its coverage.

    Coverage is the share of the cases with the highest agreement that a reader would rely on, risk
    their mean Dice loss (1 - Dice). A guard that knows nothing gives a flat line; dotted is the
    best order there is, by the Dice itself.

    Args:
        rows: With rows of the method ``source``.
        path: PNG to write.
    """

    def draw(axes: Any, points: _Points, colour: str, centre: str) -> None:
        is_read = np.isfinite(points.agreement)
        loss = np.concatenate([1 - points.dice[is_read], 1 - points.dice[~is_read]])
        order = [*np.argsort(-points.agreement[is_read], kind="stable")]
        order += range(len(order), len(loss))  # what the guard could not read comes last
        share = np.arange(1, len(loss) + 1) / max(len(loss), 1)
        for line, style in ((loss[order], "-"), (np.sort(loss), ":")):
            mean = np.cumsum(line) / np.arange(1, len(line) + 1)
            axes.plot(share, mean, style, color=colour, label=None if style == ":" else "agreement")

    guarded = {row.method for row in rows if math.isfinite(row.agreement)}
    together = [replace(row, centre="") for row in rows if row.method in {"source", *guarded}]
    _draw(together, path, draw, labels=("coverage", "risk (1 - Dice)"))


@dataclass(frozen=True)
class _Points:
    """The cases of one method and centre: each array (n)."""

    source: np.ndarray
    dice: np.ndarray
    cosine: np.ndarray
    agreement: np.ndarray

    @property
    def gain(self) -> np.ndarray:
        return np.asarray(self.dice - self.source)


def _draw_harm(axes: Any) -> None:
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    axes.axhline(-HARM, color="#D55E00", linewidth=0.8, linestyle=":", zorder=0)


def _draw(
    rows: Sequence[Row],
    path: Path,
    draw: Callable[[Any, _Points, str, str], None],
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
                chosen = [r for r in done if r.method == method and r.centre == centre]
                points = _Points(
                    source=np.array([source[r.case] for r in chosen]),
                    dice=np.array([r.dice for r in chosen]),
                    cosine=np.array([r.cosine for r in chosen]),
                    agreement=np.array([r.agreement for r in chosen]),
                )
                draw(axes, points, COLOURS[index % len(COLOURS)], centre)
            axes.set_title(method)
            axes.set(xlabel=labels[0], ylabel=labels[1])
            axes.locator_params(axis="x", nbins=4)
        for axes in list(panels):  # those that are left
            axes.set_visible(False)
        if any(centres):
            figure.axes[0].legend(frameon=False)
        figure.savefig(path, dpi=150, format="png")
