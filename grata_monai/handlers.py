"""GraTaHandler: what was done to every case, as events of a MONAI or ignite engine.

`segment_or_report` makes one bad case a line in the summary instead of the end of the run.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, Workflow
from monai.engines.utils import IterationEvents
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from grata_monai.adapt.scores import Quality
from grata_monai.core.failures import (
    CaseFailure,
    list_failures,
    raise_if_any_failed,
    report_failure,
)
from grata_monai.core.files import atomic_path, ensure_writable
from grata_monai.core.tables import print_unfolded
from grata_monai.read.cases import strip_extension
from grata_monai.read.dicom.rejection import Rejection
from grata_monai.record import Record
from grata_monai.record.sentences import COLUMNS, describe_record, summarise_record, tabulate_record

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
        case, _ = _identify(batch)
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
        self.record_dir = None if record_dir is None else ensure_writable(record_dir)
        self._names: dict[str, str] = {}
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
        self._made: list[tuple[str, str, Record]] = []

    def attach(self, engine: Engine) -> None:
        """Listen to an engine."""
        engine.add_event_handler(Events.STARTED, self.start)
        # postprocessing may drop the record, so it is read where the inferer has just made it
        forward = getattr(IterationEvents, "FORWARD_COMPLETED")  # noqa: B009  # ignite makes it
        is_workflow = isinstance(engine, Workflow)
        engine.add_event_handler(
            forward if is_workflow else Events.ITERATION_COMPLETED, self.collect
        )
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.COMPLETED, self.finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.abort)

    def start(self, engine: Engine) -> None:
        """Begin an empty summary and show the bar."""
        _state(engine).grata, _state(engine).failures, self._made = [], [], []
        self._names = {}
        for task in self.progress.task_ids:
            self.progress.remove_task(task)
        self.progress.add_task("cases", total=self.total or engine.state.epoch_length)
        self.progress.start()

    def collect(self, engine: Engine) -> None:
        """Take the records of an iteration."""
        self._made = _find_records(engine)

    def advance(self, engine: Engine) -> None:
        """Log the cases of an iteration and move the bar; one that failed after all has no row.

        Records are written now, if asked for, when the masks that they describe are written.
        """
        rows, output = _state(engine).grata, engine.state.output
        if not (isinstance(output, list) and not output):
            made = _find_records(engine) or self._made  # postprocessing may have added to a verdict
            rows += [(case, record) for case, _, record in made]
            done, total = len(rows) + len(list_failures(engine)), self.total
            for case, path, record in made:
                self._write(case, path, record)
                place = f"{done} of {total}, " if total else ""
                logger.info("%s%s: %s", place, case, summarise_record(record))
        self._made = []
        self.progress.advance(self.progress.task_ids[0])

    def _write(self, case: str, path: str, record: Record) -> None:
        """Write a record, named after its image."""
        if self.record_dir is not None:
            with atomic_path(self.record_dir / f"{self._name(case, path)}_record.json") as file:
                file.write_text(record.to_json())

    def _name(self, case: str, path: str) -> str:
        """Tell images of equal name apart by their folder, in the end by a number."""
        key = path or f"{case} {len(self._names)}"
        if key not in self._names:
            used = {name.casefold() for name in self._names.values()}
            own = f"{Path(path).parent.name}_{case}" if case.casefold() in used and path else case
            numbered = (f"{own}_{number}" for number in count(2))
            self._names[key] = next(n for n in chain([own], numbered) if n.casefold() not in used)
        return self._names[key]

    def finish(self, engine: Engine) -> None:
        """Take the bar away and print one row per case."""
        self.progress.stop()
        if self.is_quiet:
            return
        rows = _state(engine).grata
        print_unfolded(self.console, _table(rows))
        lost = [f"{case}: {describe_record(record)}" for case, record in rows if _is_told(record)]
        lost += [f"{f.case}: failed: {f.reason}" for f in list_failures(engine)]
        lost += [f"{r.name}: refused: {r.reason.value}" for r in self.refusals]
        verdicts = [record.verdict for _, record in rows]
        if any(v.is_calibrated is False and v.predicted is None for v in verdicts):
            lost.append(_NOT_CALIBRATED)
        for line in lost:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def abort(self, engine: Engine, error: BaseException) -> None:
        """Take the bar away and let the error go on."""
        self.progress.stop()
        raise error


def _table(rows: Sequence[tuple[str, Record]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, heading in enumerate(("case", *COLUMNS)):
        table.add_column(
            heading.replace(" to ", " to\n"),
            justify="left" if index < 3 else "right",
            no_wrap=not index,
        )
    for case, record in rows:
        table.add_row(case, *tabulate_record(record))
    return table


def _is_told(record: Record) -> bool:
    """Whether the table alone would hide what a reader has to know."""
    is_warning = record.verdict.light in (Quality.AMBER, Quality.RED)
    return is_warning or record.focus.found_by not in ("", "identity")


def _find_records(engine: Engine) -> list[tuple[str, str, Record]]:
    """Collect names, paths and records from an output: collated, decollated, or a prediction."""
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
            found.append((*_identify(item, source, pred, index=index), Record.from_json(text)))
    return found


def _identify(*sources: Any, index: int = 0) -> tuple[str, str]:
    """Find a case's name, by the key `case` or after its image's file, and that file's path."""
    cases = [source.get("case") for source in sources if isinstance(source, Mapping)]
    files = []
    for source in sources:
        image = source.get("image") if isinstance(source, Mapping) else source
        files.append(getattr(image, "meta", {}).get("filename_or_obj"))
        if isinstance(source, Mapping):  # without MetaTensors
            files.append(source.get("image_meta_dict", {}).get("filename_or_obj"))
    path = _pick(files, index)
    name = _pick(cases, index) or path or f"case_{index}"
    return strip_extension(Path(name).name), path


def _pick(values: Sequence[Any], index: int) -> str:
    """The first value that says something, of the case with this index where it is a list."""
    for value in values:
        one = value[min(index, len(value) - 1)] if isinstance(value, (list, tuple)) else value
        if one:
            return str(one)
    return ""


def _state(engine: Engine) -> Any:
    """The engine's state, which takes any attribute."""
    return engine.state
