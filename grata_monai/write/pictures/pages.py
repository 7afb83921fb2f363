"""Make the report's two pages as a PDF: the contact sheet, and a table of what was done."""

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from grata_monai.record import Record
from grata_monai.record.types import OutcomeName
from grata_monai.write import RESEARCH_ONLY
from grata_monai.write.pictures.figure import FONT, PAPER, WARNING_COLOUR, draw_sheet
from grata_monai.write.pictures.sheet import Sheet

__all__ = ["make_pdf"]

IMAGE_DPI = 150
LINE, LEFT, TOP = 0.185, 0.5, 0.65  # inches
LABEL_WIDTH, RIGHT_COLUMN = 1.45, 6.35
MOST_STEPS, MOST_SEGMENTS = 12, 8
LIMITS = (
    "Research software, not a medical device: not for diagnosis or treatment. A qualified reader "
    "must check every contour. The Dice compares with the source network's mask, not with the "
    "truth: it says how much was changed, not whether the change is right. Volumes count the "
    "pixels of the source frames times the volume of one. A case unlike those the network has "
    "learnt from may be wrong in both masks."
)
PALE = "#555555"
STEP_COLUMNS = {
    "auxiliary_loss": ("auxiliary", ".4f"),
    "pseudo_loss": ("pseudo", ".4f"),
    "loss": ("loss", ".4f"),
    "cosine": ("cosine", "+.3f"),
    "rate": ("rate", ".2e"),
    "update_norm": ("update", ".2e"),
}
"""Field of a step to heading and format; a column is drawn where any step has a value."""
Row = tuple[str, str]


def make_pdf(sheet: Sheet) -> bytes:
    """Make a report of two pages, A4 landscape.

    Args:
        sheet: The case.

    Returns:
        A PDF without dates and with its fonts; equal sheets give equal bytes.
    """
    buffer = io.BytesIO()
    metadata = {"CreationDate": None, "Title": f"Segmentation report, {RESEARCH_ONLY.lower()}"}
    with warnings.catch_warnings(), PdfPages(buffer, metadata=metadata) as pages:
        warnings.simplefilter("ignore")  # of glyphs that the font lacks
        for page in (draw_sheet(sheet, theme=PAPER), _draw_table(sheet)):
            pages.savefig(page, dpi=IMAGE_DPI)
    return buffer.getvalue()


def _draw_table(sheet: Sheet) -> Figure:
    figure = Figure(figsize=PAPER.size, facecolor=PAPER.ground)
    record = sheet.record
    _write(figure, LEFT, TOP, "What was done to this case", size=15, weight="bold")
    banner = {"facecolor": WARNING_COLOUR, "edgecolor": "none", "pad": 4}
    x = PAPER.size[0] - LEFT
    _write(figure, x, TOP, RESEARCH_ONLY, size=12, weight="bold", ha="right", bbox=banner)
    low = TOP + 0.45
    for title, rows in (
        ("Outcome", _outcome_rows(record, sheet.verdict)),
        ("Recipe", _recipe_rows(record)),
        ("Made with", _origin_rows(record)),
    ):
        low = _write_rows(figure, low, title, rows)
    table = _segment_table(sheet)
    high = _write_table(figure, TOP + 0.45, "Segments", table, widths=(1.7, 0.8, 0.8, 0.8, 0.7))
    widths = (0.5, 0.85, 0.85, 0.75, 0.9, 0.95)
    high = _write_table(figure, high, "Steps of adaptation", _step_table(record), widths=widths)
    _write(figure, RIGHT_COLUMN, high, "Limits", size=10.5, weight="bold")
    for line in textwrap.wrap(LIMITS, 80):
        high += LINE
        _write(figure, RIGHT_COLUMN, high + 0.3 * LINE, line)
    return figure


def _outcome_rows(record: Record, verdict: str) -> Iterator[Row]:
    yield "verdict", verdict
    is_source = record.outcome == OutcomeName.SOURCE
    yield "outcome", "source prediction kept" if is_source else str(record.outcome)
    if record.reason:
        yield "reason", record.reason
    yield "raw predictions", f"Dice with source {record.change.dice:.3f}, before postprocessing"
    if record.change.volume_ratio is not None:
        yield "", f"volume {record.change.volume_ratio:.3f} times the source's"


