"""Segment a series, deliver its results, and write into the ledger what became of it.

A job may be done twice, if its process was killed: the ledger's row says whether it still counts,
and results have the same UIDs each time.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from grata_monai.core.errors import TransferError, find_cause, find_root
from grata_monai.service.config import ServiceConfig
from grata_monai.service.jobs import Follow
from grata_monai.service.ledger import Ledger, Series, State
from grata_monai.service.parts import Destination
from grata_monai.service.spool import Spool
from grata_monai.transfer.commitment import Commitment
from grata_monai.transfer.exchange import send
from grata_monai.transfer.retry import Retry

__all__ = ["Outcome", "deliver", "segment"]

logger = logging.getLogger(__name__)

DAY = 86400.0
KILLED = "worker died"


@dataclass(frozen=True)
class Outcome:
    """What segmenting a series gave.

    Attributes:
        refused: Reason codes, if nothing of it could be segmented; else empty.
        light: The worst one.
        scanner: Manufacturer and model.
        volumes: How many were segmented.
        seconds: It took.
    """

    refused: str = ""
    light: str = ""
    scanner: str = ""
    volumes: int = 0
    seconds: float = 0.0


def segment(
    config: ServiceConfig,
    ledger: Ledger,
    key: str,
    edition: int,
    job: int,
    *,
    run: Callable[[Series], Outcome],
) -> Follow | None:
    """Segment a series, unless its row asks for something else by now.

    Args:
        config: Of the service.
        ledger: With the row.
        key: Of the series.
        edition: That the job is for.
        job: Its number.
        run: Segments; raises what is no refusal of the images.

    Returns:
        The job that follows; None if there is none.
    """
    series, follow = _find(ledger, State.QUEUED, key, edition, job)
    if series is None:
        return follow
    if series.tries >= config.limits.tries:
        _end(ledger, series, State.QUARANTINED, series.reason or KILLED)
        return None
    series = ledger.move(series, series.state, tries=series.tries + 1, reason=KILLED)
    if series is None:
        return None
    try:
        outcome = run(series)
    except Exception as error:  # whatever happened to this case must not stop the others
        return _try_again(config, ledger, series, error)
    found = {"light": outcome.light, "scanner": outcome.scanner, "seconds": outcome.seconds}
    if outcome.refused:
        _end(ledger, series, State.REFUSED, outcome.refused, **found)
        return None
    details = {"light": outcome.light, "volumes": outcome.volumes, "tries": series.tries}
    done = ledger.move(
        series,
        State.SEGMENTED,
        event="segmented",
        details=details,
        job=series.job + 1,
        reason="",
        **found,
    )
    return None if done is None else Follow.of(done)


def deliver(
    config: ServiceConfig, ledger: Ledger, spool: Spool, key: str, edition: int, job: int
) -> Follow | None:
    """Send the results of a series, unless its row asks for something else by now.

    Args:
        config: Of the service.
        ledger: With the row.
        spool: With the results.
        key: Of the series.
        edition: That the job is for.
        job: Its number.

    Returns:
        The job that follows; None if there is none.
    """
    series, follow = _find(ledger, State.SEGMENTED, key, edition, job)
    if series is None:
        return follow
    series = ledger.move(series, series.state, sends=series.sends + 1)
    if series is None:
        return None
    try:
        destination = _find_destination(config, series)
        details = _send(destination, spool, series)
    except Exception as error:  # a peer may do whatever it likes
        return _send_again(config, ledger, series, error)
    _end(ledger, series, State.DELIVERED, "", **details)
    return None


def _send(destination: Destination, spool: Spool, series: Series) -> dict[str, object]:
    """Send; return what the audit log says of it."""
    commitment = Commitment(reply=destination.reply) if destination.commitment else None
    report = send(
        [spool.results(series.key, series.edition)],
        destination.address,
        security=destination.security,
        retry=Retry(attempts=1),
        commitment=commitment,
    )
    if destination.commitment and report.commitment != "committed":
        raise TransferError(
            f"peer must commit to keeping what it stored: {report.commitment}. {report.note}"
        )
    return {"objects": report.instances, "commitment": report.commitment}


def _find(
    ledger: Ledger, state: State, key: str, edition: int, job: int
) -> tuple[Series | None, Follow | None]:
    """The row that a job is for, or the job that has taken its place."""
    series = ledger.get(key)
    if series is None or series.edition != edition:
        return None, None
    if series.state == state and series.job == job:
        return series, None
    # killed between the row's change and the queue's: put the next job in now
    return None, Follow.of(series) if series.job == job + 1 else None


def _find_destination(config: ServiceConfig, series: Series) -> Destination:
    name = series.route["destination"]
    found = config.destination(name)
    if found is None:
        raise TransferError(
            f"destination must be in the configuration, {name!r} is not. Add it again: the case "
            "was accepted for it."
        )
    return found


def _end(ledger: Ledger, series: Series, end: State, reason: str, **found: object) -> None:
    """Write how a series ended; it needs no job any more."""
    columns = {name: value for name, value in found.items() if name in Series.__annotations__}
    details = {"end": end, "reason": reason, "tries": series.tries, "sends": series.sends, **found}
    done = ledger.move(series, end, event="end", details=details, reason=reason, **columns)
    if done is None:
        ledger.note("superseded", {"end": end}, series=series)  # it was opened again meanwhile


def _try_again(
    config: ServiceConfig, ledger: Ledger, series: Series, error: Exception
) -> Follow | None:
    reason = _explain(error)
    logger.error("%s: try %d failed: %s", series.key, series.tries, reason)
    logger.debug("case %s failed", series.key, exc_info=error)
    if series.tries >= config.limits.tries:
        _end(ledger, series, State.QUARANTINED, reason)
        return None
    seconds = _delay(config, series.tries)
    told = {"reason": reason, "tries": series.tries}
    return _queue_again(ledger, series, "try failed", told, seconds)


def _explain(error: Exception) -> str:
    """Name what failed; other libraries' messages may quote what no log may hold."""
    cause = find_cause(error) or find_root(error)
    return getattr(cause, "reason", "") or type(cause).__name__


def _send_again(
    config: ServiceConfig, ledger: Ledger, series: Series, error: Exception
) -> Follow | None:
    reason = str(error) if isinstance(error, TransferError) else type(error).__name__
    logger.warning("%s: not delivered: %s", series.key, reason)
    seconds = _delay(config, series.sends)
    waited = series.waited + seconds
    if waited > config.limits.deliver_days * DAY:
        _end(ledger, series, State.QUARANTINED, reason)
        return None
    told = {"reason": reason, "sends": series.sends}
    return _queue_again(ledger, series, "not delivered", told, seconds, waited=waited)


def _queue_again(
    ledger: Ledger,
    series: Series,
    event: str,
    told: Mapping[str, object],
    seconds: float,
    **columns: object,
) -> Follow | None:
    """Give a series its next job, in so many seconds; None if it was opened again meanwhile."""
    done = ledger.move(
        series,
        series.state,
        event=event,
        details=told,
        job=series.job + 1,
        reason=told["reason"],
        **columns,
    )
    return None if done is None else Follow.of(done, delay_seconds=seconds)


def _delay(config: ServiceConfig, attempt: int) -> float:
    limits = config.limits
    return float(
        Retry(
            first_seconds=min(limits.first_seconds, limits.largest_seconds),
            largest_seconds=limits.largest_seconds,
        ).delay(attempt)
    )
