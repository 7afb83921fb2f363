"""Segment the cases of one folder by several workers, each with a bundle of its own."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from grata_monai.bundle.open import Bundle
from grata_monai.core.failures import CaseFailure, list_failures
from grata_monai.hosts.shell import begin_to_log
from grata_monai.hosts.terminal.extras import Extras
from grata_monai.spread import Task, Workers, spread
from grata_monai.write.resume import run_cases

__all__ = ["Plan", "run_several"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a worker needs to segment cases; all of it is pickled.

    Attributes:
        open: Opens the bundle.
        parts: Of its configuration, that were built before: what was found in the input.
        extras: Makes the handler that concludes each case; None for none.
        has_index: Whether the run has an index of reports.
    """

    open: Callable[[], Bundle]
    parts: Mapping[str, Any] = field(default_factory=dict)
    extras: Callable[[Bundle], Extras] | None = None
    has_index: bool = False


def run_several(
    plan: Plan, pending: Sequence[Mapping[str, Any]], out: Path, workers: Workers
) -> list[CaseFailure]:
    """Segment cases that are not done yet.

    Args:
        plan: How; its cases must not depend on each other.
        pending: The cases, each with what it is made from.
        out: For results.
        workers: Who does it.

    Returns:
        The cases that failed.

    Raises:
        GrataError: As of one process, and if a worker ended again and again.
        KeyboardInterrupt: Saying how far it came, after Ctrl-C.
    """
    from grata_monai.report.index import write_index  # noqa: PLC0415  # brings matplotlib

    failures: list[CaseFailure] = []
    task = Task(partial(_open, plan), partial(_segment, plan, out), list(pending))
    done = 0
    try:
        for failed in spread(task, out, workers):
            failures += failed
            for failure in failed if workers.slurm is not None else ():  # theirs are not seen
                logger.error("%s: %s: %s", failure.case, failure.reason, failure.message)
            done += 1
            logger.info("%d of %d cases are done", done, len(pending))
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"{done} of {len(pending)} cases are done. The same command goes on with the others."
        ) from error
    if plan.has_index:
        write_index(out)
    return failures


def _open(plan: Plan, number: int) -> Bundle:
    begin_to_log()
    bundle = plan.open()
    bundle.set({"network": bundle.network, **plan.parts})  # stay when cases are set anew
    return bundle


def _segment(plan: Plan, out: Path, bundle: Bundle, case: Mapping[str, Any]) -> list[CaseFailure]:
    """Segment one case; return it if it failed."""
    bundle.set({"pending": [dict(case)]})
    evaluator = bundle.get("evaluator")
    if plan.extras is not None:
        plan.extras(bundle).attach(evaluator)
    run_cases(evaluator, cases=[case], pending=[case], output_dir=out, alone=False)
    return list_failures(evaluator)
