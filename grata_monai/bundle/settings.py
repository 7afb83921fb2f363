"""Settings from a command line: ``ID=VALUE`` becomes an id of the configuration and its value."""

import json
from collections.abc import Sequence
from typing import Any

from fire.parser import DefaultParseValue

__all__ = ["parse_settings"]


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Read settings as they were typed.

    Args:
        texts: ``ID=VALUE`` each. A value is JSON, or else what `python -m monai.bundle run` makes
            of it: a number, list or dictionary in Python's notation, or text.

    Returns:
        For `open_bundle`; of an id that was given twice, the last value.

    Raises:
        ValueError: If a text has no id or no value.
    """
    settings = {}
    for text in texts:
        id, sign, value = text.partition("=")
        if not sign or not id:
            raise ValueError(f"--set must be ID=VALUE, got {text!r}. Write --set recipe=source.")
        try:
            settings[id] = json.loads(value)
        except json.JSONDecodeError:
            settings[id] = DefaultParseValue(value)
    return settings
