"""The key of a row: a digest of everything that decides what stands in it."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["digest", "digest_case"]

NAMES = ("case", "centre")
HEADERS, HEADER_BYTES = (".mhd", ".nrrd"), 2**16
"""Which files may leave their voxels to others, and where they say so."""


def digest(**parts: Any) -> str:
    """Fingerprint plain values.

    Args:
        parts: By name; what JSON does not know counts as its text.

    Returns:
        SHA-256 as hexadecimal text.
    """
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_case(case: Mapping[str, str]) -> str:
    """Fingerprint the bytes of a case's images and label, wherever they lie.

    Args:
        case: Of `list_cases`.

    Returns:
        SHA-256 as hexadecimal text.
    """
    paths = {key: Path(path) for key, path in case.items() if key not in NAMES}
    return digest(**{key: _digest_image(path) for key, path in paths.items()})


def _digest_image(path: Path) -> list[str]:
    """Hash a file, and what its header names as the file of its voxels."""
    files = [path]
    if path.suffix.lower() in HEADERS and path.is_file():
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
        beside = sorted(path.parent.iterdir())
        files += [p for p in beside if p != path and os.fsencode(p.name) in head]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]
