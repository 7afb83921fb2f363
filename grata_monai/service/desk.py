"""What an operator does: look, pause, resume, drain, try a case again, cancel one, check the log.

Whoever may write into the service's folder or database may do so; there is no door for it in the
network. A running service sees the change within a second.
"""

from grata_monai.core.errors import DatasetError
from grata_monai.service.audit import verify_audit
from grata_monai.service.config import ServiceConfig
from grata_monai.service.ledger import OPEN, Ledger, Series, State
from grata_monai.service.spool import Spool
from grata_monai.service.status import Health

__all__ = ["Desk"]

CANCELLED = "cancelled"
MODES = {"pause": "pause", "resume": "run", "drain": "drain"}
MOST_LINES = 40
EXIT_OK, EXIT_BROKEN = 0, 1


class Desk:
    """An operator's desk.

    Args:
        config: Of the service.

    Raises:
        DatasetError: If its folder does not exist.
    """

    def __init__(self, config: ServiceConfig) -> None:
        if not config.folder.is_dir():  # opening the ledger would make one, and tell of no case
            raise DatasetError(
                f"folder must be that of a service that has been started, {config.folder.name!r} "
                "is none. Correct it in the configuration, or start the service first."
            )
        self._config = config
        self._ledger = Ledger(config)

    def status(self) -> str:
        """Tell what there is, worst first."""
        now = Health(self._config, self._ledger, Spool(self._config.folder)).look()
        counts = ", ".join(f"{count} {state}" for state, count in now.counts.items() if count)
        lines = [f"{now.mode}: {counts or 'no case yet'}; {now.free_gib:.1f} GiB free"]
        lines += [f"ALARM {alarm.name}: {alarm.text}. {alarm.remedy}" for alarm in now.alarms]
        for case in now.lines[:MOST_LINES]:
            place = f" place {case.position}, ready in {case.eta_seconds / 60:.0f} min"
            words = [case.key, case.state, case.light, f"{case.age_seconds / 60:.0f} min"]
            words += [place.strip()] if case.position else []
            lines.append("  ".join(filter(None, [*words, case.reason])))
        return "\n".join(lines)

    def switch(self, action: str) -> str:
        """Pause, resume or drain."""
        self._ledger.write_setting("mode", MODES[action])
        self._ledger.note(action)
        return {
            "pause": "paused: instances are received, nothing is segmented",
            "resume": "running",
            "drain": "draining: no new work is taken; the service stops when nothing is open",
        }[action]

    def retry(self, key: str) -> str:
        """Begin a case again that was quarantined, refused or cancelled."""
        series = self._find(key, (State.QUARANTINED, State.REFUSED))
        done = self._ledger.move(
            series,
            State.QUEUED,
            event="retried by the operator",
            details={"was": series.state},
            edition=series.edition + 1,
            job=series.job + 1,
            tries=0,
            sends=0,
            waited=0.0,
            reason="",
        )
        return self._tell(series, done, "is tried again")

    def cancel(self, key: str) -> str:
        """End a case that is open."""
        series = self._find(key, OPEN)
        details = {"end": State.REFUSED, "reason": CANCELLED}
        done = self._ledger.move(
            series, State.REFUSED, event="end", details=details, reason=CANCELLED
        )
        return self._tell(series, done, "is cancelled")

    def verify_audit(self) -> tuple[str, int]:
        """Follow the chain of the audit log."""
        found = verify_audit(self._config.folder / "audit")
        if found.fault:
            return f"the audit log does not hold: {found.fault}", EXIT_BROKEN
        return f"{found.lines} events, unbroken from {found.first} to {found.last}", EXIT_OK

    def _find(self, key: str, states: tuple[State, ...]) -> Series:
        """The one case whose key begins so, in one of some states."""
        found = [row for row in self._ledger.find(states) if row.key.startswith(key)]
        if len(found) != 1:
            raise DatasetError(
                f"KEY must be that of one case that is {', '.join(states)}, it fits "
                f"{len(found)}. Take it from: service status"
            )
        return found[0]

    @staticmethod
    def _tell(series: Series, done: Series | None, what: str) -> str:
        if done is None:
            raise DatasetError("the case must stay as it is meanwhile, it has changed. Try again.")
        return f"{series.key} {what}"
