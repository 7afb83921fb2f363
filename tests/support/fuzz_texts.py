"""Fuzz what is read as JSON: records, recipes, selections, and a bundle's configuration.

Records, recipes and selections are taken, or refused by their own error. A configuration that lint
finds nothing in is evaluated as MONAI does it: code that it carries must not run.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fuzzing import Judge, Target
from monai.bundle import ConfigParser
from records import ADAPTED, KEPT

from grata_monai.adapt.recipe import RECIPES, Recipe
from grata_monai.bundle.lint.rules import check_bundle
from grata_monai.core.errors import BundleError, RecipeError, RecordError
from grata_monai.read.dicom.selection import Selection
from grata_monai.record import Record

__all__ = ["CONFIGURATIONS", "RECIPES_AS_JSON", "RECORDS", "SELECTIONS"]

TOKENS = (
    b"null",
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"[[[[",
    b'{"a":',
    b'"base": "clinical",',
    b"\xff",
    b"\\ud800",
)


def _open(read: Callable[[str], Any], *known: type[Exception]) -> Callable[[Path], Any]:
    """Make a target's `open` of a function whose result has no number that is not finite."""

    @contextmanager
    def open_texts(_: Path) -> Iterator[Judge]:
        def judge(_: str, content: bytes) -> tuple[str, str]:
            text = content.decode("utf-8", "surrogateescape")
            try:
                value = read(text)
            except known as error:
                finding = "" if len(str(error)) < 10_000 else "an endless message"
                return type(error).__name__, finding
            return "read", "" if _is_finite(value) else "a number that is not finite"

        yield judge

    return open_texts


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _read_record(text: str) -> Any:
    record = Record.from_json(text)
    if Record.from_json(record.to_json()) != record:
        raise AssertionError("a record must survive writing")
    return json.loads(record.to_json())


def _read_recipe(text: str) -> Any:
    recipe = Recipe.from_dict(_load(text))
    if Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) != recipe:
        raise AssertionError("a recipe must survive writing")
    return recipe.to_dict()


def _read_selection(text: str) -> Any:
    return vars(Selection.from_dict(_load(text)))


def _load(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:  # or a number of too many digits
        raise json.JSONDecodeError(str(error), "", 0) from error
    if not isinstance(values, dict):
        raise json.JSONDecodeError("no object", "", 0)
    return values


HIT = "grata_fuzz_hit"
CODE = f"__import__('sys').modules.setdefault('{HIT}', 1)"
HARMLESS = {
    "bundle_root": ".",
    "a": "$@b + 1",
    "b": 2,
    "c": {"_target_": "ScaleIntensityd", "keys": "image"},
    "d": "%b",
    "e": ["$@a * 2", "@c"],
}
HOSTILE = (
    {"a": f"${CODE}"},
    {"a": {"_target_": "builtins.eval", "source": CODE}},
    {"a": "%b", "b": f"${CODE}"},
    {"_requires_": f"${CODE}", "b": 1},
    {"a": {"_target_": "ScaleIntensityd", "_disabled_": f"${CODE}"}},
    {"a": f"$[i for i in [{CODE}]]", "b": "@a"},
    {"a::b": f"${CODE}", "a": {}},
)
CONFIG_TOKENS = (
    b'"$',
    b"%",
    b"@",
    b"#",
    b"::",
    b"_target_",
    CODE.encode(),
    b'"_mode_": "callable",',
)


@contextmanager
def open_configurations(folder: Path) -> Iterator[Judge]:
    """Lint a bundle whose one configuration is changed; then evaluate what passes."""
    (folder / "configs").mkdir()
    path = folder / "configs" / "inference.json"

    def judge(_: str, content: bytes) -> tuple[str, str]:
        path.write_bytes(content)
        try:
            found = check_bundle(folder)
        except BundleError as error:
            return type(error).__name__, ""
        mine = [f for f in found if f.file == "configs/inference.json" and f.rule != "manifest"]
        if mine:
            return "refused", ""
        try:
            _evaluate(path)
        finally:
            has_run = sys.modules.pop(HIT, None) is not None
        return "clean", "code of a bundle without findings runs" if has_run else ""

    yield judge


def _evaluate(path: Path) -> None:
    """Do what MONAI does with a configuration, whatever comes of it."""
    with suppress(Exception):
        parser = ConfigParser()
        parser.read_config(str(path))
        parser.parse()
        for key in parser.get():
            with suppress(Exception):
                parser.get_parsed_content(key)


def _as_json(*values: Any) -> dict[str, bytes]:
    return {str(n): json.dumps(value).encode() for n, value in enumerate(values)}


RECORDS = Target(
    {"adapted": ADAPTED.to_json().encode(), "kept": KEPT.to_json().encode()},
    _open(_read_record, RecordError),
    TOKENS,
)
RECIPES_AS_JSON = Target(
    _as_json({"base": "clinical", "steps": 2}, *(r.to_dict() for r in RECIPES.values())),
    _open(_read_recipe, RecipeError, json.JSONDecodeError),
    TOKENS,
)
SELECTIONS = Target(
    _as_json({"modality": ["MR"], "description": "t2.*tra", "minimum_slices": 10}),
    _open(_read_selection, TypeError, ValueError),
    TOKENS,
)
CONFIGURATIONS = Target(
    _as_json(HARMLESS, *({**HARMLESS, **each} for each in HOSTILE)),
    open_configurations,
    CONFIG_TOKENS,
)
