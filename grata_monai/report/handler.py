"""Write the report of every case of a run, and the index at its end; never lose a case over it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from grata_monai.core.failures import list_failures
from grata_monai.core.files import Typed, as_path, ensure_writable
from grata_monai.read.dicom.rejection import Rejection
from grata_monai.report.case import ReportedCase
from grata_monai.report.index import write_index
from grata_monai.report.pages import write_case, write_refused
from grata_monai.report.rows import FOLDER, refuse

__all__ = ["ReportHandler"]

logger = logging.getLogger(__name__)


class ReportHandler:
    """Report on the cases of a MONAI engine whose output is what the bundle's postprocessing gave.

    A report that fails is a warning in the log: the mask and its record are there already.

    Args:
        output_dir: The run's folder.
        names: Of the labels, by their numbers.
        refusals: What was refused before the run, DICOM series for instance.
    """

    def __init__(
        self,
        output_dir: Typed,
        *,
        names: Mapping[str, str] | None = None,
        refusals: Sequence[Rejection] = (),
    ) -> None:
        self.output_dir = as_path(output_dir, name="output_dir")
        self.names = {int(k): v for k, v in (names or {}).items() if int(k) > 0}
        self.refusals = refusals

    def attach(self, engine: Engine) -> None:
        """Listen to an engine."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.report)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def report(self, engine: Engine) -> None:
        """Write the pages of an iteration's cases."""
        for item in _list_items(engine.state.batch, engine.state.output):
            name = str(item.get("case", "case"))
            try:
                made_from = str(item.get("made_from") or "")
                write_case(self.collect(name, item), self.output_dir, made_from=made_from)
            except Exception as error:  # whatever it is, the case is done and must stay so
                logger.warning("%s: no report could be made, its mask is there: %s", name, error)
                logger.debug("no report", exc_info=True)

    def finish(self, engine: Engine) -> None:
        """Write the pages of refused cases, and the index."""
        try:
            folder = ensure_writable(self.output_dir / FOLDER)
            for failure in list_failures(engine):
                write_refused(refuse(failure.case, failure.message), folder)
            for refusal in self.refusals:
                write_refused(refuse(refusal.name, f"{refusal.message} {refusal.remedy}"), folder)
            logger.info("reports: %s", write_index(self.output_dir).name)
        except Exception as error:  # likewise
            logger.warning("no index of reports could be made: %s", error)

    def collect(self, name: str, item: Mapping[str, Any]) -> ReportedCase:
        """Gather what is shown of a case from what the bundle's postprocessing gave."""
        kept, maps = item["pred"], item.get("maps")
        source, marked = (None, None) if maps is None else _to_array(maps)
        return ReportedCase(
            name=name,
            text=item["grata"],
            voxels=_to_array(item["original"])[0].astype(np.float32),
            kept=_to_array(kept)[0].astype(np.uint8),
            affine_ras=np.asarray(kept.affine.cpu(), dtype=np.float64),
            source=None if source is None else source.astype(np.uint8),
            marked=None if marked is None else marked.astype(np.uint8),
            names=self.names,
            group=str(item.get("centre") or ""),
        )


def _list_items(batch: Any, output: Any) -> Iterator[Mapping[str, Any]]:
    """The cases that have both a mask and a record, each with what was read of it."""
    if not (isinstance(batch, list) and isinstance(output, list)):
        return
    for read, made in zip(batch, output, strict=True):
        if isinstance(made, Mapping) and "pred" in made and isinstance(made.get("grata"), str):
            yield {**read, **made}


def _to_array(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy()
