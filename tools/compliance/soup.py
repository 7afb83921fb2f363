"""The list of software of unknown provenance (IEC 62304, 8.1.2), from the lock and its packages."""

from pathlib import Path

from packaging.utils import canonicalize_name

from grata_monai.core.errors import DatasetError
from tools.compliance.packages import (
    PARTS,
    Package,
    find_parts,
    installed,
    needed_by,
    read_lock,
)
from tools.compliance.purposes import PURPOSES
from tools.compliance.tables import make_table

__all__ = ["render_soup"]

HEADER = ("title", "version", "manufacturer", "licence", "what for", "known anomalies")
HEADINGS = {
    "segmenting": "Takes part in every segmentation",
    "DICOM": "Takes part where DICOM is read, written or sent",
    "service": "Takes part in the service only: queue, page, metrics",
    "signatures": "Takes part where bundles are signed, or held to a signature",
    "development": "Development only: takes part in no segmentation",
}


def render_soup(root: Path) -> str:
    """Make one table per part, of the packages that the lock names.

    Versions come from the lock, everything else from the packages' own metadata, so they must be
    installed.

    Args:
        root: Of the repository.

    Returns:
        Markdown.

    Raises:
        DatasetError: If a locked package is not installed in its locked version, nothing of ours
            needs it, or a direct dependency has no purpose yet.
    """
    lock = read_lock(root)
    packages = {name: each for name, each in installed().items() if name in lock}
    check_versions(lock, packages)
    parts, users = find_parts(root, packages), needed_by(packages)
    unused = sorted(set(lock) - set(parts))
    if unused:
        raise DatasetError(
            f"a locked package must be needed by one of ours, {', '.join(unused)} is not. Take it "
            "out of constraints.txt, or name in pyproject.toml what needs it."
        )
    rows = {name: _row(packages[name], lock[name], users[name]) for name in lock}
    sections = []
    for part in PARTS:
        table = make_table(HEADER, [rows[name] for name in lock if parts[name] == part])
        sections.append(f"### {HEADINGS[part]}\n\n{table}")
    return "\n\n".join(sections)


def check_versions(lock: dict[str, str], packages: dict[str, Package]) -> None:
    """Refuse an environment that is not the locked one.

    Raises:
        DatasetError: With the first package that is missing or has another version.
    """
    for name, version in lock.items():
        found = packages[name].public_version if name in packages else "none"
        if found != version:
            raise DatasetError(
                f"installed packages must be those of constraints.txt, {name} {version} is locked "
                f"and {found} installed. "
                "Run: pip install -c constraints.txt -e '.[dev,dicom,service,sign]'"
            )


def _row(package: Package, version: str, users: list[str]) -> tuple[str, ...]:
    purpose = PURPOSES.get(str(canonicalize_name(package.name)), "")
    if not purpose and not users:
        raise DatasetError(
            f"a direct dependency must have a purpose, {package.name} has none. Say in "
            "tools/compliance/purposes.py what it is used for."
        )
    return (
        package.name,
        version,
        package.maker or "not stated",
        package.licence or "not stated",
        purpose or f"needed by {', '.join(users)}",
        f"<{package.tracker}>" if package.tracker else "not stated",
    )
