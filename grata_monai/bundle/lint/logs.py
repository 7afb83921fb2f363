"""Logging configurations: only what writes to the terminal, by a list of keys that may stand there.

`logging.config` evaluates several of them as Python, and each version of Python some more.
"""

import configparser
import re
from collections.abc import Iterator

from grata_monai.bundle.lint.finding import Finding

__all__ = ["check_logging"]

SIMPLE = re.compile(r"[\w.,: -]*")
WIDE = re.compile(r"\d{4}")
"""A width in a format that pads each line to as much memory as it says."""
STREAM_ARGUMENTS = ("()", "(sys.stderr,)", "(sys.stdout,)")
KEYS = {
    "loggers": ("keys",),
    "handlers": ("keys",),
    "formatters": ("keys",),
    "logger": ("level", "handlers", "qualname", "propagate"),
    "handler": ("class", "level", "formatter", "args"),
    "formatter": ("format", "datefmt"),
}
"""First word of a section to the keys that may stand in it."""


def check_logging(text: str, name: str) -> Iterator[Finding]:
    """Check a logging configuration.

    Args:
        text: What the file holds.
        name: Its path in the bundle.

    Yields:
        Every key that is not listed, or whose value is more than a name.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        problem = f"The logging configuration cannot be read: {type(error).__name__}."
        yield Finding(name, "", "logging", problem, "Correct or remove it.")
        return
    for key, value in parser.defaults().items():
        problem = f"{key} is {value!r}, for every section."
        yield Finding(name, f"{parser.default_section}#{key}", "logging", problem, "Remove it.")
    for section in parser.sections():
        for key, value in parser[section].items():
            if key not in parser.defaults() and not _is_harmless(section, key, value):
                problem = f"{key} is {value!r}, which Python may evaluate."
                remedy = f"Use StreamHandler with one of {', '.join(STREAM_ARGUMENTS)}."
                yield Finding(name, f"{section}#{key}", "logging", problem, remedy)


def _is_harmless(section: str, key: str, value: str) -> bool:
    kind = section.split("_", maxsplit=1)[0]
    if key not in KEYS.get(kind, ()) or (kind == section) != (key == "keys"):
        return False
    if key == "class":
        return value == "StreamHandler"
    if key == "args":
        return "".join(value.split()) in STREAM_ARGUMENTS
    if key in ("format", "datefmt"):
        return WIDE.search(value) is None
    return SIMPLE.fullmatch(value) is not None
