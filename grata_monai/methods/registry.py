"""Every method by its name, and the systems that experiments compare.

A system is a method with the recipe that it runs under. GraTa's variants are one method under
different recipes; its peers run as published, without multi-scale prediction and without a guard.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from grata_monai.adapt.method import Method
from grata_monai.adapt.recipe import CLINICAL, PAPER, Recipe
from grata_monai.core.errors import RecipeError
from grata_monai.methods.ablations import FAMILIES
from grata_monai.methods.grata import GraTaMethod

__all__ = ["METHODS", "SYSTEMS", "System", "grata_system", "make_systems", "resolve_method"]

_CLASSES = (
    "source.Source",
    "mirror.Mirror",
    "n4.N4",
    "prediction_time_bn.PredictionTimeBN",
    "dua.DUA",
    "diga.DIGA",
    "domain_adaptor.DomainAdaptor",
    "medbn.MedBN",
    "intent.InTEnt",
    "tent.Tent",
    "sar.SAR",
    "dltta.DLTTA",
    "cotta.CoTTA",
    "ttt.TTT",
    "tipi.TIPI",
    "student.TeST",
    "shape_moments.ShapeMoments",
    "detta.DeTTA",
    "memo.MEMO",
    "affine_consistency.AffineConsistency",
    "grata.GraTaMethod",
)
"""Module and class of every method; a new one is one more line."""


def _load(path: str) -> type[Method]:
    module, name = path.split(".")
    found: type[Method] = getattr(import_module(f"grata_monai.methods.{module}"), name)
    return found


METHODS: Mapping[str, Callable[[], Method]] = {made.name: made for made in map(_load, _CLASSES)}
"""Name to what makes the method with its published settings."""

VARIANTS: Mapping[str, tuple[Recipe, bool]] = {
    "grata-paper": (PAPER, True),
    "grata-paper-episodic": (PAPER, False),
    "grata-views": (CLINICAL.changed(name="clinical, no step", steps=0), False),
    "grata-clinical": (CLINICAL, False),
}
"""GraTa's variants: name to recipe, and whether its state goes on from case to case."""


@dataclass(frozen=True)
class System:
    """A method and what it runs under.

    Attributes:
        method: What adapts.
        recipe: With multi-scale prediction and guard; None runs the method as published, without
            either.
    """

    method: Method
    recipe: Recipe | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides what it does, for rows of results."""
        return dict(self.method.settings) if self.recipe is None else self.recipe.to_dict()


def grata_system(recipe: Recipe, *, is_online: bool = False) -> System:
    """Make GraTa under a recipe, its steps and all.

    Args:
        recipe: Every setting but `memory` and `seed`, which experiments set.
        is_online: Whether one state serves all cases, as published.
    """
    return System(GraTaMethod(recipe.steps, is_online), recipe)


def _peer(make: Callable[[], Method]) -> System:
    return System(make())


SYSTEMS: Mapping[str, Callable[[], System]] = {
    **{name: partial(_peer, made) for name, made in METHODS.items() if made is not GraTaMethod},
    **{
        name: partial(grata_system, recipe, is_online=is_online)
        for name, (recipe, is_online) in VARIANTS.items()
    },
}
"""Name to what makes the system."""


def make_systems(names: Iterable[str] = ()) -> dict[str, System]:
    """Make systems with their published settings.

    Args:
        names: Which ones; all but the families of `FAMILIES` if empty; a family's name stands for
            all of its systems. The source network is always among them, as the first.

    Returns:
        Name to system.

    Raises:
        RecipeError: If there is no such system.
    """
    known: dict[str, Callable[[], System]] = {
        **SYSTEMS,
        **{
            name: partial(grata_system, recipe, is_online=family == "objectives")
            for family, recipes in FAMILIES.items()
            for name, recipe in recipes.items()
        },
    }
    chosen: dict[str, None] = {"source": None}
    for name in list(names) or SYSTEMS:
        if name not in FAMILIES:
            _check(name, known)
        chosen |= dict.fromkeys(FAMILIES.get(name, (name,)))
    return {name: known[name]() for name in chosen}


def resolve_method(method: str | Method, recipe: Recipe) -> Method:
    """Turn a method's name into the method.

    Args:
        method: A method, or its name: ``grata`` steps as the recipe says, a variant as its own.
        recipe: Of the case.

    Returns:
        The method.

    Raises:
        RecipeError: If there is no such method.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str):
        raise RecipeError(f"method must be a name or a Method, got {method!r}. Write 'grata'.")
    if method == GraTaMethod.name:
        return GraTaMethod(recipe.steps)
    if method in VARIANTS:
        return GraTaMethod(VARIANTS[method][0].steps)
    _check(method, [*METHODS, *VARIANTS], what="method")
    return METHODS[method]()


def _check(name: str, known: Iterable[str], what: str = "methods") -> None:
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Leave it out."
        raise RecipeError(f"{what} must be among {', '.join(names)}, got {name!r}. {hint}")
