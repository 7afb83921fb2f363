"""Fetch series by QIDO-RS and WADO-RS.

What a peer sends is not believed: its size and number are bounded, file names are hashes of UIDs,
headers are read in a sandbox, and an instance that is cut, or of another study or series than the
one asked for, refuses the whole answer. So does a list that is shorter than the peer's own count.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from grata_monai.core.errors import DicomError, TransferError
from grata_monai.core.files import atomic_folder
from grata_monai.read.dicom.headers import FileKind, Header, read_headers
from grata_monai.read.dicom.limits import Limits
from grata_monai.read.dicom.rejection import Reason
from grata_monai.transfer.address import WebAddress, check_uid
from grata_monai.transfer.retry import Retry
from grata_monai.transfer.security import Security
from grata_monai.transfer.web import Answer, Page, WebService

__all__ = ["FetchLimits", "Fetched", "as_count", "fetch_series", "list_items", "read_count"]

Progress = Callable[[int, int], None]

SERIES_UID = "0020000E"
SERIES_INSTANCES = "00201209"  # how many instances the peer counts in a series
INSTANCE_UID = "00080018"
MOST_COUNTED = 10**6


@dataclass(frozen=True)
class FetchLimits:
    """What a peer may send; checked when built.

    Attributes:
        series: Of the study.
        instances: In all.
        pages: Of one list.
        instance_bytes: Of one instance; as much memory is needed.
        total_bytes: Of all instances.
        header: For reading the header of each instance in the sandbox.

    Raises:
        ValueError: If a number is not above 0.
    """

    series: int = 200
    instances: int = 20_000
    pages: int = 1000
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
    series = list_items(
        lambda offset: service.search_series(
            study, series_uid=source.series_uid, modality=source.modality, offset=offset
        ),
        SERIES_UID,
        retry=retry,
        most=limits.series,
        pages=limits.pages,
    )
    wanted: list[_Wanted] = []
    for series_uid, counted in series.items():
        if source.series_uid not in ("", series_uid):
            continue  # a peer need not know the filter
        found = list_items(
            lambda offset, uid=series_uid: service.search_instances(study, uid, offset=offset),  # type: ignore[misc]
            INSTANCE_UID,
            retry=retry,
            most=limits.instances - len(wanted),
            pages=limits.pages,
        )
        if len(found) < read_count(counted):
            raise TransferError(
                f"service must list all {read_count(counted)} instances that it counts in a "
                f"series, it lists {len(found)}. Fetch again later, or ask its administrator."
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


def list_items(
    search: Callable[[int], Page], tag: str, *, retry: Retry, most: int, pages: int
) -> dict[str, Answer]:
    """Turn the pages of a search until one brings nothing new.

    Args:
        search: Asks for the page that begins at an offset.
        tag: Of the UID by which items are told apart.
        retry: For each page.
        most: Items.
        pages: Most.

    Returns:
        What is found, by UID.

    Raises:
        TransferError: If the peer fails, or its list is longer or no list.
    """
    found: dict[str, Answer] = {}
    has_more = False
    for _ in range(pages):
        count = len(found)
        page = retry.run(lambda: search(len(found)))
        found.update(_read_items(page.items, tag))
        if len(found) > most:
            raise TransferError(
                f"service must list at most {max(most, 0)} more series or instances, it lists "
                f"{len(found)}. Ask for one series, or raise the limits."
            )
        if len(found) == count:
            if has_more or page.has_more:
                raise TransferError(
                    "service must list all that it has, it says that there is more and does not "
                    "list it. Ask its administrator whether it knows offset."
                )
            return found
        has_more = page.has_more
    raise TransferError(
        f"service must end its list within {pages} pages, it does not. "
        "Ask for one series, or raise the limits."
    )


def _read_items(items: Answer, tag: str) -> Iterator[tuple[str, Answer]]:
    try:
        for item in items:
            uid = item[tag]["Value"][0]
            check_uid(uid, "UID")
            yield uid, item
    except (KeyError, IndexError, TypeError, ValueError):
        # `from None`: the original may quote the answer
        raise TransferError(
            "service must list valid UIDs, it lists something else. Check the service's path, or "
            "ask its administrator."
        ) from None


def read_count(item: Answer) -> int:
    """How many instances the peer counts in a series; 0 if it does not say."""
    try:
        return as_count(item[SERIES_INSTANCES]["Value"][0])
    except (KeyError, IndexError, TypeError):
        return 0


def as_count(value: Any) -> int:
    """A number of instances as a peer gives it; 0 for what is none, or more than a series has.

    >>> as_count("8"), as_count("JANE"), as_count(-8), as_count(float("inf")), as_count(10**300)
    (8, 0, 0, 0, 0)
    """
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        return 0
    return count if 0 <= count <= MOST_COUNTED else 0


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
    """Refuse what is not, or not all of, the instance that was asked for."""
    files = [folder / item.file_name for item in wanted]
    headers = read_headers(files, limits=limits.header)
    for number, (item, header) in enumerate(zip(wanted, headers, strict=True), start=1):
        fault = _find_fault(item, header)
        if fault:
            raise TransferError(
                f"service must send what is asked for, instance {number} of {len(wanted)} {fault}. "
                "Nothing was kept; fetch again, or ask its administrator."
            )


def _find_fault(item: _Wanted, header: Header | FileKind | DicomError) -> str:
    """Say what is wrong with an instance; a deflated one stays, triage refuses it by its name."""
    if isinstance(header, DicomError):
        is_deflated = header.reason == Reason.DEFLATED.value
        return "" if is_deflated else "cannot be read, or is cut within its header"
    if not isinstance(header, Header):
        return "is no DICOM instance"
    if (header.study_uid, header.series_uid, header.sop_instance_uid) != item.uids:
        return "is another one"
    has_pixels = header.pixel_tag != 0
    is_cut = has_pixels and not header.is_complete
    return "ends before its last pixel" if is_cut or (header.rows > 0 and not has_pixels) else ""
