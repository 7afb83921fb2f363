"""Configurations: what each item of them calls, evaluates, names or points to; nothing is run.

Every JSON and YAML file of a bundle counts, metadata too: MONAI parses them together, and any of
them can be merged into any other.
"""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser

from grata_monai.bundle.lint.expressions import expression_problems
from grata_monai.bundle.lint.finding import Finding
from grata_monai.bundle.lint.paths import path_problem
from grata_monai.bundle.lint.targets import READERS, WRITERS

__all__ = ["Item", "check_config", "iterate_items", "read_config"]

LOOKED_UP = {
    "_mode_": frozenset({"default", "callable"}),
    "reader": READERS,
    "writer": WRITERS,
}
"""Keys whose text MONAI looks up as Python, or that start its debugger, with what is harmless.

The bundle's own part `writer` is no text but a component, whose ``_target_`` is checked.
"""
SWITCHES = {"_debug_": False, "allow_pickle": False, "pretrained": False, "weights_only": True}
"""Keys that would open a door, and the one value that keeps it shut."""
PROSE = ("_desc_",)


class Item(NamedTuple):
    """One value of a configuration.

    Attributes:
        id: Where it stands, such as ``network#weights``.
        key: The last part of the id, also where the file itself wrote a longer one.
        value: As it was read.
    """

    id: str
    key: str
    value: Any


def read_config(path: Path) -> Any:
    """Read a JSON or YAML file, and refuse one with a key that is there twice.

    Raises:
        ValueError: If it cannot be read; the message begins with the kind of error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # MONAI only warns of keys that are there twice
            return ConfigParser.load_config_file(path)
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def iterate_items(config: Any, id: str = "") -> Iterator[Item]:
    """Walk through everything in a configuration, containers included."""
    pairs = config.items() if isinstance(config, dict) else enumerate(config)
    for name, value in pairs:
        here = f"{id}#{name}" if id else str(name)
        yield Item(here, re.split(r"#|::", here)[-1].removeprefix("+"), value)
        if isinstance(value, (dict, list)):
            yield from iterate_items(value, here)


def check_config(path: Path, name: str, allowed: frozenset[str]) -> Iterator[Finding]:
    """Check one configuration file.

    Args:
        path: The file.
        name: Its path in the bundle.
        allowed: By `allowed_names`.

    Yields:
        What is wrong, item by item.
    """
    try:
        config = read_config(path)
    except ValueError as error:
        yield Finding(
            name, "", "config", f"The file cannot be read: {error}.", "Correct or remove it."
        )
        return
    if not isinstance(config, dict):
        yield Finding(name, "", "config", "The file holds no object.", "Correct or remove it.")
        return
    may_cite = Path(name).name == "metadata.json"
    try:
        for item in iterate_items(config):
            for rule, problem, remedy in _check_item(item, allowed, may_cite=may_cite):
                yield Finding(name, item.id, rule, problem, remedy)
    except RecursionError:
        yield Finding(name, "", "config", "The file is nested too deeply.", "Make it flat.")


def _check_item(
    item: Item, allowed: frozenset[str], *, may_cite: bool
) -> Iterator[tuple[str, str, str]]:
    value = item.value
    if item.key == "_target_":
        if not (isinstance(value, str) and value in allowed):
            yield (
                "target",
                f"The target {_short(value)} is not in the allow-list.",
                "Use a listed one (--list-allowed), or accept it with --allow after reading its "
                "code.",
            )
    elif item.key in LOOKED_UP and not (item.key == "writer" and isinstance(value, dict)):
        choices = LOOKED_UP[item.key]
        given = value if isinstance(value, list) else [value]
        if not all(one is None or (isinstance(one, str) and one in choices) for one in given):
            names = ", ".join(sorted(choices))
            problem = f"{item.key} is {_short(value)}, which MONAI would look up as code."
            yield "target", problem, f"Write one of {names}."
    elif item.key in SWITCHES:
        if value is not SWITCHES[item.key]:
            yield "target", f"{item.key} is {_short(value)}.", "Remove it."
    elif isinstance(value, str):
        yield from _check_text(item, allowed, may_cite=may_cite)


def _check_text(
    item: Item, allowed: frozenset[str], *, may_cite: bool
) -> Iterator[tuple[str, str, str]]:
    text: str = item.value
    if text.startswith("$"):
        for problem in expression_problems(text, item.id.removeprefix("+"), allowed):
            remedy = "Write it as a component with a listed _target_, or as a plain value."
            yield "expression", f"The expression {_short(text)} {problem}.", remedy
    elif text.startswith("%"):
        if ConfigParser.split_path_id(text[1:])[0]:
            problem = f"The macro {_short(text)} reads another file."
            yield "path", problem, "Copy what it needs into this configuration."
    elif item.key not in PROSE:
        problem = path_problem(text, may_be_address=may_cite)
        if problem:
            remedy = "Put the file into the bundle and write $@bundle_root + '/folder/file'."
            yield "path", f"The text {_short(text)} {problem}.", remedy


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
