"""A recipe is data: every setting of one adaptation, frozen, validated, printable, hashable."""

import difflib
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from grata_monai.adapt.focus import read_factors
from grata_monai.adapt.guard import Limits
from grata_monai.adapt.losses import CONSISTENCIES, ENTROPIES, HEAD_LOSSES
from grata_monai.adapt.parameters import PARAMETER_GROUPS
from grata_monai.adapt.strong import STRONG_VIEWS
from grata_monai.adapt.views import Scale, parse_view
from grata_monai.core.errors import RecipeError
from grata_monai.core.precision import PRECISIONS

__all__ = ["CLINICAL", "PAPER", "RECIPES", "SOURCE", "Recipe", "resolve_recipe"]

_CAREFUL = 0.01  # a margin that kept most harm out on source cases of other networks, decision 16


@dataclass(frozen=True)
class Recipe:
    """Settings of one adaptation.

    Attributes:
        name: Under which name the record mentions it.
        parameters: What may move, names out of `PARAMETER_GROUPS`.
        image_share: Share α of the image's own statistics in normalisation, in [0, 1].
        auxiliary_loss: The loss whose gradient perturbs: an entropy or a head's loss.
        pseudo_loss: The loss against the pseudo-label: a consistency.
        weak_views: Views whose predictions average to the pseudo-label.
        strong_view: Named intensity augmentation of the pseudo loss.
        perturbation: Length of the step along the auxiliary gradient; 0 switches it off.
        is_dynamic: Whether the cosine scales the step.
        optimizer: Class in `torch.optim`.
        optimizer_settings: Its keyword arguments except the rate.
        base_rate: Learning rate at full agreement.
        steps: Updates per case.
        min_cosine: A step whose cosine lies below is not taken and ends the adaptation; None never.
        windows: Most windows of `roi_size` that a case is adapted on.
        window_rule: Windows with the most ``foreground`` or the most ``uncertainty`` come first.
        prediction_views: Views averaged in the final prediction.
        focus_views: Magnifications at which the final prediction looks at the organ that the source
            network found: ``identity`` and scales; empty for the whole image alone. Adaptation then
            works at the magnification whose predictions agree best, and the guard compares them.
        focus_sharpness: How much agreement counts in their average, see `focus.weigh`.
        search_views: Scales of the whole image at which the organ is searched anew, if the
            magnified views agree too little: the source network may have found the wrong place.
            They count only beside `focus_views`.
        search_below: Agreement below which that happens.
        source_below: Agreement of the magnified views below which the source prediction is kept.
        mirror_margin: How much better mirrored predictions must agree in the magnified views than
            in the whole image, or the source prediction is kept; None does not compare them.
        calibrated_for: Weights for which the guard's limits were chosen, as `hash_weights` names
            them. On others the guard is careful, see `Recipe.suit`. None: they suit any network.
        red_below: Agreement below which the light is red, whatever is kept.
        amber_below: Agreement below which the light is amber.
        guard: Whether the guard chooses between the source, the views and the adapted prediction;
            if not, what adaptation made is kept, and the guard only sets the light.
        time_limit_s: After so many seconds of adaptation the source prediction is kept; None for no
            limit. No pass through the network is cut off. Not part of the digest.
        precision: Of forward and backward passes while adapting: ``fp32`` or ``bf16``.
        memory: ``episodic``: every case starts at the source; ``online``: it starts where the last
            one ended.
        on_failure: ``source``: fall back to the source prediction; ``raise``.
        seed: Of the generator that draws the strong views.
    """

    name: str
    parameters: tuple[str, ...] = ("norm",)
    image_share: float = 0.0
    auxiliary_loss: str = "entropy"
    pseudo_loss: str = "consistency"
    weak_views: tuple[str, ...] = ("identity",)
    strong_view: str = "paper"
    perturbation: float = 1.0
    is_dynamic: bool = True
    optimizer: str = "Adam"
    optimizer_settings: Mapping[str, Any] = field(default_factory=dict)
    base_rate: float = 1e-4
    steps: int = 1
    min_cosine: float | None = None
    windows: int = 2
    window_rule: str = "foreground"
    prediction_views: tuple[str, ...] = ("identity",)
    focus_views: tuple[str, ...] = ()
    focus_sharpness: float = 20.0
    search_views: tuple[str, ...] = ()
    search_below: float = 0.9
    source_below: float = 0.72
    mirror_margin: float | None = None
    calibrated_for: str | None = None
    red_below: float = 0.84
    amber_below: float = 0.93
    guard: bool = True
    time_limit_s: int | float | None = None
    precision: str = "fp32"
    memory: str = "episodic"
    on_failure: str = "source"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field before the first gradient."""
        _check_names("parameters", self.parameters, PARAMETER_GROUPS)
        _check_names("auxiliary_loss", [self.auxiliary_loss], [*ENTROPIES, *HEAD_LOSSES])
        _check_names("pseudo_loss", [self.pseudo_loss], CONSISTENCIES)
        _check_names("strong_view", [self.strong_view], STRONG_VIEWS)
        _check_names("window_rule", [self.window_rule], ("foreground", "uncertainty"))
        _check_names("precision", [self.precision], [p for p in PRECISIONS if p != "fp16"])
        _check_names("memory", [self.memory], ("episodic", "online"))
        _check_names("on_failure", [self.on_failure], ("source", "raise"))
        _check("guard", self.guard, isinstance(self.guard, bool), "be true or false")
        known = self.calibrated_for
        is_hash = known is None or bool(re.fullmatch("[0-9a-f]{64}", str(known)))
        _check("calibrated_for", known, is_hash, "be None or a SHA-256 in hexadecimal digits")
        for view in (*self.weak_views, *self.prediction_views):
            parse_view(view)
        self._check_focus()
        self._check_numbers()
        self._check_optimizer()

    def _check_numbers(self) -> None:
        _check("image_share", self.image_share, 0 <= self.image_share <= 1, "lie in [0, 1]")
        _check("perturbation", self.perturbation, self.perturbation >= 0, "be at least 0")
        _check("base_rate", self.base_rate, self.base_rate >= 0, "be at least 0")
        _check("steps", self.steps, self.steps >= 0, "be at least 0")
        _check("windows", self.windows, self.windows >= 1, "be at least 1")
        is_cosine = self.min_cosine is None or -1 <= self.min_cosine <= 1
        _check("min_cosine", self.min_cosine, is_cosine, "be None or lie in [-1, 1]")
        margin = self.mirror_margin
        is_margin = margin is None or -1 <= margin <= 1
        _check("mirror_margin", margin, is_margin, "be None or lie in [-1, 1]")
        limit = self.time_limit_s
        is_limit = limit is None or 0 < limit < float("inf")
        _check("time_limit_s", limit, is_limit, "be None or a number of seconds above 0")
        is_sharpness = 0 <= self.focus_sharpness < float("inf")
        _check("focus_sharpness", self.focus_sharpness, is_sharpness, "be at least 0, and finite")
        for name in ("search_below", "source_below", "red_below", "amber_below"):
            value = getattr(self, name)
            _check(name, value, 0 <= value <= 1, "lie in [0, 1]")
        for name in ("parameters", "weak_views", "prediction_views"):
            _check(
                name, getattr(self, name), len(getattr(self, name)) > 0, "hold at least one name"
            )

    def _check_focus(self) -> None:
        for view in self.focus_views:
            read_factors(view, 3)
        for view in self.search_views:
            if not isinstance(parse_view(view), Scale):
                raise RecipeError(
                    f"search_views must be scales, got {view!r}. Write for example 'scale:0.6:0,1'."
                )
        if not self.focus_views:
            return
        if self.mirror_margin is not None and not self.is_mirrored:
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
        if "input" in self.parameters:
            raise RecipeError(
                "parameters must not hold 'input' beside focus_views: its field lies on the whole "
                "image. Leave one of them out."
            )

    def _check_optimizer(self) -> None:
        _check_names("optimizer", [self.optimizer], _optimizers())
        try:
            self.build_optimizer([torch.nn.Parameter(torch.zeros(1))])
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"optimizer_settings must suit {self.optimizer}, got "
                f"{dict(self.optimizer_settings)}: {error}. Remove what it does not take."
            ) from error

    def build_optimizer(self, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimiser over parameters, at the base rate."""
        optimizer: type[torch.optim.Optimizer] = getattr(torch.optim, self.optimizer)
        return optimizer(parameters, lr=self.base_rate, **self.optimizer_settings)  # type: ignore[call-arg]

    def __hash__(self) -> int:
        """Hash by content."""
        return hash(self.digest)

    @property
    def limits(self) -> Limits:
        """What the guard goes by."""
        return Limits(self.source_below, self.red_below, self.amber_below, self.mirror_margin)

    @property
    def is_source(self) -> bool:
        """Whether the recipe asks for nothing but the source network's single pass."""
        is_single = self.prediction_views == ("identity",) and not self.focus_views
        return self.steps == 0 and self.image_share == 0 and is_single

    @property
    def digest(self) -> str:
        """SHA-256 of the settings, as hexadecimal text."""
        settings = self.to_dict()
        del settings["time_limit_s"]  # changes nothing; if it is hit, the record's reason says so
        for name, default in (("guard", True), ("mirror_margin", None), ("calibrated_for", None)):
            if settings[name] is default:  # digests from before there was such a field stay valid
                del settings[name]
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def is_calibrated(self, weights: str) -> bool | None:
        """Say whether the guard's limits were chosen for these weights.

        Args:
            weights: As `hash_weights` names them.

        Returns:
            None if there is no guard, or the recipe does not say for which weights they were.
        """
        if not (self.focus_views and self.guard) or self.calibrated_for is None:
            return None
        return self.calibrated_for == weights

    def suit(self, weights: str) -> "Recipe":
        """Make the guard careful on weights for which its limits were not chosen.

        Magnified views that help one network may harm another, however well they agree. Until
        somebody has calibrated, the source is kept unless they make the network surer: the margin
        between mirrored predictions is at least .01.

        Args:
            weights: As `hash_weights` names them.

        Returns:
            This recipe, or one with a margin.
        """
        if self.is_calibrated(weights) is not False or not self.is_mirrored:
            return self
        margin = _CAREFUL if self.mirror_margin is None else max(self.mirror_margin, _CAREFUL)
        return replace(self, mirror_margin=margin)

    @property
    def is_mirrored(self) -> bool:
        """Whether there are magnified views, and mirrored predictions to compare in them."""
        return bool(self.focus_views) and len(self.prediction_views) > 1

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

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
        given = dict(settings)
        base = given.pop("base", None)
        names = [f.name for f in fields(cls)]
        _check_names("recipe fields", list(given), [*names, "base"])
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in given.items()
        }
        if base is None:
            return cls(**({"name": "custom"} | values))
        _check_names("base", [base], RECIPES)
        if "mirror_margin" in values:
            values.setdefault("calibrated_for", None)
        return replace(RECIPES[base], **({"name": f"{base}, changed"} | values))


