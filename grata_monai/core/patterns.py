"""Refuse regular expressions that could backtrack for ever: some take hours for 40 characters."""

import re
import re._constants as names  # type: ignore[import-not-found]
import re._parser as grammar  # type: ignore[import-not-found]
from typing import Any

__all__ = ["check_pattern"]

LONGEST = 200  # characters
MOST_REPEATS = 3
"""Time grows with this power of the text's length, which DICOM bounds to 64 characters."""
REPEATS = (names.MAX_REPEAT, names.MIN_REPEAT)


def check_pattern(pattern: str) -> None:
    """Refuse a pattern whose time may grow without bound.

    Args:
        pattern: A regular expression. Repeats may stand side by side, three of them, but not in
            one another, around alternatives, or beside back references.

    Raises:
        ValueError: If it is no regular expression, or not one of these.
    """
    if len(pattern) > LONGEST:
        raise ValueError(f"it must have at most {LONGEST} characters, it has {len(pattern)}.")
    try:
        parsed = grammar.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"it must be a regular expression ({type(error).__name__}).") from error
    repeats = _count(parsed, is_inside=False)
    if repeats > MOST_REPEATS:
        raise ValueError(
            f"it must have at most {MOST_REPEATS} repeats such as * and +, it has {repeats}."
        )


def _count(parsed: Any, *, is_inside: bool) -> int:
    """Count repeats; refuse what makes one of them take exponential time."""
    total = 0
    for operation, argument in parsed:
        is_repeat = operation in REPEATS and argument[1] > 1
        is_branch = operation in (names.BRANCH, names.GROUPREF, names.GROUPREF_EXISTS)
        if is_inside and (is_repeat or is_branch):
            raise ValueError("a repeat must not hold repeats, alternatives or back references.")
        total += is_repeat
        for part in _parts(argument):
            total += _count(part, is_inside=is_inside or is_repeat)
    return total


def _parts(argument: Any) -> list[Any]:
    """Find the patterns that an operation holds, at any depth of its tuples and lists."""
    if isinstance(argument, grammar.SubPattern):
        return [argument]
    if isinstance(argument, tuple | list):
        return [part for one in argument for part in _parts(one)]
    return []
