"""Files: known by what they hold, not by their ending; weights that load without running code."""

import json
import pickletools
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from grata_monai.bundle.items import CONFIG_SUFFIXES
from grata_monai.bundle.lint.finding import Finding
from grata_monai.bundle.lint.logs import check_logging

__all__ = ["check_file"]

TEXT_SUFFIXES = (*CONFIG_SUFFIXES, ".conf", ".md", ".rst", ".sha256", ".txt")
TEXT_NAMES = ("LICENSE", "NOTICE")
JPEG = (b"\xff\xd8\xff", b"\xff\xd9")
PICTURES = {
    ".jpeg": JPEG,
    ".jpg": JPEG,
    ".png": (b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"),
}
"""How such a file begins and ends; what is added behind a picture is no picture."""
WEIGHTS_SUFFIXES = (".pt", ".pth")
LOGGING = re.compile(r"^\s*\[(loggers|handlers|formatters|(logger|handler|formatter)_\w+)\]", re.M)
CONFIGURATION = re.compile(r"[\"']?_target_[\"']?\s*:")
CODE_OF_PICKLES = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "REDUCE", "BUILD"}
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
    elif suffix in PICTURES:
        yield from _check_picture(path, name)
    else:
        kinds = ", ".join((*TEXT_SUFFIXES, *WEIGHTS_SUFFIXES, *PICTURES, *TEXT_NAMES))
        yield Finding(
            name,
            "",
            "kind",
            "It is of a kind that a bundle of data alone does not need.",
            f"Remove it; code belongs into an installed package. Allowed are {kinds}.",
        )


def _check_text(path: Path, name: str) -> Iterator[Finding]:
    content = path.read_bytes()
    try:
        text = "" if b"\0" in content else content.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if content and not text:
        yield Finding(name, "", "kind", "It is no UTF-8 text.", "Replace or remove it.")
    elif content.startswith(b"#!"):
        yield Finding(name, "", "kind", "It is a script.", "Remove it.")
    elif _is_pickle(content):
        yield Finding(name, "", "kind", "It is a pickle, which is code.", "Remove it.")
    elif path.suffix.lower() == ".conf" or LOGGING.search(text):
        yield from check_logging(text, name)
    elif path.suffix.lower() not in CONFIG_SUFFIXES and _is_configuration(text):
        problem = "It is a configuration under another ending, so that nobody looks into it."
        yield Finding(name, "", "kind", problem, "Name it .json or .yaml, or remove it.")


def _is_pickle(content: bytes) -> bool:
    """Whether the content, to its end or to a stop sign, is a pickle that names code."""
    found = set()
    try:
        for operation, _, _ in pickletools.genops(content):
            found.add(operation.name)
    except Exception:  # whatever the reader of another format raises
        return False
    return bool(found & CODE_OF_PICKLES)


def _is_configuration(text: str) -> bool:
    try:
        is_json = isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        is_json = False
    return is_json or any(CONFIGURATION.match(line.strip(" -{")) for line in text.splitlines())


def _check_picture(path: Path, name: str) -> Iterator[Finding]:
    begin, end = PICTURES[path.suffix.lower()]
    content = path.read_bytes()
    if not (content.startswith(begin) and content.endswith(end)):
        problem = "It is no such picture, or has something behind it."
        yield Finding(name, "", "kind", problem, "Save the picture anew, or remove it.")


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
