"""Metadata: complete, and every version pinned."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from grata_monai.bundle.lint.finding import Finding
from grata_monai.bundle.verify import METADATA

__all__ = ["REQUIRED", "check_metadata"]

REQUIRED = (
    "schema",
    "version",
    "changelog",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "name",
    "task",
    "description",
    "authors",
    "copyright",
    "intended_use",
    "network_data_format",
)
TENSOR_KEYS = (
    "type",
    "format",
    "num_channels",
    "spatial_shape",
    "dtype",
    "value_range",
    "is_patch_data",
    "channel_def",
)
PINS = ("monai_version", "pytorch_version", "numpy_version")
EXACT = re.compile(r"\d+(\.\d+)+((a|b|rc|\.post|\.dev)\d+)?(\+[a-z0-9.]+)?")


def check_metadata(metadata: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the content of ``configs/metadata.json``.

    Yields:
        What is missing or not pinned.
    """
    for key in REQUIRED:
        if not metadata.get(key):
            yield _finding(key, f"{key} is missing or empty.", "Fill it in.")
    for id, version in _pins(metadata):
        if not (isinstance(version, str) and EXACT.fullmatch(version)):
            yield _finding(id, f"The version {version!r} is no pin.", "Write the exact version.")
    yield from _check_tensors(metadata.get("network_data_format"))


def _pins(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in PINS:
        if key in metadata:
            yield key, metadata[key]
    packages = metadata.get("required_packages_version")
    if isinstance(packages, Mapping):
        for name, version in packages.items():
            yield f"required_packages_version#{name}", version


def _check_tensors(data_format: Any) -> Iterator[Finding]:
    for direction in ("inputs", "outputs"):
        tensors = data_format.get(direction) if isinstance(data_format, Mapping) else None
        here = f"network_data_format#{direction}"
        if not isinstance(tensors, Mapping) or not tensors:
            yield _finding(here, f"The {direction} are not described.", "Describe each tensor.")
            continue
        for name, tensor in tensors.items():
            missing = [key for key in TENSOR_KEYS if key not in tensor]
            if missing:
                problem = f"The tensor has no {', '.join(missing)}."
                yield _finding(f"{here}#{name}", problem, "Add what is missing.")


def _finding(id: str, problem: str, remedy: str) -> Finding:
    return Finding(METADATA, id, "metadata", problem, remedy)
