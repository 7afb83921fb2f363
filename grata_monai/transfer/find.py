"""Ask a peer which series are new, and how many instances one has: QIDO-RS or C-FIND."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
)

from grata_monai.transfer.address import AeAddress, WebAddress, check_uid
from grata_monai.transfer.association import associated
from grata_monai.transfer.dicomweb import (
    INSTANCE_UID,
    SERIES_UID,
    FetchLimits,
    as_count,
    list_items,
    read_count,
)
from grata_monai.transfer.retry import Retry
from grata_monai.transfer.security import Security, quiet_libraries
from grata_monai.transfer.web import WebService

__all__ = ["FoundSeries", "count_instances", "list_series"]

STUDY_UID = "0020000D"
MOST_STUDIES = 10_000
PENDING = (0xFF00, 0xFF01)
MOST_ANSWERS = 100


@dataclass(frozen=True)
class FoundSeries:
    """A series that a service has.

    Attributes:
        study_uid: Never into a message.
        series_uid: Never into a message.
        instances: How many the service counts; 0 if it does not say.
    """

    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    instances: int


def list_series(
    address: WebAddress, *, dates: str, modality: str, security: Security, retry: Retry
) -> Iterator[FoundSeries]:
    """List the series of some days.

    Args:
        address: The service.
        dates: Of studies, such as ``20260101-``.
        modality: Of series.
        security: Certificates and credentials.
        retry: For each request.

    Yields:
        The series, study by study.

    Raises:
        TransferError: If the peer fails, or answers something else.
    """
    limits, service = FetchLimits(), WebService(address, security, retry)
    try:
        with quiet_libraries():
            studies = list_items(
                lambda offset: service.search_studies(
                    dates=dates, modality=modality, offset=offset
                ),
                STUDY_UID,
                retry=retry,
                most=MOST_STUDIES,
                pages=limits.pages,
            )
        for study in studies:
            with quiet_libraries():
                found = list_items(
                    lambda offset, uid=study: service.search_series(  # type: ignore[misc]
                        uid, modality=modality, offset=offset
                    ),
                    SERIES_UID,
                    retry=retry,
                    most=limits.series,
                    pages=limits.pages,
                )
            for series, item in found.items():
                yield FoundSeries(study, series, read_count(item))
    finally:
        service.close()


def count_instances(
    address: WebAddress | AeAddress,
    study_uid: str,
    series_uid: str,
    *,
    security: Security,
    retry: Retry,
) -> int:
    """Ask how many instances a series has.

    Args:
        address: A DICOMweb service, or an application entity that takes C-FIND.
        study_uid: Of the series.
        series_uid: Of the series.
        security: Certificates and credentials.
        retry: For each request.

    Returns:
        How many; 0 if the peer does not know the series or does not count.

    Raises:
        TransferError: If the peer fails, or answers something else.
        ValueError: If a UID is none: as part of a path it could lead elsewhere.
    """
    check_uid(study_uid, "study")
    check_uid(series_uid, "series")
    with quiet_libraries():
        if isinstance(address, AeAddress):
            return retry.run(lambda: _find(address, study_uid, series_uid, security, retry))
        service = WebService(address, security, retry)
        try:
            found = list_items(
                lambda offset: service.search_instances(study_uid, series_uid, offset=offset),
                INSTANCE_UID,
                retry=retry,
                most=FetchLimits().instances,
                pages=FetchLimits().pages,
            )
        finally:
            service.close()
        return len(found)


def _find(
    address: AeAddress, study_uid: str, series_uid: str, security: Security, retry: Retry
) -> int:
    """Ask by C-FIND, and take the largest answer."""
    question = Dataset()
    question.QueryRetrieveLevel = "SERIES"
    question.StudyInstanceUID, question.SeriesInstanceUID = study_uid, series_uid
    question.NumberOfSeriesRelatedInstances = None
    model, counts = StudyRootQueryRetrieveInformationModelFind, [0]
    with (
        associated(address, [build_context(model)], security=security, retry=retry) as (
            peer,
            clock,
        ),
        clock.running("answer a question by C-FIND"),
    ):
        for number, (status, answer) in enumerate(peer.send_c_find(question, model)):
            if number >= MOST_ANSWERS or status.get("Status") not in PENDING:
                break
            with suppress(Exception):  # pydicom raises whatever the bytes suggest
                counts.append(as_count(getattr(answer, "NumberOfSeriesRelatedInstances", 0)))
    return max(counts)
