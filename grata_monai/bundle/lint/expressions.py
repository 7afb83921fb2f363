"""The grammar of ``$`` expressions, checked on Python's own syntax tree.

What is checked is the very text that MONAI hands to ``eval``: its references are replaced first,
by MONAI's own function. Everything that is not named here is refused; nothing is evaluated.
"""

import ast
import re
from collections.abc import Iterator

from monai.bundle import ConfigParser, ReferenceResolver

from grata_monai.bundle.authority import Known
from grata_monai.bundle.lint.paths import path_problem
from grata_monai.bundle.lint.syntax import dotted, parse_expression, reference
from grata_monai.bundle.lint.values import JOIN, join_folder, may_be_text

__all__ = ["FUNCTIONS", "expression_problems"]

FUNCTIONS = ("bool", "float", "int", "len", "list", "max", "min", "round", "sorted")
LONGEST = 200  # characters
PLAIN_ID = re.compile(r"[\w#:]*")
PLAIN = (
    ast.expr_context,
    ast.boolop,
    ast.cmpop,
    ast.Not,
    ast.USub,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.FloorDiv,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.UnaryOp,
    ast.BinOp,
    ast.List,
    ast.Tuple,
    ast.Dict,
)
"""Nodes that are allowed wherever they stand, if what they hold is."""


def expression_problems(text: str, id: str, allowed: frozenset[str], known: Known) -> list[str]:
    """Say what an expression has that the grammar does not allow.

    Args:
        text: As it stands in the configuration, with its ``$``.
        id: Of the item; relative references start there.
        allowed: By `allowed_names`.
        known: By `gather`: what references may stand for.

    Returns:
        One clause per problem, such as ``uses lambda``.
    """
    if len(text) > LONGEST:
        return [f"is longer than {LONGEST} characters"]
    if _is_relative(text) and not PLAIN_ID.fullmatch(id):
        # MONAI would paste the keys above it into the text
        return ["refers relatively from below a key with special characters"]
    body = parse_expression(text, id)
    if len(body) != 1:
        return ["is not one Python expression"]
    return _statement_problems(body[0], allowed, known)


def _statement_problems(node: ast.stmt, allowed: frozenset[str], known: Known) -> list[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return _import_problems(node, allowed)
    if not isinstance(node, ast.Expr):
        return [f"is a statement ({_kind(node)})"]
    return list(_walk(node.value, allowed, known))


def _is_relative(text: str) -> bool:
    return bool(ConfigParser.relative_id_prefix.search(ReferenceResolver.normalize_id(text)))


def _import_problems(node: ast.Import | ast.ImportFrom, allowed: frozenset[str]) -> list[str]:
    """Allow plain imports of modules that have an allowed name in them."""
    if isinstance(node, ast.ImportFrom) or len(node.names) != 1 or node.names[0].asname:
        return ["imports other than `import package.module`"]
    module = node.names[0].name
    is_known = any(name.removeprefix("$").startswith(f"{module}.") for name in allowed)
    return [] if is_known else [f"imports {module!r}, which is not in the allow-list"]


def _walk(node: ast.AST, allowed: frozenset[str], known: Known) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield from _constant(node, is_suffix=False)
    elif reference(node):
        return
    elif isinstance(node, ast.Subscript):
        yield from _walk(node.value, allowed, known)
        yield from _index(node.slice)
    elif isinstance(node, (ast.Attribute, ast.Name)):
        yield from _name(node, allowed, known)
    elif isinstance(node, ast.Call):
        yield from _call(node, allowed, known)
    elif isinstance(node, ast.BinOp) and join_folder(node, known):
        yield from _constant(node.right, is_suffix=True)
    elif isinstance(node, ast.BinOp) and may_be_text(node, known):
        yield "composes a text other than @…_dir + '/name'"
    elif isinstance(node, PLAIN):
        for child in ast.iter_child_nodes(node):
            yield from _walk(child, allowed, known)
    else:
        yield f"uses {_kind(node)}"


def _constant(node: ast.AST, *, is_suffix: bool) -> Iterator[str]:
    value = getattr(node, "value", None)
    if isinstance(value, str):
        problem = path_problem(value, is_suffix=is_suffix)
        if problem:
            yield f"has a text that {problem}"
    elif not isinstance(value, (bool, int, float, type(None))):
        yield f"has a constant of type {type(value).__name__}"


def _index(node: ast.expr) -> Iterator[str]:
    inner = node.operand if isinstance(node, ast.UnaryOp) else node
    if not (isinstance(inner, ast.Constant) and isinstance(inner.value, (int, str))):
        yield "has an index that is no constant"


def _name(node: ast.Attribute | ast.Name, allowed: frozenset[str], known: Known) -> Iterator[str]:
    """Allow a dotted name listed for expressions, or a listed attribute of what is allowed."""
    spelled = dotted(node)
    if spelled:
        if "." not in spelled or f"${spelled}" not in allowed:
            yield f"uses the name {spelled!r}, which is not in the allow-list"
    elif isinstance(node, ast.Attribute):
        if f".{node.attr}" not in allowed:
            yield f"uses the attribute {node.attr!r}, which is not in the allow-list"
        yield from _walk(node.value, allowed, known)


def _call(node: ast.Call, allowed: frozenset[str], known: Known) -> Iterator[str]:
    if isinstance(node.func, ast.Name) and node.func.id not in FUNCTIONS:
        yield f"calls {node.func.id!r}, which is not among {', '.join(FUNCTIONS)}"
    elif isinstance(node.func, ast.Name) and node.keywords:
        yield f"names an argument of {node.func.id!r}, which may be a function to call"
    elif isinstance(node.func, ast.Attribute):
        yield from _name(node.func, allowed, known)
    elif not isinstance(node.func, ast.Name):
        yield "calls something that has no name"
        yield from _walk(node.func, allowed, known)
    if dotted(node.func) == JOIN and not all(map(_is_text, join_folder(node, known) or [node])):
        yield f"composes a text other than {JOIN}(@…_dir, 'name')"
    if any(keyword.arg is None for keyword in node.keywords):
        yield "unpacks a dictionary"
    for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
        yield from _walk(argument, allowed, known)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _kind(node: ast.AST) -> str:
    return type(node).__name__.lower()
