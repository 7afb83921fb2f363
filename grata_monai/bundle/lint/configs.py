"""Configurations: what each item of them calls, evaluates, names or points to; nothing is run.

Every JSON and YAML file of a bundle counts, metadata too: MONAI parses them together, and any of
them can be merged into any other.
"""

import re
from collections.abc import Iterator
from datetime import date
from typing import Any

from grata_monai.bundle.authority import Known, authority_problem
from grata_monai.bundle.items import (
    Item,
    find_macro_file,
    is_named_like_a_file,
    iterate_items,
)
from grata_monai.bundle.lint.expressions import expression_problems
from grata_monai.bundle.lint.finding import Finding
from grata_monai.bundle.lint.paths import path_problem
from grata_monai.bundle.lint.targets import READERS, WRITERS
from grata_monai.bundle.verify import METADATA
from grata_monai.core.patterns import check_pattern

__all__ = ["check_config"]

LOOKED_UP = {
    "_mode_": frozenset({"default", "callable"}),
    "reader": READERS,
    "writer": WRITERS,
}
"""Keys whose text MONAI looks up as Python, or that start its debugger, with what is harmless.

The bundle's own part `writer` is no text but a component, whose ``_target_`` is checked.
"""
SWITCHES = {
    "_debug_": False,
    "allow_pickle": False,
    "compile": False,
    "pretrained": False,
    "use_re": False,
    "weights_only": True,
}
"""Keys that would open a door, and the one value that keeps it shut.

`torch.compile` runs a compiler, and an argument of it names the program.
"""
KEY = re.compile(r"[\w+#:. -]*")
"""MONAI pastes keys into expressions and names of files, where a relative id stands below them."""
PLAIN = (str, bool, int, float, type(None), date, dict, list)
METADATA_ID = re.compile(r"[@%]_meta_\b")


def check_config(
    config: Any, name: str, allowed: frozenset[str], known: Known
) -> Iterator[Finding]:
    """Check one configuration file.

    Args:
        config: What it holds.
        name: Its path in the bundle.
        allowed: By `allowed_names`.
        known: By `gather`, over all configurations of the bundle.

    Yields:
        What is wrong, item by item.
    """
    if not isinstance(config, dict):
        yield Finding(name, "", "config", "The file holds no object.", "Correct or remove it.")
        return
    try:
        for item in iterate_items(config):
            for rule, problem, remedy in _check_item(
                item, allowed, known, is_metadata=name == METADATA
            ):
                yield Finding(name, item.id, rule, problem, remedy)
    except (ValueError, RecursionError):
        problem = "The file is nested too deeply, or has more items than can be looked at."
        yield Finding(name, "", "config", problem, "Make it flat, without aliases.")


def _check_item(
    item: Item, allowed: frozenset[str], known: Known, *, is_metadata: bool
) -> Iterator[tuple[str, str, str]]:
    value = item.value
    yield from _check_key(item.written)
    if not isinstance(value, PLAIN):
        yield "config", f"The value is of type {type(value).__name__}.", "Write a text or a number."
    problem = "" if is_metadata else authority_problem(item, known)
    if problem:
        remedy = "Remove it, or refer to it as @name; who runs the bundle gives it."
        yield "authority", f"{item.key} is {_short(value)}, which {problem}.", remedy
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
        yield from _check_text(item, allowed, known, is_metadata=is_metadata)


def _check_key(key: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(key, int):
        return
    if not (isinstance(key, str) and KEY.fullmatch(key)):
        problem = f"The key {_short(key)} has signs that could become code."
        yield "key", problem, "Use letters, digits, . _ - and blanks."
    elif is_named_like_a_file(key):
        problem = f"The key {_short(key)} is named like a file, which a macro below it would read."
        yield "key", problem, "Leave its ending out."
    elif path_problem(key):
        yield "key", f"The key {_short(key)} {path_problem(key)}.", "Choose another."


def _check_text(
    item: Item, allowed: frozenset[str], known: Known, *, is_metadata: bool
) -> Iterator[tuple[str, str, str]]:
    text: str = item.value
    if METADATA_ID.search(text):
        problem = f"The text {_short(text)} refers to the metadata, which may cite addresses."
        yield "path", problem, "Write the value itself."
    if text.startswith("$"):
        for problem in expression_problems(text, item.id.removeprefix("+"), allowed, known):
            remedy = "Write it as a component with a listed _target_, or as a plain value."
            yield "expression", f"The expression {_short(text)} {problem}.", remedy
    elif text.startswith("%"):
        if _reads_a_file(item):
            problem = f"The macro {_short(text)} reads another file."
            yield "path", problem, "Copy what it needs into this configuration."
    else:
        problem = path_problem(text, may_be_address=is_metadata)
        if problem:
            remedy = "Put the file into the bundle and write $@bundle_root + '/folder/file'."
            yield "path", f"The text {_short(text)} {problem}.", remedy
    if re.search(r"(^|#|::)selection(#|::)description$", item.id):
        yield from _check_pattern(text)


def _reads_a_file(item: Item) -> bool:
    try:
        return bool(find_macro_file(item.value, item.id))
    except ValueError:  # leads out of the configuration: MONAI refuses it too
        return True


def _check_pattern(text: str) -> Iterator[tuple[str, str, str]]:
    try:
        check_pattern(text)
    except ValueError as error:
        yield "pattern", f"The pattern {_short(text)}: {error}", "Write a simpler one."


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
