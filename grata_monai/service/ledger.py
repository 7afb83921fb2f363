"""Keep what became of every series, in one table of SQLite or PostgreSQL.

A series has one row. Its state changes only from a state that the caller expects, in one
transaction with the event for the audit log, so that each end is written once, whoever dies when.
"""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from grata_monai.core.errors import OutputError
from grata_monai.service.config import ServiceConfig
from grata_monai.service.spool import prepare_folder

__all__ = ["ENDS", "OPEN", "Ledger", "Series", "State"]


class State(StrEnum):
    """Where a series is; the last three are its ends."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    SEGMENTED = "segmented"
    DELIVERED = "delivered"
    REFUSED = "refused"
    QUARANTINED = "quarantined"


OPEN = (State.RECEIVING, State.QUEUED, State.SEGMENTED)
ENDS = (State.DELIVERED, State.REFUSED, State.QUARANTINED)


@dataclass(frozen=True)
class Series:
    """One row: a series that came to one AE title.

    Attributes:
        key: Hash of its UID and the AE title.
        edition: 1; 2 after instances came late.
        state: Where it is.
        called: AE title of the route.
        rule: JSON of the route as it was when the series was accepted.
        received: When its first instance came, seconds since 1970.
        changed: When its state last changed.
        instances: How many it had when it was complete.
        expected: How many a peer counted; 0 if nobody did.
        job: Number of its last job in the queue.
        tries: How often segmenting was begun.
        sends: How often delivering was begun.
        waited: Seconds between those sends, planned; the clock may be stepped meanwhile.
        reason: Why it ended so, or why the last try failed.
        light: Worst light of its volumes.
        scanner: Manufacturer and model.
        seconds: Segmenting took.
    """

    key: str
    edition: int
    state: str
    called: str
    rule: str
    received: float
    changed: float
    instances: int = 0
    expected: int = 0
    job: int = 0
    tries: int = 0
    sends: int = 0
    waited: float = 0.0
    reason: str = ""
    light: str = ""
    scanner: str = ""
    seconds: float = 0.0

    @property
    def route(self) -> dict[str, Any]:
        """The rule, read."""
        found: dict[str, Any] = json.loads(self.rule)
        return found


_KINDS: Mapping[Any, Any] = {str: sa.Text, int: sa.Integer, float: sa.Float(53)}
_TABLES = sa.MetaData()
_SERIES = sa.Table(
    "series",
    _TABLES,
    *(
        sa.Column(field.name, _KINDS[field.type], primary_key=field.name == "key", nullable=False)
        for field in fields(Series)
    ),
)
_OUTBOX = sa.Table(
    "outbox",
    _TABLES,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("event", sa.Text, nullable=False),
    sqlite_autoincrement=True,  # a number is never given twice
)
_SETTINGS = sa.Table(
    "settings",
    _TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


class Ledger:
    """The table of series, the events that the audit log has not got yet, and a few settings.

    Args:
        config: Says where the database is.

    Raises:
        OutputError: If it does not answer, or must not be written.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self._engine = open_engine(config, "ledger")
        try:
            with self._engine.begin() as connection:
                _TABLES.create_all(connection)
        except sa.exc.OperationalError as error:
            raise OutputError(
                "ledger must be a database that can be written, it is not (OperationalError). Run "
                "this as the service's user, and see that the disk has room or PostgreSQL answers."
            ) from error

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def receive(self, key: str, *, called: str, rule: str) -> Series:
        """Find a series; add it if it is new.

        Args:
            key: Of the series.
            called: AE title of the route.
            rule: JSON of the route.

        Returns:
            Its row.
        """
        found = self.get(key)
        if found is not None:
            return found
        now = time.time()
        series = Series(key, 1, State.RECEIVING, called, rule, now, now)
        with self._engine.begin() as connection:
            connection.execute(_SERIES.insert().values(**series.__dict__))
            self._note(connection, "received", series)
        return series

    def get(self, key: str) -> Series | None:
        """The row of a series; None if there is none."""
        with self._engine.connect() as connection:
            row = connection.execute(_SERIES.select().where(_SERIES.c.key == key)).first()
        return None if row is None else Series(**row._mapping)

    def find(self, states: Sequence[str] = tuple(State), *, most: int = 100_000) -> list[Series]:
        """Series in some states, those that changed last first."""
        query = _SERIES.select().where(_SERIES.c.state.in_(states))
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(_SERIES.c.changed.desc()).limit(most))
            return [Series(**row._mapping) for row in rows]

    def count(self, *columns: str) -> dict[tuple[Any, ...], int]:
        """How many series there are for each value of some columns."""
        chosen = [_SERIES.c[name] for name in columns]
        query = sa.select(*chosen, sa.func.count()).group_by(*chosen)
        with self._engine.connect() as connection:
            return {tuple(row[:-1]): int(row[-1]) for row in connection.execute(query)}

    def move(
        self, series: Series, state: str, *, event: str = "", details: Any = None, **values: Any
    ) -> Series | None:
        """Change a row, if it is still the one that the caller knows.

        Args:
            series: As the caller knows it: edition, state and job must be as they were.
            state: The new one; may be the old one.
            event: For the audit log; none where empty.
            details: More of the event; no identifier.
            **values: Further columns.

        Returns:
            The new row; None if another process was faster, and nothing was changed.
        """
        new = Series(**{**series.__dict__, "state": state, "changed": time.time(), **values})
        is_known = sa.and_(
            *(_SERIES.c[name] == getattr(series, name) for name in ("key", "edition", "state")),
            _SERIES.c.job == series.job,
        )
        with self._engine.begin() as connection:
            done = connection.execute(_SERIES.update().where(is_known).values(**new.__dict__))
            if done.rowcount == 0:
                return None
            if event:
                self._note(connection, event, new, details)
        return new

    def remove(self, series: Series) -> None:
        """Forget a series."""
        with self._engine.begin() as connection:
            connection.execute(_SERIES.delete().where(_SERIES.c.key == series.key))

    def note(self, event: str, details: Any = None, *, series: Series | None = None) -> None:
        """Put an event into the audit log that changes no row."""
        with self._engine.begin() as connection:
            self._note(connection, event, series, details)

    def _note(
        self, connection: sa.Connection, event: str, series: Series | None, details: Any = None
    ) -> None:
        content: dict[str, Any] = {"id": secrets.token_hex(8), "time": time.time(), "event": event}
        content |= details or {}
        if series is not None:
            content |= {"key": series.key, "edition": series.edition}
        connection.execute(_OUTBOX.insert().values(event=json.dumps(content, sort_keys=True)))

    def read_outbox(self, most: int) -> list[tuple[int, dict[str, Any]]]:
        """The oldest events that the audit log has not got yet, with their numbers."""
        query = _OUTBOX.select().order_by(_OUTBOX.c.id).limit(most)
        with self._engine.connect() as connection:
            return [(row.id, json.loads(row.event)) for row in connection.execute(query)]

    def empty_outbox(self, numbers: Sequence[int]) -> None:
        """Forget events that the audit log has."""
        with self._engine.begin() as connection:
            connection.execute(_OUTBOX.delete().where(_OUTBOX.c.id.in_(numbers)))

    def read_setting(self, name: str, default: str = "") -> str:
        """A setting of the running service."""
        query = sa.select(_SETTINGS.c.value).where(_SETTINGS.c.name == name)
        with self._engine.connect() as connection:
            return str(connection.execute(query).scalar() or default)

    def write_setting(self, name: str, value: str) -> None:
        """Change a setting of the running service."""
        with self._engine.begin() as connection:
            connection.execute(_SETTINGS.delete().where(_SETTINGS.c.name == name))
            connection.execute(_SETTINGS.insert().values(name=name, value=value))


def open_engine(config: ServiceConfig, name: str) -> sa.Engine:
    """Open a database: a file of SQLite in the folder, or PostgreSQL.

    Args:
        config: Says which, and where.
        name: Of the file.

    Returns:
        The engine; what it commits is on the disk.
    """
    if config.database:
        url = sa.make_url(config.database).set(drivername="postgresql+psycopg")
        return sa.create_engine(url, pool_pre_ping=True)
    prepare_folder(config.folder)
    engine = sa.create_engine(f"sqlite:///{config.folder / name}.sqlite")

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA busy_timeout=30000")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine
