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
from grata_monai.transfer.commitment import Commitment, check_commitment, request_commitment
from grata_monai.transfer.dicomweb import Fetched, FetchLimits, fetch_series
from grata_monai.transfer.retry import Retry
from grata_monai.transfer.security import Security, check_encryption, quiet_libraries
from grata_monai.transfer.store import describe_instances, store_instances
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
        warnings: How often the peer stored with which warning status.
        commitment: ``not asked``, ``not offered``, ``committed`` or ``failed``.
        note: Why the commitment failed; or nothing.
    """

    destination: str
    instances: int
    warnings: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    commitment: str = "not asked"
    note: str = ""

    def __str__(self) -> str:
        lines = [f"stored {self.instances} instance(s) at {self.destination}"]
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
        files: DICOM files, and folders whose ``*.dcm`` files are meant, at any depth.
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
        DatasetError: If there is no file.
        DicomError: If a file is no DICOM instance.
        TransferError: If the peer cannot be reached, or refuses an instance.
    """
    security, retry = security or Security(), retry or Retry()
    address = parse_address(destination) if isinstance(destination, str) else destination
    check_encryption(address, security)
    found = _collect(files)
    if isinstance(address, WebAddress):
        return _send_web(found, address, security, retry, commitment, progress)
    if commitment is not None:
        check_commitment(address, commitment, security)
    with quiet_libraries():
        instances = describe_instances(found)
        warnings = store_instances(
            instances, address, security=security, retry=retry, progress=progress
        )
        state, note = (
            ("not asked", "")
            if commitment is None
            else request_commitment(
                instances, address, security=security, retry=retry, commitment=commitment
            )
        )
    return _report(SendReport(str(address), len(found), warnings, state, note))


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


def _send_web(
    files: Sequence[Path],
    address: WebAddress,
    security: Security,
    retry: Retry,
    commitment: Commitment | None,
    progress: Progress | None,
) -> SendReport:
    if commitment is not None:
        raise ValueError(
            "commitment must be asked by C-STORE, the address is DICOMweb. Use dicoms://, or do "
            "not ask."
        )
    if address.study_uid or address.modality:
        raise ValueError(
            "destination must name the service only, it has a query. Remove what follows the ?."
        )
    with quiet_libraries():
        describe_instances(files)
        warnings = store_web(files, address, security=security, retry=retry, progress=progress)
    return _report(SendReport(str(address), len(files), warnings))


def _report(report: SendReport) -> SendReport:
    logger.info("%s", report)
    return report


def _collect(files: Sequence[Path | str]) -> list[Path]:
    """List files and the contents of folders, each once."""
    if isinstance(files, (str, Path)):
        raise TypeError("files must be a list of paths, got a single one. Write [path].")
    found: dict[Path, None] = {}
    for number, path in enumerate(map(Path, files), start=1):
        inside = sorted(path.rglob("*.dcm")) if path.is_dir() else [path]
        if not path.exists() or not inside:
            what = "is empty of *.dcm" if path.exists() else "does not exist"
            raise DatasetError(f"files must exist, number {number} {what}. Check the paths.")
        found.update(dict.fromkeys(inside))
    if not found:
        raise DatasetError("files must be at least one, got none. Name what to send.")
    return list(found)


def _check_target(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        raise OutputError("folder to fetch into must be new or empty, it is not. Choose another.")
    if not folder.parent.is_dir():
        raise OutputError("folder to fetch into must lie in one that exists. Make that first.")
