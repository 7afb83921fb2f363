"""The manifest: the SHA-256 of every file of a bundle, in the format of ``sha256sum``."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grata_monai.bundle.signature import (
    KEY_VARIABLE,
    SIGNATURE,
    required_key,
    sign_folder,
    verify_signature,
)
from grata_monai.core.errors import BundleError
from grata_monai.core.files import atomic_path, is_unfinished
from grata_monai.core.verified import Verified
from grata_monai.core.working import clean

__all__ = [
    "MANIFEST",
    "METADATA",
    "OUTPUT_FOLDERS",
    "Difference",
    "describe_verified",
    "find_differences",
    "manifest_digest",
    "not_verified",
    "sign_bundle",
    "verify_bundle",
    "verify_manifest",
    "walk",
    "write_manifest",
]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.sha256"
METADATA = "configs/metadata.json"
OUTPUT_FOLDERS = ("eval", "training")  # where runs write if nobody says otherwise; not delivered
NAMED = ("name", "version")  # in the metadata
LONG_STRING = 64  # characters of a DICOM LO
BLOCK = 2**20  # bytes; weights are never in memory as a whole
LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>[^\x00-\x1f\x7f\\\ud800-\udfff]+)")


@dataclass(frozen=True)
class Difference:
    """One file that is not as the manifest says.

    Attributes:
        file: Its path in the bundle.
        problem: What is wrong with it, to follow its name in a sentence.
    """

    file: str
    problem: str


def walk(root: Path) -> Iterator[Path]:
    """List everything in a bundle that is no folder; symbolic links are named, never followed.

    Args:
        root: Of the bundle. The folders of `OUTPUT_FOLDERS` at its top are left out.

    Yields:
        Paths in a fixed order.

    Raises:
        OSError: If a folder cannot be read.
    """
    for path in _entries(root):
        if path.name not in OUTPUT_FOLDERS or not _is_folder(path):
            yield from _walk(path)


def write_manifest(root: str | Path) -> Path:
    """Write ``manifest.sha256`` of a bundle, whole or not at all.

    What a killed process was writing in the bundle is no part of it, and is removed.

    Args:
        root: Of the bundle.

    Returns:
        The manifest. ``sha256sum -c manifest.sha256`` in the bundle's folder reads it.

    Raises:
        BundleError: If the folder is no bundle, or holds what no manifest can name.
        OutputError: If it cannot be written.
    """
    folder = _bundle_folder(root)
    for place, folders, _ in os.walk(folder):
        if any(map(is_unfinished, folders)):
            clean(Path(place))
    lines = []
    for name, path in sorted(_named_files(folder).items()):
        if is_unfinished(path.name):
            path.unlink(missing_ok=True)
            continue
        problem = _unnameable(name, path)
        if problem:
            raise BundleError(f"bundle must hold plain files only, {name!r} {problem}. Remove it.")
        lines.append(f"{_digest(path)}  {name}\n")
    with atomic_path(folder / MANIFEST) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    return folder / MANIFEST


def manifest_digest(root: str | Path) -> str:
    """Give the SHA-256 of a bundle's manifest, which names the state of the whole bundle.

    Args:
        root: Of the bundle.

    Returns:
        The digest; empty if there is no manifest.

    Raises:
        BundleError: If it cannot be read.
    """
    path = Path(root) / MANIFEST
    return _digest(path) if path.is_file() else ""


def find_differences(root: str | Path) -> list[Difference]:
    """Hold every file of a bundle to its manifest.

    Args:
        root: Of the bundle.

    Returns:
        What differs, by name.

    Raises:
        BundleError: If the folder is no bundle, or a file cannot be read.
    """
    folder = _bundle_folder(root)
    if (folder / MANIFEST).is_symlink():
        return [Difference(MANIFEST, "is a symbolic link")]
    try:
        content = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        return [Difference(MANIFEST, "is missing")]
    except OSError as error:
        raise _unreadable(error) from error
    listed, faults = _parse(content)
    faults += [
        Difference(path.relative_to(folder).as_posix(), "is a symbolic link to a folder")
        for path in _linked_folders(folder)
    ]
    present = _named_files(folder)
    faults += [Difference(name, "is missing") for name in listed.keys() - present.keys()]
    for name, path in present.items():
        problem = _unnameable(name, path) or _compare(path, listed.get(name))
        if problem:
            faults.append(Difference(name, problem))
    return sorted(faults, key=lambda difference: difference.file)


def verify_manifest(root: str | Path) -> str:
    """Refuse a bundle whose files are not those of its manifest.

    Args:
        root: Of the bundle.

    Returns:
        SHA-256 of the manifest, which names this state of the whole bundle.

    Raises:
        BundleError: If a file differs, is missing or is not listed; the message names it.
    """
    differences = find_differences(root)
    if differences:
        first, others = differences[0], len(differences) - 1
        also = f", and {others} more" if others else ""
        raise BundleError(
            f"every file of the bundle must be as {MANIFEST} says, {first.file!r} "
            f"{first.problem}{also}. Get the bundle again. If the change is yours, run "
            "`python -m grata_monai lint --write-manifest BUNDLE`, or go on with --unverified."
        )
    return manifest_digest(root)


def verify_bundle(bundle_root: str | Path, *, unverified: bool = False) -> Verified:
    """Verify a bundle before anything of it is parsed, and say so for the record.

    Args:
        bundle_root: The bundle's folder.
        unverified: Verify nothing, for those who are changing the bundle.

    Returns:
        What the record says of the bundle: the attributes of `BundleVerification`.

    Raises:
        BundleError: If a file differs, is missing or is not listed; or if the environment asks for
            a signature, and there is none by that key.
    """
    key = required_key()
    if unverified and key is not None:
        raise BundleError(
            f"a bundle must be verified where {KEY_VARIABLE} asks for its signature, unverified "
            "was given or there is no manifest. Leave it out; write one, and sign it."
        )
    if unverified:
        has_manifest = (Path(bundle_root) / MANIFEST).exists()
        return not_verified("asked for" if has_manifest else "it has no manifest", bundle_root)
    if key is not None:
        verify_signature(_bundle_folder(bundle_root), key, ignored=OUTPUT_FOLDERS)
    return Verified(
        is_verified=True,
        manifest_sha256=verify_manifest(bundle_root),
        reason="",
        **_read_name(bundle_root),
        signed_by=None if key is None else _digest(key),
    )


def sign_bundle(root: str | Path, key: str | Path) -> Path:
    """Sign a bundle that is as its manifest says; `verify_bundle` then tells who signed it.

    Args:
        root: Of the bundle.
        key: PEM file of a private key on a NIST curve.

    Returns:
        The signature, beside the manifest.

    Raises:
        BundleError: If a file differs, is missing or is not listed.
        ValueError: If the file holds no such key.
        OutputError: If the signature cannot be written.
    """
    verify_manifest(root)
    return sign_folder(_bundle_folder(root), Path(key), ignored=OUTPUT_FOLDERS)


def describe_verified(verified: Mapping[str, Any]) -> str:
    """Say in a few words, for reports, what `verify_bundle` found."""
    digest = verified["manifest_sha256"]
    return f"manifest {digest}" if digest else f"not verified: {verified['reason']}"


def not_verified(reason: str, root: str | Path | None = None) -> Verified:
    """Say, in the log and for the record, that a bundle was not verified, and why."""
    logger.warning("the bundle is not verified: %s", reason)
    name = {} if root is None else _read_name(root)
    return Verified(is_verified=False, manifest_sha256=None, reason=reason, **name)


def _read_name(root: str | Path) -> dict[str, str]:
    """Read name and version in a bundle's metadata, as short as DICOM has them."""
    try:
        content = json.loads((Path(root) / METADATA).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    said = {key: str(content.get(key, "")) if isinstance(content, dict) else "" for key in NAMED}
    return {
        key: "".join(c for c in text if c.isprintable() and c != "\\")[:LONG_STRING].strip()
        for key, text in said.items()
    }


def _walk(path: Path) -> Iterator[Path]:
    if not _is_folder(path):
        yield path
        return
    for entry in _entries(path):
        yield from _walk(entry)


def _linked_folders(folder: Path) -> Iterator[Path]:
    """Links in the folders that no manifest covers: what runs write there would go elsewhere."""
    for name in OUTPUT_FOLDERS:
        for place, folders, _ in os.walk(folder / name):
            yield from (Path(place, one) for one in folders if Path(place, one).is_symlink())


def _entries(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in os.scandir(folder))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _bundle_folder(root: str | Path) -> Path:
    folder = Path(root).resolve()
    if not folder.is_dir():
        raise BundleError(
            f"bundle must be a folder, {Path(root).name!r} is none. Point to the folder that has "
            "configs/ and models/: --bundle, --network or bundle_dir."
        )
    return folder


def _named_files(folder: Path) -> dict[str, Path]:
    """Files by the names that the manifest gives them, without itself and the signature of all."""
    try:
        found = {path.relative_to(folder).as_posix(): path for path in walk(folder)}
    except OSError as error:
        raise _unreadable(error) from error
    return {name: path for name, path in found.items() if name not in (MANIFEST, SIGNATURE)}


def _parse(content: bytes) -> tuple[dict[str, str], list[Difference]]:
    listed: dict[str, str] = {}
    lines = content.decode(errors="replace").removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        match = LINE.fullmatch(line)
        if match is None or match["name"] in listed:
            return listed, [Difference(MANIFEST, f"has a faulty line {number}")]
        listed[match["name"]] = match["digest"]
    return listed, []


def _unnameable(name: str, path: Path) -> str:
    if path.is_symlink():
        return "is a symbolic link"
    if not path.is_file():
        return "is no regular file"
    return "" if LINE.fullmatch(f"{'0' * 64}  {name}") else "has a name that cannot be listed"


def _compare(path: Path, digest: str | None) -> str:
    if digest is None:
        return "is not listed"
    return "" if _digest(path) == digest else "differs"


def _digest(path: Path) -> str:
    found, buffer = hashlib.sha256(), bytearray(BLOCK)
    view = memoryview(buffer)
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(view):
                found.update(view[:count])
    except OSError as error:
        raise _unreadable(error) from error
    return found.hexdigest()


def _unreadable(error: OSError) -> BundleError:
    name = Path(str(error.filename)).name
    return BundleError(
        f"every file of the bundle must be readable, {name!r} is not: {error.strerror}. "
        "Correct the permissions, or get the bundle again."
    )
