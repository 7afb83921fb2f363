"""Write one case's page, which holds all that it needs, its picture, and its line of the index."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from grata_monai.adapt.scores import Selected
from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.record import Record
from grata_monai.report.case import ReportedCase
from grata_monai.report.rows import FOLDER, Row, make_row, write_row
from grata_monai.report.templates import fill
from grata_monai.report.tiles import cut_doubt, cut_tiles, draw_thumbnail
from grata_monai.report.volume import pack_volumes
from grata_monai.report.words import describe_score, explain
from grata_monai.write.pictures.colours import PALETTE, to_hex

__all__ = ["render_case", "write_case", "write_refused"]


@dataclass(frozen=True)
class Plot:
    """A number per step of adaptation.

    Attributes:
        title: What it is.
        values: Of steps 1, 2, …
        low: Of the axis.
        high: Of the axis.
    """

    title: str
    values: tuple[float, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Candidate:
    """A prediction that the guard could keep.

    Attributes:
        name: In a reader's words.
        agreement: Of the views; None if that was not measured, or is not in the record.
        is_kept: Whether it was kept.
    """

    name: str
    agreement: float | None
    is_kept: bool


def write_case(
    case: ReportedCase, output_dir: str | Path, *, made_from: str = "", is_drawn: bool = True
) -> Row:
    """Write ``report/<case>.html``, ``.png``, ``.thumb.png`` and ``.json`` in a run's folder.

    Args:
        case: The case.
        output_dir: The run's folder; made if missing.
        made_from: As the record says it, see `list_pending`; the line, written last, names it.
        is_drawn: Whether to write the picture too, ``.png``; it needs matplotlib.

    Returns:
        Its line of the index.

    Raises:
        OutputError: If the folder cannot be written.
    """
    folder = ensure_writable(Path(output_dir) / FOLDER)
    page = render_case(case)
    with atomic_path(folder / f"{case.name}.html") as path:
        path.write_text(page, encoding="utf-8")
    if is_drawn:
        from grata_monai.write.pictures.figure import (  # noqa: PLC0415  # not beside MONAI Label
            render_sheet,
        )

        with atomic_path(folder / f"{case.name}.png") as path:
            Image.fromarray(render_sheet(case.sheets[case.best_plane])).save(path, "PNG")
    with atomic_path(folder / f"{case.name}.thumb.png") as path:
        path.write_bytes(draw_thumbnail(case))
    row = make_row(case, made_from=made_from)
    write_row(row, folder)
    return row


def write_refused(row: Row, folder: Path) -> None:
    """Write ``<case>.html``, which says why there is no mask and what to do, and the row.

    Args:
        row: Of the case, see `refuse`.
        folder: Of the run's pages.
    """
    with atomic_path(folder / f"{row.case}.html") as path:
        path.write_text(fill("refused.html.j2", row=row), encoding="utf-8")
    write_row(row, folder)


def render_case(case: ReportedCase) -> str:
    """Make a case's page: one HTML file that asks no other for anything."""
    record, sheet = case.record, case.sheets["axial"]
    return fill(
        "case.html.j2",
        case=case,
        colours={number: to_hex(colour) for number, colour in sheet.colours.items()},
        most_colours=len(PALETTE),
        names=sheet.labels(),
        record=record,
        digest=record.digest,
        words=explain(record),
        volumes=case.volumes(),
        differs=sheet.most_changed is not None,
        tiles=cut_tiles(case),
        doubt=cut_doubt(case),
        packed=pack_volumes(case),
        plots=_plot_steps(record),
        candidates=_list_candidates(record),
        scores=[(describe_score(score), score) for score in record.verdict.scores],
        hashes={**asdict(record.weights), "recipe": record.recipe_sha256, "record": record.digest},
        settings=json.dumps(case.content.get("recipe", {}), indent=1, sort_keys=True),
    )


def _plot_steps(record: Record) -> list[Plot]:
    """Cosine, loss and length of each step, as far as the method has them."""
    steps = record.steps
    cosines = [step.cosine for step in steps]
    losses = [step.auxiliary_loss if step.loss is None else step.loss for step in steps]
    norms = [step.update_norm for step in steps]
    plots = [Plot("Cosine of both gradients", values, -1.0, 1.0) for values in _complete(cosines)]
    for title, given in (("Loss", losses), ("Length of the update", norms)):
        for values in _complete(given):
            low = min(0.0, *values)
            plots.append(Plot(title, values, low, max(*values, low + 1e-9)))
    return plots


def _complete(values: Sequence[float | None]) -> list[tuple[float, ...]]:
    """The values, if there are any and none is missing."""
    known = tuple(value for value in values if value is not None)
    return [known] if known and len(known) == len(values) else []


def _list_candidates(record: Record) -> list[Candidate]:
    kept, windows = record.verdict.kept, record.focus.windows
    before = sum(w.weight * (w.mirrored + w.neighbours) / 2 for w in windows) if windows else None
    agreement = record.verdict.agreement
    rows = [Candidate("Original network, one look at the image", None, kept == Selected.SOURCE)]
    if kept == Selected.MIRRORED:
        rows.append(Candidate("Original network, average of mirrored images", None, True))
    if windows:
        is_kept = kept == Selected.VIEWS
        rows.append(Candidate("Original network, average of magnified views", before, is_kept))
    if record.steps:
        is_kept = kept == Selected.ADAPTED
        rows.append(Candidate("Adapted network", agreement if is_kept else None, is_kept))
    return rows
