"""Settings of a bundle: read from a command line, and checked before they are made.

An id that nothing reads would change nothing, in silence.
"""

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigComponent, ReferenceResolver

from grata_monai.core.errors import RecipeError, SettingError

__all__ = ["check_setting", "parse_settings", "read_recipe", "suggest"]

FOUND_OUT = ("bundle_root", "unverified", "verified")
"""What `open_bundle` finds out by itself."""


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Read settings as they were typed.

    Args:
        texts: ``ID=VALUE`` each. A value is JSON, or else what `python -m monai.bundle run` makes
            of it: a number, list or dictionary in Python's notation, or text.

    Returns:
        For `open_bundle`; of an id that was given twice, the last value.

    Raises:
        ValueError: If a text has no id or no value.
    """
    settings = {}
    for text in texts:
        id, sign, value = text.partition("=")
        if not sign or not id:
            raise ValueError(f"--set must be ID=VALUE, got {text!r}. Write --set recipe=source.")
        try:
            settings[id] = json.loads(value)
        except json.JSONDecodeError:
            settings[id] = DefaultParseValue(value)
    return settings


def read_recipe(recipe: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Read what ``--recipe`` names.

    Args:
        recipe: A recipe's name or settings; or a ``.json`` file of settings, or one that
            ``calibrate`` wrote, which also names a source profile.

    Returns:
        Settings for a configuration: ``recipe``, and ``profile`` if the file names one.

    Raises:
        RecipeError: If the file cannot be read, or holds something else.
    """
    if recipe is None:
        return {}
    if not (isinstance(recipe, str) and recipe.endswith(".json")):
        return {"recipe": recipe}
    try:
        found = json.loads(Path(recipe).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"recipe must be a name or a readable JSON file, {Path(recipe).name!r} is not "
            f"({type(error).__name__}). Check the path and its syntax."
        ) from error
    if not isinstance(found, dict) or not found:
        raise RecipeError(
            f"recipe must be a name or a file of settings, {Path(recipe).name!r} holds none. "
            "Take the file that calibrate wrote."
        )
    if not found.keys() & {"recipe", "profile"}:
        return {"recipe": found}
    return {key: found[key] for key in ("recipe", "profile") if key in found}


def check_setting(
    id: str, config: Mapping[str, Any], *, found_out: Iterable[str] = FOUND_OUT
) -> None:
    """Refuse an id that does not exist, or that is no setting.

    Args:
        id: Of the configuration; ``a#b`` is a part of ``a``. The last part may be new: one more
            argument, if what is built there takes it.
        config: As it was read.
        found_out: Ids that are found out and may not be set.

    Raises:
        SettingError: If so; the message names the nearest that exists.
    """
    keys = ReferenceResolver.split_id(id)
    if keys[0] in found_out:
        raise SettingError(
            f"a setting must not be {id!r}, which `open_bundle` finds out. "
            "Its arguments are `root` and `unverified`."
        )
    place: Any = config
    for depth, key in enumerate(keys):
        if isinstance(place, dict) and key in place:
            place = place[key]
        elif isinstance(place, list) and key.isdecimal() and int(key) < len(place):
            place = place[int(key)]
        elif depth and isinstance(place, dict) and key == keys[-1] and _takes(place, key):
            return
        else:
            raise SettingError(
                f"a setting must be an id of the configuration, got {id!r}. {suggest(key, place)}"
            )


def suggest(key: str, place: Any) -> str:
    """Say, as a sentence, what was probably meant.

    Args:
        key: That is not there.
        place: A part of a configuration.
    """
    names = {*place} - {*FOUND_OUT, "_meta_"} if isinstance(place, dict) else set()
    if isinstance(place, dict) and "_target_" in place:
        names = (names | {*_arguments(place)}) - ConfigComponent.non_arg_keys
    known = sorted(names)
    near = get_close_matches(key, known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Use one of {', '.join(known)}." if known else f"There is nothing called {key!r} there."


def _takes(component: Mapping[str, Any], key: str) -> bool:
    """Whether a component takes an argument; a plain dictionary may have any key."""
    if "_target_" not in component or key in ConfigComponent.non_arg_keys:
        return True
    arguments = _arguments(component)
    return key in arguments or "**" in arguments


def _arguments(component: Mapping[str, Any]) -> set[str]:
    """Names of what a component's target takes; ``**`` if that is anything, or not known."""
    try:
        target: Any = locate(str(ConfigComponent(component).resolve_module_name()))
        parameters = inspect.signature(target).parameters.values()
    except (ErrorDuringImport, TypeError, ValueError):
        return {"**"}
    return {"**" if one.kind is one.VAR_KEYWORD else one.name for one in parameters}
