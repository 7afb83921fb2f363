"""Send instances by C-STORE.

Decisions:

- Exactly what is needed is proposed: each file's SOP class with its own transfer syntax, and the
  uncompressed little-endian ones for a peer that does not take that.
- A peer that fails for now gets another association for what is left. Instances have the UIDs that
  their makers gave them, so that one that arrives twice is the same one.
"""

import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from grata_monai.core.errors import DicomError, TransferError
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.rejection import Reason
from grata_monai.read.dicom.sandbox import run_sandboxed
from grata_monai.transfer.address import AeAddress
from grata_monai.transfer.association import associated
from grata_monai.transfer.clock import SLOWEST, Clock
from grata_monai.transfer.retry import Retry, TransientError
from grata_monai.transfer.security import Security
from grata_monai.transfer.status import ASK_LOG, OUT_OF_RESOURCES, explain_failure, is_warning
from grata_monai.transfer.transcode import decompress_file

__all__ = ["Instance", "describe_instances", "store_instances"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Accepted = frozenset[tuple[str, str]]

NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
STORE_ANSWER = 0x8001  # command field of C-STORE-RSP
MOST_MESSAGES = 65535  # message numbers are 16 bits wide
MOST_CONTEXTS = 128  # DICOM PS3.8, odd numbers up to 255


@dataclass(frozen=True)
class Instance:
    """One file to send.

    Attributes:
        file: Where.
        subject: What to call it in an error.
        sop_class: Its kind.
        sop_instance: Its UID; never into a message.
        transfer_syntax: How it is encoded.
        size_bytes: Of the file.
    """

    file: Path
    subject: str
    sop_class: UID
    sop_instance: UID
    transfer_syntax: UID
    size_bytes: int


def describe_instances(files: Sequence[Path]) -> list[Instance]:
    """Look into the files, before anything is sent.

    Args:
        files: DICOM files.

    Returns:
        What they are, in the same order.

    Raises:
        DicomError: If one is no DICOM instance, or deflated.
    """
    return [
        _describe(file, f"instance {number} of {len(files)}")
        for number, file in enumerate(files, start=1)
    ]


def store_instances(
    instances: Sequence[Instance],
    destination: AeAddress,
    *,
    security: Security,
    retry: Retry,
    progress: Progress | None = None,
) -> dict[int, int]:
    """Send instances to an application entity.

    Args:
        instances: From `describe_instances`.
        destination: The peer.
        security: For TLS.
        retry: As long as an attempt stores at least one instance, attempts are counted anew.
        progress: Called with how many are stored, and how many there are.

    Returns:
        How often each warning status came.

    Raises:
        TransferError: If the peer fails, or refuses an instance.
        DicomError: If an instance cannot be decoded for a peer that wants it uncompressed.
    """
    pending, warnings = list(instances), dict[int, int]()
    contexts, answers = _propose(instances), _Answers()

    def attempt() -> None:
        before = len(pending)
        try:
            with associated(
                destination, contexts, security=security, retry=retry, handlers=answers.handlers
            ) as (association, clock):
                accepted = _accepted(association)
                while pending:
                    dataset = _load(pending[0], accepted)
                    with clock.running(f"store {pending[0].subject}"):
                        status = _store(association, pending[0], dataset, clock, answers)
                    if status:
                        warnings[status] = warnings.get(status, 0) + 1
                    del pending[0]
                    if progress:
                        progress(len(instances) - len(pending), len(instances))
        except TransientError as error:
            if len(pending) == before:
                raise
            seconds = retry.delay(1, error.wait_seconds)
            logger.warning("%s Going on in %.1f s.", error, seconds)
            retry.sleep(seconds)

    while pending:
        retry.run(attempt)
    return warnings


def _describe(file: Path, subject: str) -> Instance:
    try:
        meta = read_file_meta_info(file)
        syntax = UID(str(meta.get("TransferSyntaxUID", "")))
        if not syntax.is_transfer_syntax or syntax.is_deflated:
            raise DicomError(
                f"{subject} must have a transfer syntax that is not deflated. "
                "Write it again as Explicit VR Little Endian.",
                reason=Reason.UNSUPPORTED_TRANSFER_SYNTAX.value,
            )
        tags = ["SOPClassUID", "SOPInstanceUID"]
        dataset = dcmread(file, stop_before_pixels=True, specific_tags=tags)
        kind, uid = dataset.SOPClassUID, dataset.SOPInstanceUID
        if not (kind.is_valid and uid.is_valid):
            raise ValueError("UIDs must be valid")
        return Instance(file, subject, kind, uid, syntax, file.stat().st_size)
    except DicomError:
        raise
    except Exception as error:
        # `from None`: pydicom's message may quote an element
        raise DicomError(
            f"{subject} must be a DICOM file with SOP class and instance, it is not "
            f"({type(error).__name__}). Leave it out, or write it again.",
            reason=Reason.UNREADABLE.value,
        ) from None


def _propose(instances: Sequence[Instance]) -> list[PresentationContext]:
    """One presentation context for each kind and encoding, so that the peer chooses none for us."""
    pairs: dict[tuple[UID, UID], None] = {}
    for each in instances:
        pairs[each.sop_class, each.transfer_syntax] = None
    for each in instances:
        for syntax in _fallbacks(each.transfer_syntax):
            pairs[each.sop_class, syntax] = None
    if len(pairs) > MOST_CONTEXTS:
        raise TransferError(
            f"instances must have at most {MOST_CONTEXTS} kinds and encodings together, these "
            f"have {len(pairs)}. Send them in several calls."
        )
    return [build_context(sop_class, syntax) for sop_class, syntax in pairs]


def _fallbacks(syntax: UID) -> tuple[UID, ...]:
    """What an instance can be turned into; pynetdicom keeps the byte order."""
    return NATIVE if syntax.is_compressed or syntax in NATIVE else ()


def _accepted(association: Association) -> Accepted:
    return frozenset(
        (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in association.accepted_contexts
        if context.transfer_syntax
    )


class _Answers:
    """Keeps what a peer's last answer says beside its status; pynetdicom does not look at it."""

    def __init__(self) -> None:
        self.handlers = [(evt.EVT_DIMSE_RECV, self._keep)]
        self.last = Dataset()
        self.asked = 0

    def _keep(self, event: Any) -> None:
        self.last = event.message.command_set

    def names(self, instance: Instance) -> bool:
        """Whether it is the answer to the last C-STORE, for this instance."""
        uid = self.last.get("AffectedSOPInstanceUID") or instance.sop_instance  # may be left out
        return (
            self.last.get("CommandField") == STORE_ANSWER
            and self.last.get("MessageIDBeingRespondedTo") == self.asked
            and uid == instance.sop_instance
        )


def _store(
    association: Association,
    instance: Instance,
    dataset: Dataset,
    clock: Clock,
    answers: _Answers,
) -> int:
    """Send one instance; return its warning status, 0 for none."""
    size = max(instance.size_bytes, len(dataset.get("PixelData", b"")))  # it may be decompressed
    clock.move(size)
    association.dimse_timeout = clock.seconds + size / SLOWEST
    answers.asked = answers.asked % MOST_MESSAGES + 1
    try:
        answer = association.send_c_store(dataset, msg_id=answers.asked)
    except RuntimeError:
        answer = Dataset()
    except (ValueError, AttributeError, TypeError, LookupError):
        raise DicomError(
            f"{instance.subject} must be encodable for this peer, it is not. Write it again.",
            reason=Reason.UNREADABLE.value,
        ) from None
    if "Status" not in answer:
        raise TransientError(f"{instance.subject} must be answered, the peer cut the association.")
    status = int(answer.Status)
    if not answers.names(instance):
        raise TransferError(
            f"{instance.subject} must be confirmed, the peer's answer is about something else. "
            f"{ASK_LOG}"
        )
    if status == 0 or is_warning(status):
        return status
    message = f"{instance.subject} must be stored, the peer refuses it (status {status:04X})."
    if status in OUT_OF_RESOURCES:
        raise TransientError(message)
    raise TransferError(f"{message} {explain_failure(status)}")


def _load(instance: Instance, accepted: Accepted) -> Dataset:
    """Read an instance as the peer takes it."""
    kind, syntax = str(instance.sop_class), instance.transfer_syntax
    if (kind, str(syntax)) in accepted:
        return dcmread(instance.file)
    if not any((kind, str(other)) in accepted for other in _fallbacks(syntax)):
        name = instance.sop_class.name if not instance.sop_class.is_private else "this private kind"
        raise TransferError(
            f"{instance.subject} must be of a kind that the peer takes, it does not take "
            f"{name if name != kind else 'this kind'} as {syntax.name}. "
            "Configure it for that, or send another kind."
        )
    if not syntax.is_compressed:
        return dcmread(instance.file)  # pynetdicom writes the value representations anew
    limits = Limits()
    request = {
        "path": str(instance.file.resolve()),
        "budget_bytes": limits.pixel_budget_bytes // 4,  # pydicom holds several copies
    }
    done = run_sandboxed(decompress_file, request, limits=limits, subject=instance.subject)
    return dcmread(io.BytesIO(done["file"].tobytes()))
