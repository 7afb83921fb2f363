"""Parse a ``$`` expression into the syntax tree of the very text that MONAI hands to ``eval``."""

import ast

from monai.bundle import ConfigParser, ReferenceResolver

__all__ = ["dotted", "parse_expression", "reference"]

REFERENCES = "__local_refs"  # what MONAI calls them in the text that it evaluates


def parse_expression(text: str, id: str) -> list[ast.stmt]:
    """Replace references exactly as MONAI does, whatever their targets may be, and parse.

    Args:
        text: As it stands in the configuration, with its ``$``.
        id: Of the item; relative references start there.

    Returns:
        The statements; none if it is no Python.
    """
    try:
        absolute = ConfigParser.resolve_relative_ids(ReferenceResolver.normalize_id(id), text)
        found = ReferenceResolver.match_refs_pattern(absolute)
        return ast.parse(str(ReferenceResolver.update_refs_pattern(absolute, found))[1:]).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def reference(node: ast.AST) -> str:
    """Give the id that a node refers to; empty if it is no reference."""
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == REFERENCES
        and isinstance(node.slice, ast.Constant)
    ):
        return str(node.slice.value)
    return ""


def dotted(node: ast.AST) -> str:
    """Spell a chain of names, ``a.b.c``; empty if it begins with anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""
