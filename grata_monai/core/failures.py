"""Cases that failed: why, gathered on an engine while the other cases go on."""

import logging
from dataclasses import dataclass
from typing import Any

from ignite.engine import Engine

from grata_monai.core.errors import CaseError, DicomError, find_cause, find_root

__all__ = ["CaseFailure", "list_failures", "raise_if_any_failed", "report_failure"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseFailure:
    """Why a case could not be segmented.

    Attributes:
        case: Its name.
        reason: Class of the error; for a refused DICOM series its reason code.
        message: What is wrong and what to do.
    """

    case: str
    reason: str
    message: str

    @classmethod
    def explain(cls, case: str, error: BaseException) -> "CaseFailure":
        """Say why a case failed: our own refusal if there is one, else what began the chain."""
        refusal = find_cause(error)
        if refusal is not None:
            code = refusal.reason if isinstance(refusal, DicomError) else ""
            return cls(case, code or type(refusal).__name__, str(refusal))
        root = find_root(error)
        return cls(case, type(root).__name__, f"{root} (unexpected; logged in full at level DEBUG)")


def report_failure(engine: Engine, failure: CaseFailure) -> None:
    """Log why a case failed, and add it to ``engine.state.failures``."""
    list_failures(engine).append(failure)
    logger.error("%s: %s: %s", failure.case, failure.reason, failure.message)


def list_failures(engine: Engine) -> list[CaseFailure]:
    """List the cases of a run that failed; the list itself, so that it can grow."""
    state: Any = engine.state
    if not hasattr(state, "failures"):
        state.failures = []
    failures: list[CaseFailure] = state.failures
    return failures


def raise_if_any_failed(engine: Engine) -> None:
    """End a run with an error if a case failed, after all others are done.

    Raises:
        CaseError: Naming how many failed, and each with its reason.
    """
    failures = list_failures(engine)
    if failures:
        names = "; ".join(f"{failure.case}: {failure.reason}" for failure in failures)
        raise CaseError(
            f"every case must be segmented, {len(failures)} failed ({names}). "
            "The other cases are done; see the messages above for what to do."
        )
