"""Read a configuration file and list every item of it, as both the gate and MONAI see them."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser, ReferenceResolver

__all__ = [
    "CONFIG_SUFFIXES",
    "Item",
    "find_macro_file",
    "is_named_like_a_file",
    "iterate_items",
    "read_config",
]

CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
MOST_ITEMS = 20_000
"""YAML's aliases let a short file stand for more items than any computer can visit."""


class Item(NamedTuple):
    """One value of a configuration.

    Attributes:
        id: Where it stands, such as ``network#weights``.
        key: The last part of the id, also where the file itself wrote a longer one.
        value: As it was read.
        written: The key as the file wrote it; a number in a list.
    """

    id: str
    key: str
    value: Any
    written: Any


def read_config(path: Path) -> Any:
    """Read a JSON or YAML file, and refuse one with a key that is there twice.

    Returns:
        An object or a list.

    Raises:
        ValueError: If it cannot be read; the message begins with the kind of error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # MONAI only warns of keys that are there twice
            config = ConfigParser.load_config_file(path)
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(config, dict | list):
        raise ValueError(f"NoObject: must be an object or a list, is {type(config).__name__}")
    return config


def iterate_items(config: Any) -> Iterator[Item]:
    """Walk through everything in a configuration, containers included.

    Raises:
        ValueError: If there are more items than a configuration can need.
        RecursionError: If it is nested too deeply, or holds itself.
    """
    for count, item in enumerate(_iterate(config, "")):
        if count >= MOST_ITEMS:
            raise ValueError(f"TooMany: more than {MOST_ITEMS} items")
        yield item


def find_macro_file(text: str, id: str) -> str:
    """Tell which file a text would make MONAI read, once relative ids are resolved.

    Args:
        text: Of a configuration.
        id: Where it stands: relative ids such as ``%#a`` become longer by what this says.

    Returns:
        The file; empty if the text is no macro, or one of the same configuration.

    Raises:
        ValueError: If a relative id leads out of the configuration.
    """
    place = ReferenceResolver.normalize_id(id.removeprefix("+"))
    resolved = ConfigParser.resolve_relative_ids(place, text)
    return ConfigParser.split_path_id(resolved[1:])[0] if resolved.startswith("%") else ""


def is_named_like_a_file(key: Any) -> bool:
    """Whether a key could become part of a macro's file name: ``%#a`` below ``b.json``."""
    return isinstance(key, str) and re.search(r"\.(json|ya?ml)(#|::|\s|$)", key, re.I) is not None


def _iterate(config: Any, id: str) -> Iterator[Item]:
    pairs = config.items() if isinstance(config, dict) else enumerate(config)
    for name, value in pairs:
        here = f"{id}#{name}" if id else str(name)
        yield Item(here, re.split(r"#|::", here)[-1].removeprefix("+"), value, name)
        if isinstance(value, (dict, list)):
            yield from _iterate(value, here)