def _recipe_rows(record: Record) -> Iterator[Row]:
    recipe = record.recipe
    yield "name", str(recipe.get("name", "unnamed"))
    yield "SHA-256", record.recipe_sha256
    names = {
        "steps": "steps",
        "optimizer": "optimiser",
        "base_rate": "base rate",
        "auxiliary_loss": "auxiliary loss",
        "pseudo_loss": "pseudo loss",
        "memory": "memory",
    }
    yield from ((label, str(recipe[key])) for key, label in names.items() if key in recipe)
    moving = ", ".join(record.parameters.groups) or "none"
    yield "moving", f"{moving}; {record.parameters.count} scalars"
    views = record.views
    yield "weak views", ", ".join(views.weak) or "none"
    yield "prediction views", ", ".join(views.prediction) or "none"
    if views.dropped:
        yield "dropped views", "; ".join(f"{view}: {why}" for view, why in views.dropped.items())


def _origin_rows(record: Record) -> Iterator[Row]:
    environment = record.environment
    yield "versions", ", ".join(f"{name} {found}" for name, found in environment.versions.items())
    yield "device, seed", f"{environment.device}, {environment.seed}"
    for name, digest in asdict(record.weights).items():
        yield f"weights {name}", digest
    yield "record SHA-256", record.digest


def _segment_table(sheet: Sheet) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [("", "source, ml", "final, ml", "change", "Dice")]
    for number, name in list(sheet.labels().items())[:MOST_SEGMENTS]:
        final = sheet.millilitres(sheet.mask, number)
        row = [textwrap.shorten(name, 24, placeholder=" …"), "–", f"{final:.2f}", "–", "–"]
        if sheet.source is not None:
            source = sheet.millilitres(sheet.source, number)
            row[1] = f"{source:.2f}"
            row[3] = f"{final / source - 1:+.1%}" if source else "–"
            row[4] = f"{sheet.dice(number):.3f}"
        rows.append(row)
    if len(sheet.labels()) > MOST_SEGMENTS:
        rows.append((f"and {len(sheet.labels()) - MOST_SEGMENTS} more", "", "", "", ""))
    return rows


def _step_table(record: Record) -> list[Sequence[str]]:
    steps = list(enumerate(record.steps, 1))
    if not steps:
        return [("none was taken",)]
    known = {
        name: column
        for name, column in STEP_COLUMNS.items()
        if any(getattr(step, name) is not None for _, step in steps)
    }
    rows: list[Sequence[str]] = [("step", *(heading for heading, _ in known.values()))]
    rows += [
        (
            f"{number}" if step.is_taken else f"{number} skipped",
            *(_format(getattr(step, name), code) for name, (_, code) in known.items()),
        )
        for number, step in steps[:MOST_STEPS]
    ]
    if len(steps) > MOST_STEPS:
        rows.append((f"and {len(steps) - MOST_STEPS} more, see the record",))
    return rows


def _format(value: float | None, code: str) -> str:
    return "–" if value is None else format(value, code)


def _write_rows(figure: Figure, low: float, title: str, rows: Iterator[Row]) -> float:
    """Write labels and values under a title; return where the next title goes, in inches."""
    _write(figure, LEFT, low, title, size=10.5, weight="bold")
    low += 1.3 * LINE
    for label, value in rows:
        _write(figure, LEFT, low, label, color=PALE)
        lines = textwrap.wrap(value, 62)[:3] or [""]
        is_digest = len(value) == 64 and " " not in value
        for line in [value] if is_digest else lines:
            _write(figure, LEFT + LABEL_WIDTH, low, line, size=7.2 if is_digest else 8.5)
            low += LINE
    return low + 0.8 * LINE


def _write_table(
    figure: Figure,
    low: float,
    title: str,
    rows: Sequence[Sequence[str]],
    *,
    widths: Sequence[float],
) -> float:
    """Write columns, all but the first flush right; return where the next title goes."""
    _write(figure, RIGHT_COLUMN, low, title, size=10.5, weight="bold")
    low += 1.3 * LINE
    for index, row in enumerate(rows):
        x = RIGHT_COLUMN
        for column, (cell, width) in enumerate(zip(row, widths, strict=False)):
            colour = PALE if index == 0 and len(rows) > 1 else PAPER.ink
            place = (x, "left") if column == 0 else (x + width, "right")
            _write(figure, place[0], low, cell, ha=place[1], color=colour)
            x += width
        low += LINE
    return low + 0.8 * LINE


def _write(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Write text that begins at x, y inches from the page's upper left corner."""
    width, height = PAPER.size
    settings = {"size": 8.5, "color": PAPER.ink, "va": "baseline", **style}
    figure.text(x / width, 1 - y / height, text, family=FONT, parse_math=False, **settings)
