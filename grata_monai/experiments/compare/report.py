"""The report of a comparison: tables as Markdown, HTML and CSV, and plots."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TextIO

from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.experiments.compare.plots import plot_cosines, plot_gains, plot_pairs, plot_risk
from grata_monai.experiments.compare.statistics import FEW, HARM, Summary, summarise
from grata_monai.experiments.evaluate import ODD_NAMES
from grata_monai.experiments.harness.run import Row
from grata_monai.report.document import write_document

__all__ = ["make_tables", "write_report"]

HEADINGS = (
    "method", "cases", "Dice", "gain [95 %]", "p", "harm", "worst", "HD95 (mm)", "ASSD (mm)",
    "time ×", "memory ×",
)  # fmt: skip
NOTES = (
    "Gain: mean Dice minus the source network's, or minus that of the method that a table is "
    "against, with BCa bootstrap interval over cases. p: paired Wilcoxon, Holm-corrected over the "
    f"methods of a table; none with fewer than {FEW} cases. Harm: share of cases that lose more "
    f"than {HARM:g} Dice. Distances are nominal: mm of the image's header, over cases where they "
    "are defined. Where no case changes by .0005 Dice, the reason stands in place of the gain. "
    "Time and memory: median ratio to the source network's pass, or to that method's."
)


def write_report(
    rows: Sequence[Row],
    out: str | Path,
    *,
    facts: Mapping[str, str] | None = None,
    seed: int = 0,
    against: Sequence[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
    pictures: Mapping[str, str] | None = None,
) -> Path:
    """Write ``report.md``, ``report.html``, ``rows.csv``, ``summary.csv`` and the plots.

    Args:
        rows: With rows of the method ``source``.
        out: Folder; made if missing.
        facts: What a reader must know besides: command, device, versions.
        seed: Of the bootstrap.
        against: Further methods that all are compared with, each in tables of its own.
        groups: Further groups of cases: name to centres.
        pictures: Further pictures in the folder, and what they show.

    Returns:
        The Markdown report.

    Raises:
        ValueError: If the source network, or a method of `against`, has no row.
        OutputError: If the folder cannot be written.
    """
    folder = ensure_writable(Path(out))
    rows = [replace(row, case=_to_text(row.case), centre=_to_text(row.centre)) for row in rows]
    summaries = [
        summary
        for reference in dict.fromkeys(["source", *against])
        for summary in summarise(rows, seed=seed, reference=reference, groups=groups)
    ]
    _write_csv(folder / "rows.csv", [_flat(row) for row in rows])
    _write_csv(folder / "summary.csv", [asdict(summary) for summary in summaries])
    plots = {"pairs.png": plot_pairs, "gains.png": plot_gains}
    if any(math.isfinite(row.cosine) for row in rows):
        plots["cosines.png"] = plot_cosines
    judged = [row.method for row in rows if math.isfinite(row.agreement)]
    if any(judged.count(method) > 2 for method in judged):  # no curve through two points
        plots["risk.png"] = plot_risk
    for name, plot in plots.items():
        with atomic_path(folder / name) as path:
            plot(rows, path)
    tables = make_tables(summaries)
    refusals = {(row.method, row.refusal): None for row in rows if row.refusal}
    shown = {**dict.fromkeys(plots, ""), **(pictures or {})}
    text = _to_markdown(tables, list(refusals), facts or {}, shown)
    with atomic_path(folder / "report.md") as path:
        path.write_text(text, encoding="utf-8", errors=ODD_NAMES)
    write_document(folder / "report.md")
    return folder / "report.md"


def make_tables(summaries: Sequence[Summary]) -> dict[str, list[list[str]]]:
    """Rows of text for each group; the first row holds the headings."""
    tables: dict[str, list[list[str]]] = {}
    for summary in summaries:
        name = summary.centre or "cases"
        if summary.reference != "source":
            name += f", against {summary.reference}"
        tables.setdefault(name, [list(HEADINGS)]).append(_cells(summary))
    return tables


def _cells(summary: Summary) -> list[str]:
    if not summary.cases:
        return [summary.method, "0", "refused", *["–"] * (len(HEADINGS) - 3)]
    refused = f" ({summary.refused} refused)" if summary.refused else ""
    return [
        summary.method,
        f"{summary.cases}{refused}",
        _number(summary.dice, 3),
        _gain(summary),
        _number(summary.p_value, 3),
        f"{100 * summary.harm_rate:.0f} %",
        _signed(summary.worst),
        _number(summary.hd95, 1),
        _number(summary.assd, 2),
        _number(summary.time_ratio, 1),
        _number(summary.memory_ratio, 1),
    ]


def _gain(summary: Summary) -> str:
    """The gain with its interval, or why there is none to see."""
    if summary.unchanged:
        return f"0: {summary.unchanged}"
    return f"{_signed(summary.gain)} [{_signed(summary.gain_low)}, {_signed(summary.gain_high)}]"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _signed(value: float) -> str:
    return f"{value:+.3f}" if math.isfinite(value) else "–"


def _to_markdown(
    tables: Mapping[str, list[list[str]]],
    refusals: Sequence[tuple[str, str]],
    facts: Mapping[str, str],
    pictures: Mapping[str, str],
) -> str:
    lines = ["# Comparison", "", *(f"- {key}: {value}" for key, value in facts.items()), ""]
    for group, (headings, *rows) in tables.items():
        lines += [f"## {group}", "", _line(headings), _line(["---"] * len(headings))]
        lines += [*map(_line, rows), ""]
    lines += [NOTES, ""]
    if refusals:
        lines += ["## Refused", "", *(f"- {method}: {why}" for method, why in refusals), ""]
    for name, caption in pictures.items():
        lines += [f"![{caption or name}]({name})", "", *([caption, ""] if caption else [])]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _flat(row: Row) -> dict[str, object]:
    return {**asdict(row), "settings": str(dict(row.settings))}


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with atomic_path(path) as temporary, _open_text(temporary) as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _to_text(name: str) -> str:
    """Write bytes of a file's name that are no text as escapes, which every font knows."""
    return name.encode("utf-8", ODD_NAMES).decode("utf-8")


def _open_text(path: Path) -> TextIO:
    return path.open("w", newline="", encoding="utf-8", errors=ODD_NAMES)
