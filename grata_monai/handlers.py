"""GraTaHandler: what was done to every case, as events of a MONAI or ignite engine.

`segment_or_report` makes one bad case a line in the summary instead of the end of the run.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, Workflow
from monai.engines.utils import IterationEvents
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from grata_monai.core.failures import (
    CaseFailure,
    list_failures,
    raise_if_any_failed,
    report_failure,
)
from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.read.cases import strip_extension
from grata_monai.read.dicom.rejection import Rejection
from grata_monai.record import Record
from grata_monai.record.sentences import COLUMNS, summarise_record, tabulate_record

__all__ = [
    "GraTaHandler",
    "list_failures",
    "raise_if_any_failed",
    "report_failure",
    "segment_or_report",
]

logger = logging.getLogger(__name__)

_NOT_CALIBRATED = (
    "The guard's limits were chosen for another network, so it keeps the source wherever magnified "
    "views do not make this one surer. Calibrate the recipe to use it fully."
)


def segment_or_report(engine: SupervisedEvaluator, batch: Mapping[str, Any]) -> Any:
    """Run one iteration of an evaluator; a case that fails is noted and the others go on.

    For `iteration_update` of a MONAI `SupervisedEvaluator` whose data set is a `CaseDataset`.
    Failures gather in ``engine.state.failures``.

    Args:
        engine: The evaluator.
        batch: A collated batch, or a failure that the data set passed on.

    Returns:
        The iteration's output; an empty list for a case that failed.
    """
    failure = batch.get("failure")
    if failure is None:
        case = _case_name(batch)
        try:
            return engine._iteration(engine, dict(batch))
        except Exception as error:
            logger.debug("case %s failed", case, exc_info=True)
            failure = CaseFailure.explain(case, error)
    report_failure(engine, failure)
    engine.state.batch, engine.state.output = [], []
    return engine.state.output


class GraTaHandler:
    """Show progress with the time left, log every case, and end with a table.

    Works in any ignite engine whose output is, or holds under `pred`, what a `GraTaInferer`
    returned. Rows gather in ``engine.state.grata``, so that one handler may serve many runs.

    Args:
        total: Number of cases, for the bar; the engine's epoch length if None.
        refusals: What was refused before the run, DICOM series for instance: rows of the table.
        record_dir: Where to write ``<case>_record.json``, for bundles whose postprocessing writes
            no record; None writes nothing.
        console: Where the bar and the table go; standard error if None.
        is_quiet: No bar and no table, only the log.
    """

    def __init__(
        self,
        total: int | None = None,
        *,
        refusals: Sequence[Rejection] = (),
        record_dir: str | None = None,
        console: Console | None = None,
        is_quiet: bool = False,
    ) -> None:
        self.total = total
        self.refusals = refusals
        self.record_dir = None if record_dir is None else ensure_writable(Path(record_dir))
        self.console = console or Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=is_quiet,
        )
        self.is_quiet = is_quiet

    def attach(self, engine: Engine) -> None:
        """Listen to an engine."""
        engine.add_event_handler(Events.STARTED, self.start)
        if self.record_dir is not None:
            event = getattr(IterationEvents, "FORWARD_COMPLETED")  # noqa: B009  # ignite makes it
            has_event = isinstance(engine, Workflow)
            engine.add_event_handler(event if has_event else Events.ITERATION_COMPLETED, self.write)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.COMPLETED, self.finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.abort)

    def start(self, engine: Engine) -> None:
        """Begin an empty summary and show the bar."""
        _state(engine).grata, _state(engine).failures = [], []
        for task in self.progress.task_ids:
            self.progress.remove_task(task)
        self.progress.add_task("cases", total=self.total or engine.state.epoch_length)
        self.progress.start()

    def write(self, engine: Engine) -> None:
        """Write the records of an iteration, named after their images."""
        assert self.record_dir is not None
        for case, record in _find_records(engine):
            with atomic_path(self.record_dir / f"{case}_record.json") as path:
                path.write_text(record.to_json())

    def advance(self, engine: Engine) -> None:
        """Log the cases of an iteration and move the bar."""
        for case, record in _find_records(engine):
            _state(engine).grata.append((case, record))
            logger.info("%s: %s", case, summarise_record(record))
        self.progress.advance(self.progress.task_ids[0])

    def finish(self, engine: Engine) -> None:
        """Take the bar away and print one row per case."""
        self.progress.stop()
        if not self.is_quiet:
            rows = _state(engine).grata
            table = _table(rows, list_failures(engine))
            for refusal in self.refusals:
                _add_row(table, refusal.name, f"refused: {refusal.reason.value}")
            self.console.print(table)
            if any(record.verdict.is_calibrated is False for _, record in rows):
                self.console.print(_NOT_CALIBRATED)

    def abort(self, engine: Engine, error: BaseException) -> None:
        """Take the bar away and let the error go on."""
        self.progress.stop()
        raise error


def _table(rows: Sequence[tuple[str, Record]], failures: Sequence[CaseFailure]) -> Table:
    table = Table(title="grata_monai")
    for index, heading in enumerate(("case", *COLUMNS)):
        table.add_column(heading, justify="left" if index < 3 else "right", overflow="fold")
    for case, record in rows:
        table.add_row(case, *tabulate_record(record))
    for failure in failures:
        _add_row(table, failure.case, f"failed: {failure.reason}")
    return table


def _add_row(table: Table, case: str, what: str) -> None:
    """Add a case that has no record."""
    table.add_row(case, what, *["-"] * (len(COLUMNS) - 1))


def _find_records(engine: Engine) -> list[tuple[str, Record]]:
    """Collect case names and records from an output: collated, decollated, or a bare prediction."""
    state: Any = engine.state
    output, batch = state.output, state.batch
    items = output if isinstance(output, list) else [output]
    is_paired = isinstance(batch, list) and len(batch) == len(items)
    found = []
    for item, source in zip(items, batch if is_paired else [batch] * len(items), strict=True):
        pred = item.get("pred") if isinstance(item, Mapping) else item
        texts = item.get("grata") if isinstance(item, Mapping) else None
        texts = texts or getattr(pred, "meta", {}).get("grata")
        for index, text in enumerate([texts] if isinstance(texts, str) else texts or []):
            found.append((_case_name(item, source, pred, index=index), Record.from_json(text)))
    return found


def _case_name(*sources: Any, index: int = 0) -> str:
    """Name a case: by the key `case` as its files are, or after its image's file."""
    names = [source.get("case") for source in sources if isinstance(source, Mapping)]
    for source in sources:
        image = source.get("image") if isinstance(source, Mapping) else source
        names.append(getattr(image, "meta", {}).get("filename_or_obj"))
    for name in names:
        one = name[min(index, len(name) - 1)] if isinstance(name, (list, tuple)) else name
        if one:
            return strip_extension(Path(str(one)).name)
    return f"case_{index}"


def _state(engine: Engine) -> Any:
    """The engine's state, which takes any attribute."""
    return engine.state
