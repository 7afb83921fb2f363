"""GraTa as a method: a recipe, run by the same code as the product's."""

import math
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import ClassVar

from torch import nn

from grata_monai.adapt.case import Episode, OnlineMemory, Outcome
from grata_monai.adapt.episode import run_episode
from grata_monai.adapt.network import copy_network
from grata_monai.adapt.recipe import CLINICAL, PAPER, Recipe
from grata_monai.core.types import Logits
from grata_monai.methods.common import refuse_without_normalisation
from grata_monai.methods.method import Case, Method, Notes

__all__ = [
    "GraTaClinical",
    "GraTaMethod",
    "GraTaPaper",
    "GraTaPaperEpisodic",
    "GraTaState",
    "GraTaViews",
]

FROZEN = replace(CLINICAL, name="clinical, no step", steps=0)


@dataclass
class GraTaState:
    """What adaptation changes.

    Attributes:
        network: A private copy of the source network.
        memory: What online cases leave behind; None case by case.
        seed: Of the first case, which the recipe takes over.
        notes: On the last case.
    """

    network: nn.Module
    memory: OnlineMemory | None = None
    seed: int | None = None
    notes: Notes = field(default_factory=Notes)


@dataclass(frozen=True)
class GraTaMethod(Method):
    """Adapt as a recipe says, then predict as it says.

    Attributes:
        recipe: Every setting but `memory`; `seed` gives way to the first case's.
        is_online: Whether weights, moments and the generator go on from case to case.

    Source:
        Chen et al., Gradient Alignment Improves Test-Time Adaptation for Medical Image
        Segmentation, AAAI 2025; see `grata_monai.adapt.grata`.

    Deviations:
        The batch is the case's windows, the authors' one 2D image.
    """

    recipe: Recipe = PAPER
    is_online: bool = False
    name: ClassVar[str] = "grata"

    def refusal(self, network: nn.Module, activation: str) -> str:
        """Refuse networks without normalisation, if its scales and shifts are all that may move."""
        is_bound = set(self.recipe.parameters) <= {"norm", "adapters"}
        return refuse_without_normalisation(network) if is_bound else ""

    def start(self, network: nn.Module, activation: str) -> GraTaState:
        """Copy the network."""
        return GraTaState(copy_network(network), OnlineMemory() if self.is_online else None)

    def segment(self, case: Case, state: GraTaState) -> Logits:
        """Run one episode, logits (1, k, *s).

        Returns:
            The source's logits if adaptation fails and the recipe says so; nothing has moved then.

        Raises:
            AdaptationError: If adaptation fails and the recipe says ``raise``.
        """
        state.seed = case.seed if state.seed is None else state.seed
        protocol = "online" if self.is_online else "episodic"
        episode = Episode(
            recipe=replace(self.recipe, seed=state.seed, memory=protocol),
            predict=case.predict,
            inferer=case.inferer,
            activation=case.activation,
            spacing=_spacing(case),
            single_piece=case.single_piece,
            memory=state.memory,
        )
        source = case.source.clone() if case.source.is_inference() else case.source
        outcome = run_episode(case.images, state.network, episode, source=source)
        state.notes = _take_notes(outcome)
        return outcome.logits

    def notes(self, state: GraTaState) -> Notes:
        """Say what the guard and the cosines said of the last case."""
        return state.notes


@dataclass(frozen=True)
class GraTaPaper(GraTaMethod):
    """GraTa as published, online; see `GraTaMethod`.

    Attributes:
        recipe: The published settings.
        is_online: True: weights and moments are never reset.
    """

    recipe: Recipe = PAPER
    is_online: bool = True
    name: ClassVar[str] = "grata-paper"


@dataclass(frozen=True)
class GraTaPaperEpisodic(GraTaMethod):
    """GraTa's published settings case by case; see `GraTaMethod`.

    Attributes:
        recipe: The published settings.
        is_online: False: every case starts at the source.
    """

    recipe: Recipe = PAPER
    is_online: bool = False
    name: ClassVar[str] = "grata-paper-episodic"


@dataclass(frozen=True)
class GraTaClinical(GraTaMethod):
    """GraTa with this project's own settings, case by case; see `GraTaMethod`.

    Attributes:
        recipe: The clinical settings.
        is_online: False: every case starts at the source.
    """

    recipe: Recipe = CLINICAL
    is_online: bool = False
    name: ClassVar[str] = "grata-clinical"


@dataclass(frozen=True)
class GraTaViews(GraTaMethod):
    """The clinical recipe with its weights frozen: what the gradient adds is the difference.

    Attributes:
        recipe: The clinical settings without a step.
        is_online: False.
    """

    recipe: Recipe = FROZEN
    is_online: bool = False
    name: ClassVar[str] = "grata-views"


def _take_notes(outcome: Outcome) -> Notes:
    verdict = outcome.verdict
    is_guarded = verdict.light != "none"
    return Notes(
        cosine=fmean(step.cosine for step in outcome.steps) if outcome.steps else math.nan,
        agreement=math.nan if verdict.agreement is None else verdict.agreement,
        mirror_gain=outcome.mirrored[1] - outcome.mirrored[0] if outcome.mirrored else math.nan,
        kept=verdict.kept,
        light=verdict.light if is_guarded else "",
    )


def _spacing(case: Case) -> tuple[float, ...] | None:
    """Spacing of the images' axes, if it is known: a 2D network's images lack one axis."""
    is_whole = case.spacing is not None and len(case.spacing) == case.images.ndim - 2
    return case.spacing if is_whole else None
