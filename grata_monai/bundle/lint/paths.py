"""Texts that are paths out of the bundle, or addresses."""

import re

__all__ = ["path_problem"]

ADDRESS = re.compile(r"//|^file:")
ABSOLUTE = re.compile(r"[/\\~]|[A-Za-z]:[/\\]")


def path_problem(text: str, *, is_suffix: bool = False, may_be_address: bool = False) -> str:
    """Say why a text may not stand in a configuration.

    Args:
        text: Any; only paths and addresses can have a problem.
        is_suffix: Whether it continues a folder's path, so that it may begin with a slash.
        may_be_address: Whether addresses are allowed, as in metadata, which only cite them.

    Returns:
        The problem, to follow "a text that"; empty if there is none.
    """
    if ADDRESS.search(text) and not may_be_address:
        return "is an address"
    if ".." in re.split(r"[/\\]", text):
        return "leaves its folder with '..'"
    if ABSOLUTE.match(text) and not is_suffix:
        return "is an absolute path"
    return ""
