"""Read the service's configuration: one TOML file, checked whole before anything starts."""

import difflib
import errno
import hashlib
import json
import socket
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from grata_monai.service.parts import (
    Audit,
    Completeness,
    Destination,
    Limits,
    Listener,
    Part,
    Pull,
    Route,
    Watch,
    Web,
)

__all__ = ["ServiceConfig", "read_config"]

POSTGRESQL = ("postgresql://", "postgresql+psycopg://")


class ServiceConfig(Part):
    """The whole file.

    Attributes:
        folder: Everything that lasts; made if missing.
        node: Name of this machine among those that share a database.
        database: URL of PostgreSQL; empty for SQLite in the folder.
        slots: Workers that segment. With CUDA one per device.
        bundle_key: Public key; bundles that it did not sign are refused.
        dicom: Where peers send to.
        routes: At least one.
        destinations: At least one.
    """

    folder: Path
    node: str = Field(default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9_.-]+$")
    database: str = ""
    slots: int = Field(default=1, ge=1, le=256)
    bundle_key: Path | None = None
    dicom: Listener
    routes: tuple[Route, ...] = Field(min_length=1)
    destinations: tuple[Destination, ...] = Field(min_length=1)
    completeness: Completeness = Completeness()
    watch: tuple[Watch, ...] = ()
    pull: tuple[Pull, ...] = ()
    limits: Limits = Limits()
    web: Web = Web()
    audit: Audit = Audit()

    @model_validator(mode="after")
    def _check(self) -> "ServiceConfig":
        called = [route.called for route in self.routes]
        names = [destination.name for destination in self.destinations]
        for what, values in (("called of a route", called), ("name of a destination", names)):
            if len(set(values)) != len(values):
                raise ValueError(f"{what} must be given once. Rename one.")
        for route in self.routes:
            _check_known("destination of a route", route.destination, names)
        for route in self.routes:
            if route.bundle is not None and not route.bundle.is_dir():
                raise ValueError("bundle of a route must be a folder, one is none. Correct it.")
        if self.bundle_key is not None and not self.bundle_key.is_file():
            raise ValueError("bundle_key must be a file, it is none. Correct it.")
        _check_apart([self.folder, *(watch.folder for watch in self.watch)])
        for title in [each.called for each in self.watch] + [each.called for each in self.pull]:
            _check_known("called", title, called)
        if self.database and not self.database.startswith(POSTGRESQL):
            raise ValueError("database must begin with postgresql://, or be left out for SQLite.")
        return self

    def route(self, called: str) -> Route | None:
        """The route of an AE title; None if there is none."""
        return next((route for route in self.routes if route.called == called), None)

    def destination(self, name: str) -> Destination | None:
        """The destination of a name; None if there is none."""
        return next((each for each in self.destinations if each.name == name), None)

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration; says whether it has changed."""
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()


def read_config(path: str | Path) -> ServiceConfig:
    """Read and check a configuration.

    Args:
        path: A TOML file. Relative paths in it count from its folder.

    Returns:
        Its checked value.

    Raises:
        ValueError: If it cannot be read, or breaks a rule; names the key and what to do.
    """
    file = Path(path)
    try:
        if not file.is_file():  # a pipe would be waited for
            raise FileNotFoundError(errno.ENOENT, "no such file")
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        text = json.dumps(_absolute(content, file.absolute().parent), default=str)
    except (OSError, ValueError, RuntimeError) as error:  # also nested too deeply, ~nobody
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"configuration must be a readable TOML file, {file.name!r} is not ({reason}). "
            "Correct the path or its syntax."
        ) from error
    try:
        # JSON is strict about types: TOML says "no" where a text stands, and it is true
        found = ServiceConfig.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(_explain(error, content)) from error
    return found


_PATHS = {
    "folder", "bundle", "bundle_key", "ca", "certificate", "key", "credentials", "token",
    "client_ca",
}  # fmt: skip


def _absolute(content: Any, base: Path) -> Any:
    """Make paths absolute, in every table but a bundle's settings."""
    if isinstance(content, list):
        return [_absolute(each, base) for each in content]
    if not isinstance(content, dict):
        return content
    return {
        key: value
        if key == "settings"
        else str(base / Path(_check_path(key, value)).expanduser())
        if key in _PATHS and isinstance(value, str)
        else _absolute(value, base)
        for key, value in content.items()
    }


def _check_path(key: str, text: str) -> str:
    if "\0" in text:
        raise ValueError(f"{key} holds a NUL")
    return text


def _explain(error: ValidationError, content: Any) -> str:
    """One sentence about the first fault; never a value, which may be a secret."""
    faults = error.errors(include_url=False, include_input=False)
    # a key that is written wrongly is also one that is missing: the first says more
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    place = ".".join(str(part + 1) if isinstance(part, int) else part for part in fault["loc"])
    if fault["type"] == "missing":
        return f"every key that has no default must be given, {place} is not. Add it."
    if fault["type"] != "extra_forbidden":
        message = fault["msg"].removeprefix("Value error, ")
        return f"configuration must be right, {place or 'it'} is not: {message}"
    *parents, name = fault["loc"]
    near = difflib.get_close_matches(str(name), _known_keys(parents), n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]}?" if near else "Remove it."
    return f"every key of the configuration must be known, {place} is not. {hint}"


def _known_keys(parents: list[Any]) -> list[str]:
    kinds: dict[str, type[BaseModel]] = {
        "dicom": Listener, "routes": Route, "destinations": Destination, "limits": Limits,
        "completeness": Completeness, "watch": Watch, "pull": Pull, "web": Web, "audit": Audit,
    }  # fmt: skip
    kind = kinds[parents[0]] if parents else ServiceConfig
    return [field.alias or name for name, field in kind.model_fields.items()]


def _check_known(what: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise ValueError(f"{what} must be one of {json.dumps(known)}. Correct it, or add that one.")


def _check_apart(folders: list[Path]) -> None:
    """Raise ValueError if one folder is, or lies in, another: files are moved out of some."""
    places = [folder.resolve() for folder in folders]
    for number, place in enumerate(places):
        for other in places[number + 1 :]:
            if place.is_relative_to(other) or other.is_relative_to(place):
                raise ValueError(
                    "folder of a watch must lie neither in the service's folder nor around it, nor "
                    "in or around another watch's. Choose another."
                )
