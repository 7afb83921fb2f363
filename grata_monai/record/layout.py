"""What each version of the record's JSON added, so that older records keep layout and digest."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["SCHEMA_VERSION", "restrict"]

_ADDED: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        1: ("verdict", "focus", "views.focus"),
        2: ("environment.bundle", "focus.found_by"),
        5: ("verdict.is_calibrated",),
        6: ("asked", "asked_sha256", "method", "steps.loss", "verdict.scores"),
        7: ("shift", "verdict.predicted", "verdict.signs"),  # and the outcome `views`
        # and `mirrored` in verdict.kept
        8: tuple(f"environment.bundle.{key}" for key in ("name", "version", "signed_by")),
        9: ("organs",),
    }
)
"""Minor version to the keys that it added. Settings that `recipe` gained need no entry."""

SCHEMA_VERSION = f"1.{max(_ADDED)}"


def restrict(content: dict[str, Any], version: str) -> dict[str, Any]:
    """Take out, in place, what a version of the layout did not have yet.

    Args:
        content: A record as plain values.
        version: As `schema_version` says it, for example ``1.4``.

    Returns:
        The content.
    """
    minor = int(version.partition(".")[2])
    for added, keys in _ADDED.items():
        if minor < added:
            for key in keys:
                _drop(content, key)
    return content


def _drop(content: Any, key: str) -> None:
    if isinstance(content, (list, tuple)):
        for item in content:
            _drop(item, key)
    if not isinstance(content, dict):
        return
    name, _, rest = key.partition(".")
    if not rest:
        content.pop(name, None)
    elif name in content:
        _drop(content[name], rest)
