"""Send instances by STOW-RS; each is stored when the answer names it as stored, and not before."""

from collections.abc import Callable, Mapping, Sequence

from grata_monai.core.errors import TransferError
from grata_monai.transfer.address import WebAddress
from grata_monai.transfer.retry import Retry, TransientError
from grata_monai.transfer.security import Security
from grata_monai.transfer.status import ASK_LOG, OUT_OF_RESOURCES, explain_failure
from grata_monai.transfer.store import Instance
from grata_monai.transfer.web import Answer, WebService

__all__ = ["store_web"]

Progress = Callable[[int, int], None]

FAILED_SEQUENCE = "00081198"
STORED_SEQUENCE = "00081199"
FAILURE_REASON = "00081197"
WARNING_REASON = "00081196"
REFERENCED_CLASS = "00081150"
REFERENCED_INSTANCE = "00081155"


def store_web(
    instances: Sequence[Instance],
    destination: WebAddress,
    *,
    security: Security,
    retry: Retry,
    progress: Progress | None = None,
) -> dict[int, int]:
    """Send files, one instance per request, byte for byte.

    Args:
        instances: From `describe_instances`.
        destination: The service.
        security: Certificates and credentials.
        retry: For each instance.
        progress: Called with how many are stored, and how many there are.

    Returns:
        How often each warning status came.

    Raises:
        TransferError: If the peer fails, refuses an instance, or does not confirm it.
    """
    warnings: dict[int, int] = {}
    service = WebService(destination, security, retry)
    try:
        for number, instance in enumerate(instances, start=1):
            content = instance.file.read_bytes()

            def store(content: bytes = content, instance: Instance = instance) -> int:
                return _judge(*service.store(content), instance)

            warning = retry.run(store)
            if warning:
                warnings[warning] = warnings.get(warning, 0) + 1
            if progress:
                progress(number, len(instances))
    finally:
        service.close()
    return warnings


def _judge(status: int, answer: Answer, instance: Instance) -> int:
    """Return the warning that the answer to STOW-RS holds (0 for none), or raise its failure.

    The request held one instance: whatever the answer calls failed is that one.
    """
    body = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
    failed = _items(body, FAILED_SEQUENCE)
    if failed or status == 409:
        code = _code(failed[0], FAILURE_REASON) if failed else 0
        message = (
            f"{instance.subject} must be stored, the service refuses it "
            f"(HTTP {status}, reason {code:04X})."
        )
        if code in OUT_OF_RESOURCES:
            raise TransientError(message)
        raise TransferError(f"{message} {explain_failure(code)}")
    for item in _items(body, STORED_SEQUENCE):
        is_same = _text(item, REFERENCED_INSTANCE) == instance.sop_instance
        if is_same and _text(item, REFERENCED_CLASS) in ("", instance.sop_class):
            return _code(item, WARNING_REASON)
    raise TransferError(
        f"{instance.subject} must be confirmed, the service's answer (HTTP {status}) does not name "
        f"it as stored. Check that the address leads to DICOMweb. {ASK_LOG}"
    )


def _items(body: Answer, tag: str) -> list[Answer]:
    """The values of an element in DICOM JSON; empty where there is none."""
    element = body.get(tag) if isinstance(body, Mapping) else None
    value = element.get("Value") if isinstance(element, Mapping) else None
    return value if isinstance(value, list) else []


def _text(item: Answer, tag: str) -> str:
    values = _items(item, tag)
    return values[0].rstrip("\0 ") if values and isinstance(values[0], str) else ""


def _code(item: Answer, tag: str) -> int:
    """A status; 0 for what is none, so that no text of a peer comes into a message."""
    values = _items(item, tag)
    is_status = bool(values) and isinstance(values[0], int) and 0 <= values[0] <= 0xFFFF
    return int(values[0]) if is_status else 0
