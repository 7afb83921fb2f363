"""Fetch series by QIDO-RS and WADO-RS.

What a peer sends is not believed: its size and number are bounded, file names are hashes of UIDs,
headers are read in a sandbox, and an instance of another study or series than the one asked for
refuses the whole answer.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from grata_monai.core.errors import DicomError, TransferError
from grata_monai.core.files import atomic_folder
from grata_monai.read.dicom.headers import Header, read_headers
from grata_monai.read.dicom.limits import Limits
from grata_monai.transfer.address import WebAddress, check_uid
from grata_monai.transfer.retry import Retry
from grata_monai.transfer.security import Security
from grata_monai.transfer.web import Answer, WebService

__all__ = ["FetchLimits", "Fetched", "fetch_series"]

Progress = Callable[[int, int], None]

SERIES_UID = "0020000E"
INSTANCE_UID = "00080018"


@dataclass(frozen=True)
class FetchLimits:
    """What a peer may send; checked when built.

    Attributes:
        series: Of the study.
        instances: In all.
        instance_bytes: Of one instance; as much memory is needed.
        total_bytes: Of all instances.
        header: For reading the header of each instance in the sandbox.

    Raises:
        ValueError: If a number is not above 0.
    """

    series: int = 200
    instances: int = 20_000
    instance_bytes: int = 2 * 2**30
    total_bytes: int = 32 * 2**30
    header: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{each.name} must be above 0, got {value}. Correct it.")


@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Attributes:
        folder: Where it lies.
        series: How many series.
        instances: How many instances, one file each.
        size_bytes: Of all files.
    """

    folder: Path
    series: int
    instances: int
    size_bytes: int


@dataclass(frozen=True)
class _Wanted:
    study_uid: str
    series_uid: str
    instance_uid: str

    @property
    def uids(self) -> tuple[str, str, str]:
        return self.study_uid, self.series_uid, self.instance_uid

    @property
    def file_name(self) -> str:
        return hashlib.sha256(self.instance_uid.encode()).hexdigest()[:32] + ".dcm"


def fetch_series(
    source: WebAddress,
    folder: Path,
    *,
    security: Security,
    retry: Retry,
    limits: FetchLimits,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch a series, or all series of a study, into a new folder; whole or not at all.

    Args:
        source: With a study UID.
        folder: Must be missing or empty; its parent must exist.
        security: Certificates and credentials.
        retry: For each request.
        limits: What the peer may send.
        progress: Called with how many instances are there, and how many there will be.

    Returns:
        What was fetched.

    Raises:
        TransferError: If the peer fails, refuses, sends too much, or something else.
        OutputError: If the folder cannot be written.
    """
    service = WebService(source, security, retry)
    try:
        wanted = _search(service, source, retry=retry, limits=limits)
        with atomic_folder(folder) as unfinished:
            size = _retrieve(
                service, wanted, unfinished, retry=retry, limits=limits, progress=progress
            )
            _verify(wanted, unfinished, limits)
    finally:
        service.close()
    return Fetched(folder, len({item.series_uid for item in wanted}), len(wanted), size)


def _search(
    service: WebService, source: WebAddress, *, retry: Retry, limits: FetchLimits
) -> list[_Wanted]:
    """List the instances to fetch."""
    study = source.study_uid
    if source.series_uid:
        series = [source.series_uid]
    else:
        series = _list_uids(
            lambda offset: service.search_series(study, modality=source.modality, offset=offset),
            SERIES_UID,
            retry=retry,
            most=limits.series,
        )
    wanted: list[_Wanted] = []
    for series_uid in series:
        found = _list_uids(
            lambda offset, uid=series_uid: service.search_instances(study, uid, offset=offset),  # type: ignore[misc]
            INSTANCE_UID,
            retry=retry,
            most=limits.instances - len(wanted),
        )
        wanted += [_Wanted(study, series_uid, uid) for uid in found]
    if not wanted:
        raise TransferError(
            "service must have an instance of what is asked for, it has none. Check study, series "
            "and modality, and whether this account may see them."
        )
    if len({item.file_name for item in wanted}) != len(wanted):
        raise TransferError(
            "an instance must belong to one series, the service lists one twice. "
            "Ask its administrator."
        )
    return wanted


def _list_uids(search: Callable[[int], Answer], tag: str, *, retry: Retry, most: int) -> list[str]:
    """Turn the pages of a search until one brings nothing new."""
    found: dict[str, None] = {}
    while True:
        count = len(found)
        page = retry.run(lambda: search(len(found)))
        found.update(dict.fromkeys(_read_uids(page, tag)))
        if len(found) > most:
            raise TransferError(
                f"service must list at most {max(most, 0)} more series or instances, it lists "
                f"{len(found)}. Ask for one series, or raise the limits."
            )
        if len(found) == count:
            return list(found)


def _read_uids(page: Answer, tag: str) -> Iterator[str]:
    try:
        for item in page:
            uid = item[tag]["Value"][0]
            check_uid(uid, "UID")
            yield uid
    except (KeyError, IndexError, TypeError, ValueError):
        # `from None`: the original may quote the answer
        raise TransferError(
            "service must list valid UIDs, it lists something else. Check the service's path, or "
            "ask its administrator."
        ) from None


def _retrieve(
    service: WebService,
    wanted: Sequence[_Wanted],
    folder: Path,
    *,
    retry: Retry,
    limits: FetchLimits,
    progress: Progress | None,
) -> int:
    """Fetch every instance into a file of its own; return how many bytes there are."""
    size = 0
    for number, item in enumerate(wanted, start=1):
        limit = min(limits.instance_bytes, limits.total_bytes - size)

        def retrieve(item: _Wanted = item, limit: int = limit) -> bytes:
            return service.retrieve(item.uids, limit=limit)

        content = retry.run(retrieve)
        size += len(content)
        (folder / item.file_name).write_bytes(content)
        if progress:
            progress(number, len(wanted))
    return size


def _verify(wanted: Sequence[_Wanted], folder: Path, limits: FetchLimits) -> None:
    """Refuse what is no DICOM, and what belongs to another study, series or instance.

    A header that cannot be read stays: triage refuses it with its reason.
    """
    files = [folder / item.file_name for item in wanted]
    headers = read_headers(files, limits=limits.header)
    for number, (item, header) in enumerate(zip(wanted, headers, strict=True), start=1):
        if isinstance(header, DicomError):
            continue
        uids = _uids(header) if isinstance(header, Header) else ()
        if uids != item.uids:
            raise TransferError(
                f"service must send what is asked for, instance {number} of {len(wanted)} is "
                f"{'another one' if uids else 'no DICOM instance'}. Nothing was kept; ask its "
                "administrator."
            )


def _uids(header: Header) -> tuple[str, str, str]:
    return header.study_uid, header.series_uid, header.sop_instance_uid
