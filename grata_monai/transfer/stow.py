"""Send instances by STOW-RS, and read from the answer what became of each."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from grata_monai.core.errors import TransferError
from grata_monai.transfer.address import WebAddress
from grata_monai.transfer.retry import Retry, TransientError
from grata_monai.transfer.security import Security
from grata_monai.transfer.status import ASK_LOG, OUT_OF_RESOURCES, explain_failure
from grata_monai.transfer.web import Answer, WebService

__all__ = ["store_web"]

Progress = Callable[[int, int], None]

FAILED_SEQUENCE = "00081198"
STORED_SEQUENCE = "00081199"
FAILURE_REASON = "00081197"
WARNING_REASON = "00081196"


def store_web(
    files: Sequence[Path],
    destination: WebAddress,
    *,
    security: Security,
    retry: Retry,
    progress: Progress | None = None,
) -> dict[int, int]:
    """Send files, one instance per request, byte for byte.

    Args:
        files: DICOM files.
        destination: The service.
        security: Certificates and credentials.
        retry: For each instance.
        progress: Called with how many are stored, and how many there are.

    Returns:
        How often each warning status came.

    Raises:
        TransferError: If the peer fails, or refuses an instance.
    """
    warnings: dict[int, int] = {}
    service = WebService(destination, security, retry)
    try:
        for number, file in enumerate(files, start=1):
            subject = f"instance {number} of {len(files)}"
            content = file.read_bytes()

            def store(content: bytes = content, subject: str = subject) -> int:
                return _judge(*service.store(content), subject)

            warning = retry.run(store)
            if warning:
                warnings[warning] = warnings.get(warning, 0) + 1
            if progress:
                progress(number, len(files))
    finally:
        service.close()
    return warnings


def _judge(status: int, answer: Answer, subject: str) -> int:
    """Return the warning that the answer to STOW-RS holds (0 for none), or raise its failure."""
    body = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
    is_read = answer is not None  # XML, or nothing, says no more than its status
    failed = _items(body, FAILED_SEQUENCE)
    if failed or status != 200:
        code = _code(failed[0], FAILURE_REASON) if failed else 0
        if not failed and is_read and _items(body, STORED_SEQUENCE) and status == 202:
            return _code(_items(body, STORED_SEQUENCE)[0], WARNING_REASON)
        message = (
            f"{subject} must be stored, the service refuses it (HTTP {status}, reason {code:04X})."
        )
        if code in OUT_OF_RESOURCES:
            raise TransientError(message)
        raise TransferError(f"{message} {explain_failure(code)}")
    stored = _items(body, STORED_SEQUENCE)
    if is_read and not stored:
        raise TransferError(
            f"{subject} must be confirmed, the service's answer names none. {ASK_LOG}"
        )
    return _code(stored[0], WARNING_REASON) if stored else 0


def _items(body: Answer, tag: str) -> list[Answer]:
    """The items of a sequence in DICOM JSON; empty where there is none."""
    element = body.get(tag) if isinstance(body, Mapping) else None
    value = element.get("Value") if isinstance(element, Mapping) else None
    return value if isinstance(value, list) else []


def _code(item: Answer, tag: str) -> int:
    values = _items(item, tag)
    return values[0] if values and isinstance(values[0], int) else 0
