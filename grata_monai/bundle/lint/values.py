"""Tell what an expression may become without evaluating it: whether a text, whether a folder.

A text that is put together from harmless ones can be an address or any path, so what may be a text
is not joined with another. In doubt, it may be one.
"""

import ast
import re
from typing import Any

from grata_monai.bundle.authority import Known
from grata_monai.bundle.lint.syntax import dotted, parse_expression, reference

__all__ = ["JOIN", "is_plain_folder", "join_folder", "may_be_text"]

JOIN = "os.path.join"
DEEPEST = 10
FOLDER = re.compile(r"[\w.][\w. -]*(/[\w. -]+)*/?")
NUMBERS = ("bool", "float", "int", "len", "round")
LISTS = ("list", "sorted")
TEXTS = ("grata_monai.bundle.find_bundle_root",)
"""Listed targets that return a text."""


def may_be_text(node: ast.AST, known: Known, depth: int = 0) -> bool:
    """Whether a node of an expression may have a text as its value.

    Args:
        node: Of its syntax tree.
        known: By `gather`.
        depth: Of the references that were followed.
    """
    id = reference(node)
    if id:
        return _id_may_be_text(id, known, depth)
    if isinstance(node, ast.Call):
        return _call_may_be_text(node)
    if isinstance(node, ast.Subscript):
        return _element_may_be_text(node, known, depth)
    if isinstance(node, ast.BoolOp | ast.IfExp | ast.BinOp):
        parts = [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr)]
        return any(may_be_text(one, known, depth) for one in parts)
    return isinstance(node, ast.Name) or isinstance(getattr(node, "value", None), str)


def join_folder(node: ast.AST, known: Known) -> list[ast.expr]:
    """Take a path below a folder apart: ``@some_dir + '/name'``, or ``os.path.join(@some_dir, …)``.

    Args:
        node: Of an expression's syntax tree.
        known: By `gather`.

    Returns:
        The names below; empty if it is no such path, or the folder may be anything.
    """
    below: list[ast.expr] = []
    folder: ast.AST = node
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        right = node.right
        is_below = isinstance(right, ast.Constant) and str(right.value).startswith("/")
        folder, below = node.left, [right] if is_below else []
    elif isinstance(node, ast.Call) and dotted(node.func) == JOIN and not node.keywords:
        folder, below = (node.args or [node])[0], node.args[1:]
    is_named = reference(folder).endswith(("_dir", "_root"))
    return below if is_named and is_plain_folder(reference(folder), known) else []


def is_plain_folder(id: str, known: Known, depth: int = 0) -> bool:
    """Whether an id stands for a folder that ``/name`` may follow: neither empty nor an address.

    Args:
        id: Of a reference.
        known: By `gather`. An id that no file has is the operator's.
        depth: Of the references that were followed.
    """
    if id not in known:
        return "::" not in id
    return depth < DEEPEST and all(_is_folder(one, id, known, depth) for one in known[id])


def _is_folder(value: Any, id: str, known: Known, depth: int) -> bool:
    if not isinstance(value, str):
        return value is None or (isinstance(value, dict) and "_target_" in value)
    if value.startswith(("@", "%")):
        return is_plain_folder(value[1:].replace("#", "::"), known, depth + 1)
    if not value.startswith("$"):
        return FOLDER.fullmatch(value) is not None and ".." not in value.split("/")
    node = _only_expression(value, id)
    if node is None:
        return False
    if reference(node):
        return is_plain_folder(reference(node), known, depth + 1)
    return bool(join_folder(node, {**known, id: []}))  # without itself: a circle ends


def _only_expression(text: str, id: str) -> ast.expr | None:
    body = parse_expression(text, id)
    return body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr) else None


def _id_may_be_text(id: str, known: Known, depth: int) -> bool:
    if id not in known or depth >= DEEPEST:
        return True
    return any(_value_may_be_text(one, id, known, depth + 1) for one in known[id])


def _value_may_be_text(value: Any, id: str, known: Known, depth: int) -> bool:
    if isinstance(value, dict):
        return value.get("_target_") in TEXTS
    if not isinstance(value, str):
        return False
    if value.startswith(("@", "%")):
        return _id_may_be_text(value[1:].replace("#", "::"), known, depth)
    if value.startswith("$"):
        node = _only_expression(value, id)
        return node is None or may_be_text(node, known, depth)
    return True


def _call_may_be_text(node: ast.Call) -> bool:
    """Functions that give numbers or lists, and methods of components; ``get`` gives anything."""
    if isinstance(node.func, ast.Name):
        return node.func.id not in (*NUMBERS, *LISTS)
    if isinstance(node.func, ast.Attribute):
        return node.func.attr == "get" or dotted(node.func) == JOIN
    return True


def _element_may_be_text(node: ast.Subscript, known: Known, depth: int) -> bool:
    """An element of what a component or expression gave is not looked into: lists of cases."""
    id = reference(node.value)
    if not id or id not in known or depth >= DEEPEST:
        return True
    for value in known[id]:
        if isinstance(value, dict) and "_target_" in value:
            continue
        if isinstance(value, str) and value.startswith("$"):
            inner = _only_expression(value, id)
            if isinstance(inner, ast.Call) and not _call_may_be_text(inner):
                continue
        return True
    return False
