"""Files: kinds that hold data, weights that load without running code, logging that only logs."""

import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from grata_monai.bundle.lint.finding import Finding

__all__ = ["CONFIG_SUFFIXES", "check_file"]

CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
TEXT_SUFFIXES = (*CONFIG_SUFFIXES, ".conf", ".md", ".rst", ".sha256", ".txt")
TEXT_NAMES = ("LICENSE", "NOTICE")
PICTURE_SUFFIXES = (".jpeg", ".jpg", ".png")
WEIGHTS_SUFFIXES = (".pt", ".pth")
STREAM_ARGUMENTS = ("()", "(sys.stderr,)", "(sys.stdout,)")
FORBIDDEN_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def check_file(path: Path, name: str) -> Iterator[Finding]:
    """Check one file by what it is; configurations are looked into elsewhere.

    Args:
        path: The file.
        name: Its path in the bundle.

    Yields:
        What is wrong with it.
    """
    suffix = path.suffix.lower()
    if path.is_symlink() or not path.is_file():
        problem = "It is a symbolic link." if path.is_symlink() else "It is no regular file."
        yield Finding(name, "", "path", problem, "Put the file itself there.")
    elif suffix in WEIGHTS_SUFFIXES:
        yield from _check_weights(path, name)
    elif suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES:
        yield from _check_text(path, name)
        if suffix == ".conf":
            yield from _check_logging(path, name)
    elif suffix not in PICTURE_SUFFIXES:
        kinds = ", ".join((*TEXT_SUFFIXES, *WEIGHTS_SUFFIXES, *PICTURE_SUFFIXES, *TEXT_NAMES))
        yield Finding(
            name,
            "",
            "kind",
            "It is of a kind that a bundle of data alone does not need.",
            f"Remove it; code belongs into an installed package. Allowed are {kinds}.",
        )


def _check_text(path: Path, name: str) -> Iterator[Finding]:
    content = path.read_bytes()
    is_text = b"\0" not in content
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        yield Finding(name, "", "kind", "It is no UTF-8 text.", "Replace or remove it.")
    elif content.startswith(b"#!"):
        yield Finding(name, "", "kind", "It is a script.", "Remove it.")


def _check_weights(path: Path, name: str) -> Iterator[Finding]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        found = FORBIDDEN_GLOBAL.search(str(error))
        why = f"they ask for {found[1]}" if found else type(error).__name__
        problem = f"The weights do not load with weights_only=True: {why}."
        yield Finding(
            name, "", "weights", problem, "Save torch.save(network.state_dict(), path) alone."
        )
        return
    if not isinstance(state, dict):
        problem = f"The weights are no state dict, but {type(state).__name__}."
        yield Finding(name, "", "weights", problem, "Save network.state_dict() alone.")


def _check_logging(path: Path, name: str) -> Iterator[Finding]:
    """Allow handlers that write to a stream; `logging.config` evaluates what stands here."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        problem = f"The logging configuration cannot be read: {type(error).__name__}."
        yield Finding(name, "", "logging", problem, "Correct or remove it.")
        return
    for section in parser.sections():
        for key, value in parser[section].items():
            is_harmless = {
                "class": section.startswith("handler_") and value == "StreamHandler",
                "args": "".join(value.split()) in STREAM_ARGUMENTS,
                "kwargs": False,
            }.get(key, True)
            if not is_harmless:
                problem = f"{key} is {value!r}, which Python evaluates."
                remedy = f"Use StreamHandler with one of {', '.join(STREAM_ARGUMENTS)}."
                yield Finding(name, f"{section}#{key}", "logging", problem, remedy)
