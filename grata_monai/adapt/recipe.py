"""A recipe is data: every setting of one adaptation, frozen, validated, printable, hashable.

In memory a recipe has parts: the method's steps, the multi-scale prediction, the guard. As JSON it
is flat, one field beside the other; `to_dict` and `from_dict` translate.
"""

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Any, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from grata_monai.adapt.settings import GuardSettings, Multiscale, Steps, check, check_names
from grata_monai.adapt.views import Scale, parse_view
from grata_monai.core.errors import RecipeError

__all__ = ["CLINICAL", "PAPER", "RECIPES", "SOURCE", "VIEWS", "Recipe", "resolve_recipe"]

_SAFETY_MARGIN = 0.01  # kept most harm out on source cases of other networks, decision 16


@dataclass(frozen=True)
class Recipe:
    """Settings of one adaptation.

    Attributes:
        name: Under which name the record mentions it.
        steps: How GraTa moves the network; other methods have settings of their own, and take from
            here how many patches they see.
        multiscale: At which magnifications the organ is predicted.
        guard: What the guard goes by.
        prediction_views: Views averaged in every prediction but the source's.
        time_limit_s: After so many seconds of adaptation the source prediction is kept; None for no
            limit. No pass through the network is cut off. Not part of the digest.
        memory: ``episodic``: every case starts at the source; ``online``: it starts where the last
            one ended.
        on_failure: ``source``: fall back to the source prediction; ``raise``.
        seed: Of the generator that draws the strong views.
    """

    name: str
    steps: Steps = field(default_factory=Steps)
    multiscale: Multiscale = field(default_factory=Multiscale)
    guard: GuardSettings = field(default_factory=GuardSettings)
    prediction_views: tuple[str, ...] = ("identity",)
    time_limit_s: int | float | None = None
    memory: str = "episodic"
    on_failure: str = "source"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field, and what must not stand beside what."""
        check_names("memory", [self.memory], ("episodic", "online"))
        check_names("on_failure", [self.on_failure], ("source", "raise"))
        views = self.prediction_views
        check("prediction_views", views, len(views) > 0, "hold at least one name")
        for view in views:
            parse_view(view)
        limit = self.time_limit_s
        is_limit = limit is None or 0 < limit < float("inf")
        check("time_limit_s", limit, is_limit, "be None or a number of seconds above 0")
        if self.multiscale.views:
            self._check_beside_multiscale()

    def _check_beside_multiscale(self) -> None:
        if self.guard.mirror_margin is not None and not self.is_mirrored:
            raise RecipeError(
                "prediction_views must be at least two beside mirror_margin, which compares them, "
                f"got {self.prediction_views}. Add 'flip:0', or set mirror_margin to None."
            )
        scales = [v for v in self.prediction_views if isinstance(parse_view(v), Scale)]
        if scales:
            raise RecipeError(
                f"prediction_views must not be scales beside focus_views, got {scales[0]!r}. "
                "Move it to focus_views."
            )
        if "input" in self.steps.parameters:
            raise RecipeError(
                "parameters must not hold 'input' beside focus_views: its field lies on the whole "
                "image. Leave one of them out."
            )

    @property
    def is_source(self) -> bool:
        """Whether the recipe asks for nothing but the source network's single pass."""
        return self.steps.count == 0 and self.steps.image_share == 0 and self.is_single_pass

    @property
    def is_single_pass(self) -> bool:
        """Whether a prediction is one pass through the whole image."""
        return self.prediction_views == ("identity",) and not self.multiscale.views

    @property
    def is_mirrored(self) -> bool:
        """Whether there are magnified views, and mirrored predictions to compare in them."""
        return bool(self.multiscale.views) and len(self.prediction_views) > 1

    @property
    def digest(self) -> str:
        """SHA-256 of the settings, as hexadecimal text."""
        settings = self.to_dict()
        del settings["time_limit_s"]  # changes nothing; if it is hit, the record's reason says so
        for name, default in (
            ("guard", True),
            ("mirror_margin", None),
            ("calibrated_for", None),
            ("organs", 4),
        ):
            if settings[name] is default:  # digests from before there was such a field stay valid
                del settings[name]
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def __hash__(self) -> int:
        """Hash by content."""
        return hash(self.digest)

    def is_calibrated(self, weights: str) -> bool | None:
        """Say whether the guard's limits were chosen for these weights.

        Args:
            weights: As `hash_weights` names them.

        Returns:
            None if there is no guard, or the recipe does not say for which weights they were.
        """
        known = self.guard.calibrated_for
        if not (self.multiscale.views and self.guard.is_binding) or known is None:
            return None
        return known == weights

    def with_safety_margin(self, weights: str) -> "Recipe":
        """Make the guard careful on weights for which its limits were not chosen.

        Magnified views that help one network may harm another, however consistent they are. Until
        somebody has calibrated, the source is kept unless they make the network surer: the margin
        between mirrored predictions is at least .01.

        Args:
            weights: As `hash_weights` names them.

        Returns:
            This recipe, or one with a margin.
        """
        if self.is_calibrated(weights) is not False or not self.is_mirrored:
            return self
        margin = self.guard.mirror_margin
        return self.changed(
            mirror_margin=_SAFETY_MARGIN if margin is None else max(margin, _SAFETY_MARGIN)
        )

    def without_limits(self) -> "Recipe":
        """Let the guard refuse nothing by its own limits, where predicted quality decides."""
        if not (self.multiscale.views and self.guard.is_binding):
            return self
        return self.changed(source_below=0.0, mirror_margin=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, flat."""
        return {name: _plain(value) for name, value in _flatten(self)}

    def changed(self, **settings: Any) -> "Recipe":
        """Return this recipe with some settings replaced.

        Args:
            **settings: Fields as JSON names them; lists count as tuples.

        Returns:
            The new recipe.

        Raises:
            RecipeError: If a field does not exist or its value breaks its rule.
        """
        check_names("recipe fields", list(settings), _names())
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()}
        changed: Recipe = _replace(self, values)
        return changed

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Recipe":
        """Build a recipe from plain values.

        Args:
            settings: Fields by name. ``base`` names a recipe whose other fields are taken over. A
                `mirror_margin` holds on any network, unless `calibrated_for` stands beside it.

        Returns:
            The recipe.

        Raises:
            RecipeError: If a field does not exist or its value breaks its rule.
        """
        values = dict(settings)
        base = values.pop("base", None)
        check_names("recipe fields", list(values), [*_names(), "base"])
        if base is None:
            return cls("custom").changed(**values)
        check_names("base", [base], RECIPES)
        if "mirror_margin" in values:
            values.setdefault("calibrated_for", None)
        return RECIPES[base].changed(**({"name": f"{base}, changed"} | values))


def resolve_recipe(recipe: "str | Mapping[str, Any] | Recipe") -> Recipe:
    """Turn a recipe's name, a dictionary or a recipe into a recipe.

    Raises:
        RecipeError: If the name is unknown or a setting is wrong.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str):
        check_names("recipe", [recipe], RECIPES)
        return RECIPES[recipe]
    return Recipe.from_dict(recipe)


