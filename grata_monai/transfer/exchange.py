"""Send to and fetch from DICOM peers: the two doors of this room.

Nothing here listens, but for the report of a storage commitment that the caller asked for.
No message, log or value of these functions names a patient, a UID or a secret.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from grata_monai.core.errors import DatasetError, OutputError
from grata_monai.transfer.address import AeAddress, WebAddress, parse_address
from grata_monai.transfer.collect import collect_files
from grata_monai.transfer.commitment import Commitment, check_commitment, request_commitment
from grata_monai.transfer.dicomweb import Fetched, FetchLimits, fetch_series
from grata_monai.transfer.retry import Retry
from grata_monai.transfer.security import Security, check_encryption, quiet_libraries
from grata_monai.transfer.store import Instance, describe_instances, store_instances
from grata_monai.transfer.stow import store_web

__all__ = ["SendReport", "fetch", "send"]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SendReport:
    """What became of instances that were sent; all of them are stored.

    Attributes:
        destination: The peer's address.
        instances: How many.
        left_out: How many ``*.dcm`` files of the folders were not sent, as no finished case names
            them.
        warnings: How often the peer stored with which warning status.
        commitment: ``not asked``, ``not offered``, ``committed`` or ``failed``.
        note: Why the commitment failed; or nothing.
    """

    destination: str
    instances: int
    left_out: int = 0
    warnings: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    commitment: str = "not asked"
    note: str = ""

    def __str__(self) -> str:
        lines = [f"stored {self.instances} instance(s) at {self.destination}"]
        if self.left_out:
            lines.append(f"left out {self.left_out} file(s) that no finished case names")
        lines += [f"warning {code:04X}: {count} time(s)" for code, count in self.warnings.items()]
        if self.commitment != "not asked":
            note = f" ({self.note})" if self.note else ""
            lines.append(f"storage commitment: {self.commitment}{note}")
        return "\n".join(lines)


def send(
    files: Sequence[Path | str],
    destination: str | WebAddress | AeAddress,
    *,
    security: Security | None = None,
    retry: Retry | None = None,
    commitment: Commitment | None = None,
    progress: Progress | None = None,
) -> SendReport:
    """Send DICOM files by C-STORE or STOW-RS, whichever the address says.

    A send that is repeated stores nothing twice, as instances keep their UIDs.

    Args:
        files: DICOM files, and folders with finished cases at any depth: what `record.json` beside
            `segmentation.dcm` names is sent, and nothing else.
        destination: Its text or value, see `grata_monai.transfer.address`.
        security: Certificates and credentials; the system's authorities and the environment's
            credentials if None.
        retry: How long to wait, and how often to try again what failed for now; see its defaults.
        commitment: To ask the peer for storage commitment; for C-STORE only.
        progress: Called with how many instances are stored, and how many there are.

    Returns:
        What became of them.

    Raises:
        ValueError: If the address, or what belongs to it, breaks a rule.
        DatasetError: If there is no file, or no finished case in a folder; or if an object is not
            the one that its record names.
        DicomError: If a file is no DICOM instance.
        TransferError: If the peer cannot be reached, or refuses an instance.
    """
    security, retry = security or Security(), retry or Retry()
    address = parse_address(destination) if isinstance(destination, str) else destination
    check_encryption(address, security)
    if isinstance(address, WebAddress):
        _check_service(address, commitment)
    elif commitment is not None:
        check_commitment(address, commitment, security)
    found, left_out = collect_files(files)
    state, note = "not asked", ""
    with quiet_libraries():
        instances = describe_instances(list(found))
        _check_identity(instances, found)
        if isinstance(address, WebAddress):
            warnings = store_web(
                instances, address, security=security, retry=retry, progress=progress
            )
        else:
            warnings = store_instances(
                instances, address, security=security, retry=retry, progress=progress
            )
            if commitment is not None:
                state, note = request_commitment(
                    instances, address, security=security, retry=retry, commitment=commitment
                )
    report = SendReport(str(address), len(found), left_out, warnings, state, note)
    logger.info("%s", report)
    return report


def fetch(
    source: str | WebAddress,
    folder: Path | str,
    *,
    security: Security | None = None,
    retry: Retry | None = None,
    limits: FetchLimits | None = None,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch a series, or all series of a study, by DICOMweb into a folder; whole or not at all.

    Args:
        source: ``dicomwebs://HOST/PATH?study=UID&series=UID``, or its value.
        folder: New or empty. Each instance becomes one file, named by a hash.
        security: Certificates and credentials; the system's authorities and the environment's
            credentials if None.
        retry: How long to wait, and how often to try again what failed for now; see its defaults.
        limits: What the peer may send.
        progress: Called with how many instances are there, and how many there will be.

    Returns:
        What was fetched.

    Raises:
        ValueError: If the address, or what belongs to it, breaks a rule.
        TransferError: If the peer cannot be reached, refuses, or sends too much or something else.
        OutputError: If the folder has something in it, or cannot be written.
    """
    security, retry = security or Security(), retry or Retry()
    address = parse_address(source) if isinstance(source, str) else source
    if not isinstance(address, WebAddress):
        raise ValueError(
            "source must be a DICOMweb address, C-GET and C-MOVE are not spoken here. "
            "Use dicomwebs://, or let the peer send its files by itself."
        )
    if not address.study_uid:
        raise ValueError("source must name a study, it does not. Add ?study=UID.")
    check_encryption(address, security)
    target = Path(folder)
    _check_target(target)
    with quiet_libraries():
        fetched = fetch_series(
            address,
            target,
            security=security,
            retry=retry,
            limits=limits or FetchLimits(),
            progress=progress,
        )
    logger.info("Fetched %d instance(s) from %s", fetched.instances, address)
    return fetched


def _check_service(address: WebAddress, commitment: Commitment | None) -> None:
    if commitment is not None:
        raise ValueError(
            "commitment must be asked by C-STORE, the address is DICOMweb. Use dicoms://, or do "
            "not ask."
        )
    if address.study_uid or address.modality:
        raise ValueError(
            "destination must name the service only, it has a query. Remove what follows the ?."
        )


def _check_identity(instances: Sequence[Instance], found: Mapping[Path, str]) -> None:
    """Refuse an object that is not the one its record names."""
    for instance in instances:
        if found[instance.file] not in ("", instance.sop_instance):
            raise DatasetError(
                f"{instance.subject} must be the one that its record names, it is another. "
                "Segment that case again."
            )


def _check_target(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        raise OutputError("folder to fetch into must be new or empty, it is not. Choose another.")
    if not folder.parent.is_dir():
        raise OutputError("folder to fetch into must lie in one that exists. Make that first.")
