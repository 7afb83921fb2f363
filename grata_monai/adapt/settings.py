"""The parts of a recipe: GraTa's steps, multi-scale prediction, guard; checked when built."""

import difflib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from grata_monai.adapt.losses import CONSISTENCIES, ENTROPIES, HEAD_LOSSES
from grata_monai.adapt.multiscale import read_zoom
from grata_monai.adapt.parameters import PARAMETER_GROUPS
from grata_monai.adapt.strong import STRONG_VIEWS
from grata_monai.adapt.views import Scale, parse_view
from grata_monai.core.errors import RecipeError
from grata_monai.core.precision import PRECISIONS

__all__ = ["GuardSettings", "Multiscale", "Steps", "check", "check_names"]


def _optimizers() -> list[str]:
    """Optimisers that need gradients only, no closure."""
    return [
        name
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type)
        and issubclass(kind, torch.optim.Optimizer)
        and name not in ("Optimizer", "LBFGS", "SparseAdam")
    ]


def check(name: str, value: object, is_met: bool, rule: str) -> None:
    """Refuse a setting that breaks its rule.

    Raises:
        RecipeError: Naming the setting, the rule and the value.
    """
    if not is_met:
        raise RecipeError(f"{name} must {rule}, got {value!r}. Change it in the recipe.")


