"""Run functions on untrusted DICOM in the sandbox; every failure there is a `DicomError`."""

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

from grata_monai.core import sandbox
from grata_monai.core.errors import CaseError, DicomError
from grata_monai.core.limits import Limits
from grata_monai.core.sandbox import SandboxError, Values
from grata_monai.read.dicom.rejection import Reason

__all__ = ["run_each", "run_parts", "run_sandboxed"]

Function = Callable[[Values], Any]

REASONS = frozenset(reason.value for reason in Reason)


def run_sandboxed(
    function: Function, values: Mapping[str, Any], *, limits: Limits, subject: str = "a file"
) -> Values:
    """Call one function once: `core.sandbox.run_sandboxed`.

    Raises:
        DicomError: The function's own; or `over_decoding_limit`, `undecodable`.
    """
    try:
        return sandbox.run_sandboxed(function, values, limits=limits, subject=subject)
    except (CaseError, SandboxError) as error:
        raise _as_dicom(error, subject) from error


def run_parts(
    function: Function, values: Mapping[str, Any], *, limits: Limits, subject: str = "a file"
) -> Generator[Values, None, None]:
    """Pass on what a generator function yields: `core.sandbox.run_parts`.

    Yields:
        What the function yields.

    Raises:
        DicomError: As `run_sandboxed`.
    """
    try:
        yield from sandbox.run_parts(function, values, limits=limits, subject=subject)
    except (CaseError, SandboxError) as error:
        raise _as_dicom(error, subject) from error


def run_each(
    function: Function,
    items: Iterable[Mapping[str, Any]],
    *,
    limits: Limits,
    is_ahead: bool = False,
) -> Generator[Values | DicomError, None, None]:
    """Call a function for many items: `core.sandbox.run_each`.

    Yields:
        For each item what the function returned, or why it has no result.
    """
    results = sandbox.run_each(function, items, limits=limits, is_ahead=is_ahead)
    for number, result in enumerate(results, start=1):
        yield result if isinstance(result, dict) else _as_dicom(result, f"item {number}")


def _as_dicom(error: Exception, subject: str) -> DicomError:
    """Give a failure its reason code; the subprocess may lie about its own."""
    if isinstance(error, DicomError) and error.reason in REASONS:
        return error
    if isinstance(error, SandboxError) and error.is_over_limit:
        return DicomError(str(error), reason=Reason.OVER_DECODING_LIMIT.value)
    finding = error if isinstance(error, SandboxError) else f"{subject} is not"
    return DicomError(
        f"DICOM must be decodable, {finding}. Export it again, as Explicit VR Little Endian if "
        "the archive can.",
        reason=Reason.UNDECODABLE.value,
    )