def resolve_recipe(recipe: "str | Mapping[str, Any] | Recipe") -> Recipe:
    """Turn a recipe's name, a dictionary or a recipe into a recipe.

    Raises:
        RecipeError: If the name is unknown or a setting is wrong.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str):
        _check_names("recipe", [recipe], RECIPES)
        return RECIPES[recipe]
    return Recipe.from_dict(recipe)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {key: _plain(v) for key, v in value.items()} if isinstance(value, Mapping) else value


def _optimizers() -> list[str]:
    """Optimisers that need gradients only, no closure."""
    return [
        name
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type)
        and issubclass(kind, torch.optim.Optimizer)
        and name not in ("Optimizer", "LBFGS", "SparseAdam")
    ]


def _check(name: str, value: object, is_met: bool, rule: str) -> None:
    if not is_met:
        raise RecipeError(f"{name} must {rule}, got {value!r}. Change it in the recipe.")


def _check_names(field_name: str, values: Collection[str], allowed: Collection[str]) -> None:
    for value in values:
        if value not in allowed:
            near = difflib.get_close_matches(str(value), list(allowed), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise RecipeError(
                f"{field_name} must be among {', '.join(sorted(allowed))}, got {value!r}.{hint}"
            )


PAPER = Recipe(
    name="paper",
    image_share=1.0,
    auxiliary_loss="entropy_half",
    pseudo_loss="consistency",
    weak_views=("identity", "flip:0", "flip:1", "turn90:0,1", "turn180:0,1", "turn270:0,1"),
    strong_view="paper",
)
"""GraTa as published and as the authors' code runs it (Chen et al., AAAI 2025), case by case."""

CLINICAL = Recipe(
    name="clinical",
    auxiliary_loss="entropy",
    pseudo_loss="consistency+soft_dice",
    weak_views=("identity", "flip:0"),
    strong_view="mild",
    is_dynamic=False,
    base_rate=3e-3,
    steps=5,
    prediction_views=("identity", "flip:0"),
    focus_views=("scale:0.75:0,1", "identity", "scale:1.33:0,1", "scale:2:0,1"),
    search_views=("scale:0.6:0,1", "scale:1.6:0,1"),
    source_below=0.73,
    calibrated_for="3fa83a2764a18eeecc3cd7023e29463ba5879b7e93fbcc385e276768f0bc92ec",
    red_below=0.86,
)
"""Our default for a case: the organ at four magnifications, five aligned steps, and the guard."""

SOURCE = Recipe(name="source", steps=0)
"""No adaptation at all: the source network's prediction, with its record."""

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (PAPER, CLINICAL, SOURCE)}
"""The named recipes."""