def check_names(field_name: str, values: Collection[str], allowed: Collection[str]) -> None:
    """Refuse a name that does not exist.

    Raises:
        RecipeError: With the permitted names, and the nearest one.
    """
    for value in values:
        if value not in allowed:
            near = difflib.get_close_matches(str(value), list(allowed), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise RecipeError(
                f"{field_name} must be among {', '.join(sorted(allowed))}, got {value!r}.{hint}"
            )


def _named(name: str, default: Any) -> Any:
    """A field that JSON writes under another name."""
    return field(default=default, metadata={"name": name})


@dataclass(frozen=True)
class Steps:
    """How GraTa moves the network.

    Attributes:
        parameters: What may move, names out of `PARAMETER_GROUPS`.
        image_share: Share α of the image's own statistics in normalisation, in [0, 1].
        auxiliary_loss: The loss whose gradient perturbs: an entropy, a consistency or a head's.
        pseudo_loss: The loss whose gradient steps: one of the same. A consistency compares a
            strong view with the pseudo-label.
        weak_views: Views whose predictions average to the pseudo-label.
        strong_view: Named intensity augmentation of the pseudo loss.
        perturbation: Length of the step along the auxiliary gradient; 0 switches it off.
        is_dynamic: Whether the cosine scales the step.
        optimizer: Class in `torch.optim`.
        optimizer_settings: Its keyword arguments except the rate.
        base_rate: Learning rate at full agreement of the gradients.
        count: Updates per case; JSON: ``steps``.
        min_cosine: A step whose cosine lies below is not taken and ends the adaptation; None never.
        patches: Most patches of `roi_size` that a case is adapted on; JSON: ``windows``.
        patch_rule: Patches with the most ``foreground`` or the most ``uncertainty`` come first;
            JSON: ``window_rule``.
        precision: Of forward and backward passes while adapting: ``fp32`` or ``bf16``.
    """

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
    count: int = _named("steps", 1)
    min_cosine: float | None = None
    patches: int = _named("windows", 2)
    patch_rule: str = _named("window_rule", "foreground")
    precision: str = "fp32"

    def __post_init__(self) -> None:
        """Check every field before the first gradient."""
        check_names("parameters", self.parameters, PARAMETER_GROUPS)
        losses = [*ENTROPIES, *CONSISTENCIES, *HEAD_LOSSES]
        check_names("auxiliary_loss", [self.auxiliary_loss], losses)
        check_names("pseudo_loss", [self.pseudo_loss], losses)
        check_names("strong_view", [self.strong_view], STRONG_VIEWS)
        check_names("window_rule", [self.patch_rule], ("foreground", "uncertainty"))
        check_names("precision", [self.precision], [p for p in PRECISIONS if p != "fp16"])
        for view in self.weak_views:
            parse_view(view)
        check("image_share", self.image_share, 0 <= self.image_share <= 1, "lie in [0, 1]")
        check("perturbation", self.perturbation, self.perturbation >= 0, "be at least 0")
        check("base_rate", self.base_rate, self.base_rate >= 0, "be at least 0")
        check("steps", self.count, self.count >= 0, "be at least 0")
        check("windows", self.patches, self.patches >= 1, "be at least 1")
        is_cosine = self.min_cosine is None or -1 <= self.min_cosine <= 1
        check("min_cosine", self.min_cosine, is_cosine, "be None or lie in [-1, 1]")
        check("parameters", self.parameters, len(self.parameters) > 0, "hold at least one name")
        check("weak_views", self.weak_views, len(self.weak_views) > 0, "hold at least one name")
        check_names("optimizer", [self.optimizer], _optimizers())
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
        return hash(json.dumps({f.name: getattr(self, f.name) for f in fields(self)}, default=dict))


@dataclass(frozen=True)
class Multiscale:
    """At which magnifications the organ is predicted, and where it is sought.

    Attributes:
        views: Magnifications of the region about the organ that the source network found:
            ``identity`` and scales; empty for the whole image alone. Adaptation then works at the
            magnification whose predictions are most consistent, and the guard compares them; JSON:
            ``focus_views``.
        sharpness: How much consistency counts in their average, see `multiscale.weigh`; JSON:
            ``focus_sharpness``.
        search_views: Scales of the whole image at which the organ is sought again, if the
            magnified predictions are too little consistent: the source network may have found the
            wrong place. They count only beside `views`.
        search_below: Consistency below which that happens.
        organs: Most organs that are looked at, each by itself, by volume; the case cannot be green
            if there are more. A target of one connected piece is one organ.
    """

    views: tuple[str, ...] = _named("focus_views", ())
    sharpness: float = _named("focus_sharpness", 20.0)
    search_views: tuple[str, ...] = ()
    search_below: float = 0.9
    organs: int = 4

    def __post_init__(self) -> None:
        """Check every field."""
        for view in self.views:
            read_zoom(view, 3)
        for view in self.search_views:
            if not isinstance(parse_view(view), Scale):
                raise RecipeError(
                    f"search_views must be scales, got {view!r}. Write for example 'scale:0.6:0,1'."
                )
        is_sharpness = 0 <= self.sharpness < float("inf")
        check("focus_sharpness", self.sharpness, is_sharpness, "be at least 0, and finite")
        check("organs", self.organs, self.organs >= 1, "be at least 1")
        check("search_below", self.search_below, 0 <= self.search_below <= 1, "lie in [0, 1]")


@dataclass(frozen=True)
class GuardSettings:
    """What the guard goes by.

    Attributes:
        source_below: Consistency of the magnified predictions below which the source prediction is
            kept; then the quality flag is red.
        mirror_margin: How much more consistent mirrored predictions must be in the magnified views
            than in the whole image, or the source prediction is kept; None does not compare them.
        calibrated_for: Weights for which these limits were chosen, as `hash_weights` names them. On
            others the guard is careful, see `Recipe.with_safety_margin`. None: they suit any.
        red_below: Consistency below which the quality flag is red, whatever is kept.
        amber_below: Consistency below which the quality flag is amber.
        is_binding: Whether the guard chooses between the source, the views and the adapted
            prediction; if not, what adaptation made is kept, and the guard only sets the quality
            flag; JSON: ``guard``.
    """

    source_below: float = 0.72
    mirror_margin: float | None = None
    calibrated_for: str | None = None
    red_below: float = 0.84
    amber_below: float = 0.93
    is_binding: bool = _named("guard", True)

    def __post_init__(self) -> None:
        """Check every field."""
        check("guard", self.is_binding, isinstance(self.is_binding, bool), "be true or false")
        known = self.calibrated_for
        is_hash = known is None or bool(re.fullmatch("[0-9a-f]{64}", str(known)))
        check("calibrated_for", known, is_hash, "be None or a SHA-256 in hexadecimal digits")
        margin = self.mirror_margin
        is_margin = margin is None or -1 <= margin <= 1
        check("mirror_margin", margin, is_margin, "be None or lie in [-1, 1]")
        for name in ("source_below", "red_below", "amber_below"):
            value = getattr(self, name)
            check(name, value, 0 <= value <= 1, "lie in [0, 1]")