def _name(of: "Field[Any]") -> str:
    return str(of.metadata.get("name", of.name))


def _flatten(part: Any) -> Iterator[tuple[str, Any]]:
    """Names as JSON has them, and values, part by part."""
    for of in fields(part):
        value = getattr(part, of.name)
        if is_dataclass(value):
            yield from _flatten(value)
        else:
            yield _name(of), value


@cache
def _names() -> tuple[str, ...]:
    return tuple(name for name, _ in _flatten(Recipe("")))


def _replace(part: Any, values: Mapping[str, Any]) -> Any:
    """Replace fields of a part and of its parts, named as in JSON."""
    changes = {}
    for of in fields(part):
        value = getattr(part, of.name)
        if is_dataclass(value):
            changes[of.name] = _replace(value, values)
        elif _name(of) in values:
            changes[of.name] = values[_name(of)]
    _check_types(part, changes)
    return replace(part, **changes)


def _check_types(part: Any, values: Mapping[str, Any]) -> None:
    """Refuse a value of another type than its field has; other rules are the classes' own."""
    for of in fields(part):
        if of.name not in values or is_dataclass(values[of.name]):
            continue
        try:
            _adapter(cast(Hashable, of.type)).validate_python(values[of.name], strict=True)
        except ValidationError:
            raise RecipeError(
                f"{_name(of)} must be of the type {_say(of.type)}, and finite, got "
                f"{values[of.name]!r}. Write it as the page on recipes shows."
            ) from None


@cache
def _adapter(kind: Any) -> Any:  # TypeAdapter, which beartype cannot check
    return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False))


def _say(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {key: _plain(v) for key, v in value.items()} if isinstance(value, Mapping) else value


PAPER = Recipe(
    name="paper",
    steps=Steps(
        image_share=1.0,
        auxiliary_loss="entropy_half",
        pseudo_loss="consistency",
        weak_views=("identity", "flip:0", "flip:1", "turn90:0,1", "turn180:0,1", "turn270:0,1"),
        strong_view="paper",
    ),
)
"""GraTa as published and as the authors' code runs it (Chen et al., AAAI 2025), case by case."""

CLINICAL = Recipe(
    name="clinical",
    steps=Steps(
        auxiliary_loss="entropy",
        pseudo_loss="consistency+soft_dice",
        weak_views=("identity", "flip:0"),
        strong_view="mild",
        is_dynamic=False,
        base_rate=3e-3,
        count=5,
    ),
    multiscale=Multiscale(
        views=("scale:0.75:0,1", "identity", "scale:1.33:0,1", "scale:2:0,1"),
        search_views=("scale:0.6:0,1", "scale:1.6:0,1"),
    ),
    guard=GuardSettings(
        source_below=0.73,
        red_below=0.86,
        calibrated_for="3fa83a2764a18eeecc3cd7023e29463ba5879b7e93fbcc385e276768f0bc92ec",
    ),
    prediction_views=("identity", "flip:0"),
)
"""Our default for a case: the organ at four magnifications, five aligned steps, and the guard."""

VIEWS = CLINICAL.changed(name="views", steps=0)
"""As `CLINICAL`, but without a step: a third of the time, and most of the gain."""

SOURCE = Recipe(name="source", steps=Steps(count=0))
"""No adaptation at all: the source network's prediction, with its record."""

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (PAPER, CLINICAL, VIEWS, SOURCE)}
"""The named recipes."""
