"""What is installed, what is locked, and which package takes part in what."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import getaddresses
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from grata_monai.core.errors import DatasetError

__all__ = [
    "PARTS",
    "Package",
    "find_parts",
    "installed",
    "needed_by",
    "read_direct",
    "read_lock",
]

OWN = "grata-monai"
PARTS = {
    "segmenting": "",
    "DICOM": "dicom",
    "service": "service",
    "signatures": "sign",
    "development": "dev",
}
"""What a package takes part in, and the extra of `pyproject.toml` that brings it; the first of
several counts."""

LOCKED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)")
TRACKER = re.compile(r"issue|bug|track", re.IGNORECASE)
REPOSITORY = re.compile(
    r"https?://github\.com/(?!sponsors/)(?P<path>[\w.-]+/[\w-][\w.-]*?)(\.git)?(/|$)"
)
LONGEST_LICENCE = 40  # characters; longer ones are whole licence texts
SPDX = {
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "GPL V3.0": "GPL-3.0",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


@dataclass(frozen=True)
class Package:
    """One distribution, as its own metadata describe it.

    Attributes:
        name: As its makers write it.
        version: As installed, with a local part such as ``+cpu``.
        licence: SPDX expression where the metadata say so clearly, else their own words; empty if
            they say nothing.
        maker: Who makes it; empty if the metadata do not say.
        tracker: Address where known anomalies are listed; empty if the metadata name none.
        summary: In one line.
        requirements: What it needs, with conditions, as written.
    """

    name: str
    version: str
    licence: str
    maker: str
    tracker: str
    summary: str
    requirements: tuple[str, ...]

    @property
    def public_version(self) -> str:
        """The version without its local part: that which a lock names."""
        return self.version.split("+")[0]


def installed() -> dict[str, Package]:
    """Describe every distribution of this environment but our own, by normalised name."""
    found: dict[str, Package] = {}
    for each in distributions():
        name = canonicalize_name(each.metadata["Name"])
        if name != OWN:  # earlier folders of the path hide later ones, as on import
            found.setdefault(name, _describe(each))
    return dict(sorted(found.items()))


def read_lock(root: Path) -> dict[str, str]:
    """Read the exact versions of ``constraints.txt``.

    Args:
        root: Of the repository.

    Returns:
        Normalised name to version, in alphabetical order.

    Raises:
        DatasetError: If the file cannot be read, or a line is no exact version.
    """
    found = {}
    for line in _read(root / "constraints.txt").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = LOCKED.fullmatch(line.strip())
        if match is None:
            raise DatasetError(
                "a line of constraints.txt must have the form name==version, "
                f"{line.strip()!r} has not. Write it with pip freeze."
            )
        found[str(canonicalize_name(match["name"]))] = match["version"]
    return dict(sorted(found.items()))


def find_parts(root: Path, packages: Mapping[str, Package]) -> dict[str, str]:
    """Tell which package takes part in what, by following what needs what.

    Args:
        root: Of the repository; its ``pyproject.toml`` is where the way begins.
        packages: From `installed`.

    Returns:
        Normalised name to a key of `PARTS`; packages that nothing of ours needs are left out.

    Raises:
        DatasetError: If ``pyproject.toml`` cannot be read.
    """
    direct = read_direct(root)
    parts: dict[str, str] = {}
    for part, names in direct.items():
        for name in _follow(names, packages):
            parts.setdefault(name, part)
    return parts


def read_direct(root: Path) -> dict[str, list[Requirement]]:
    """Read what ``pyproject.toml`` itself asks for, by part."""
    project: dict[str, Any] = tomllib.loads(_read(root / "pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    return {
        part: [
            Requirement(text)
            for text in (extras.get(extra, ()) if extra else project["dependencies"])
        ]
        for part, extra in PARTS.items()
    }


def needed_by(packages: Mapping[str, Package]) -> dict[str, list[str]]:
    """List, for every package, those that need it here, also for an extra that one asks of them."""
    found: dict[str, list[str]] = {name: [] for name in packages}
    asked: dict[str, set[str]] = {name: set() for name in packages}
    for user in packages.values():
        for name, extras in _requirements(user, extras=()):
            asked.get(name, set()).update(extras)
    for user_name, user in packages.items():
        needed = _requirements(user, extras=tuple(sorted(asked[user_name])))
        for name in dict.fromkeys(name for name, _ in needed):
            if name in found:
                found[name].append(user.name)
    return found


def _follow(direct: list[Requirement], packages: Mapping[str, Package]) -> set[str]:
    """Every package that is reached from some requirements, if it is there."""
    waiting = [(str(canonicalize_name(r.name)), tuple(sorted(r.extras))) for r in direct]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if name in packages and (name, extras) not in seen:
            seen.add((name, extras))
            waiting += _requirements(packages[name], extras=extras)
    return {name for name, _ in seen}


def _requirements(
    package: Package, *, extras: tuple[str, ...]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What a package needs here, with the extras that it asks for."""
    for text in package.requirements:
        needed = Requirement(text)
        wanted = ({"extra": extra} for extra in (*extras, ""))
        if needed.marker is None or any(needed.marker.evaluate(each) for each in wanted):
            yield str(canonicalize_name(needed.name)), tuple(sorted(needed.extras))


def _describe(distribution: Distribution) -> Package:
    about: Any = distribution.metadata
    return Package(
        name=about["Name"],
        version=about["Version"],
        licence=_find_licence(about),
        maker=_find_maker(about),
        tracker=_find_tracker(about),
        summary=" ".join((about.get("Summary") or "").split()),
        requirements=tuple(distribution.requires or ()),
    )


def _find_licence(about: Any) -> str:
    """Take the SPDX expression; else a short licence field; else the classifiers."""
    if about.get("License-Expression"):
        return str(about["License-Expression"])
    text = (about.get("License") or "").strip()
    is_name = 0 < len(text) <= LONGEST_LICENCE and "\n" not in text and text != "LICENSE"
    classified = [
        line.rsplit("::", 1)[-1].strip()
        for line in about.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    names = [text] if is_name else classified
    return " AND ".join(dict.fromkeys(SPDX.get(name, name) for name in names))


def _find_maker(about: Any) -> str:
    """Take the first author or maintainer, by name; addresses of persons stay where they are."""
    for key in ("Author", "Maintainer"):
        if about.get(key) and "@" not in about[key]:
            return str(about[key].split(",")[0].split("\n")[0].strip())
        for name, _ in getaddresses([about.get(f"{key}-email") or ""]):
            if name:
                return name
    return ""


def _find_tracker(about: Any) -> str:
    """Take the address that is called a tracker, else the issues of a GitHub repository."""
    named = [line.partition(", ")[::2] for line in about.get_all("Project-URL") or ()]
    for label, address in named:
        if TRACKER.search(label):
            return str(address)
    for address in (*(address for _, address in named), about.get("Home-page") or ""):
        match = REPOSITORY.match(address)
        if match:
            return f"https://github.com/{match['path']}/issues"
    return next((address for _, address in named), about.get("Home-page") or "")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DatasetError(
            f"{path.name} must be readable, it is not ({type(error).__name__}). "
            "Run this in the root of the repository, or name it with --root."
        ) from error
