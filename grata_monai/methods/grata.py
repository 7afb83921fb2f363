"""GraTa as a method: a recipe, run on the windows that every method gets."""

from dataclasses import dataclass, replace
from typing import ClassVar

from monai.inferers import SimpleInferer
from torch import Tensor, nn

from grata_monai.adapt.episode import Episode, Outcome, _check_prediction, _predict_views
from grata_monai.adapt.grata import GraTa
from grata_monai.adapt.network import copy_network
from grata_monai.adapt.recipe import CLINICAL, PAPER, Recipe
from grata_monai.errors import AdaptationError
from grata_monai.methods.common import gradient_mode, own, refuse_without_normalisation
from grata_monai.methods.method import Case, Method
from grata_monai.types import Logits

__all__ = ["GraTaClinical", "GraTaMethod", "GraTaPaper", "GraTaState"]


@dataclass
class GraTaState:
    """What adaptation changes.

    Attributes:
        network: The private copy of the source network.
        adapter: Its own copy, with moments and generator; None before the first case, whose image
            and seed it needs.
    """

    network: nn.Module
    adapter: GraTa | None = None


@dataclass(frozen=True)
class GraTaMethod(Method):
    """Adapt as a recipe says, then average the predictions on its prediction views.

    Attributes:
        recipe: Every setting but `memory`, `windows` and `window_rule`: the caller's windows serve
            all methods alike. `seed` gives way to the first case's.
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
        return GraTaState(copy_network(network))

    def segment(self, case: Case, state: GraTaState) -> Logits:
        """Take the recipe's steps, then predict logits (1, k, *s).

        Returns:
            The source's logits if adaptation fails and the recipe says so; nothing has moved then.

        Raises:
            AdaptationError: If adaptation fails and the recipe says ``raise``.
        """
        with gradient_mode(is_enabled=True):
            images = own(case.images)
            adapter = state.adapter = state.adapter or self._adapter(images, case, state.network)
            adapter.spacing = _spacing(case)
            before = adapter.state_dict()
            try:
                return self._segment(images, case, adapter)
            except AdaptationError:
                adapter.load_state_dict(before)
                if self.recipe.on_failure == "raise":
                    raise
                return case.source

    def _adapter(self, images: Tensor, case: Case, network: nn.Module) -> GraTa:
        recipe = replace(self.recipe, seed=case.seed)
        return GraTa(network, recipe, activation=case.activation, image=images)

    def _segment(self, images: Tensor, case: Case, adapter: GraTa) -> Logits:
        steps = list(adapter.adapt(own(case.windows), own(case.extents)))
        has_moved = any(step.update_norm > 0 for step in steps)
        outcome = Outcome(source=case.source, logits=case.source, activation=case.activation)
        outcome.is_adapted = (
            self.is_online or has_moved or bool(adapter.layers_with_image_statistics)
        )
        episode = Episode(
            recipe=replace(self.recipe, memory="episodic"),
            predict=case.predict,
            inferer=SimpleInferer(),
            activation=case.activation,
            spacing=adapter.spacing,
        )
        with gradient_mode(is_enabled=False):
            outcome.logits = _predict_views(images, adapter, episode, outcome).float()
            _check_prediction(outcome)
        return outcome.logits


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
class GraTaClinical(GraTaMethod):
    """GraTa with this project's cautious settings, case by case; see `GraTaMethod`.

    Attributes:
        recipe: The clinical settings.
        is_online: False: every case starts at the source.
    """

    recipe: Recipe = CLINICAL
    is_online: bool = False
    name: ClassVar[str] = "grata-clinical"


def _spacing(case: Case) -> tuple[float, ...] | None:
    """Spacing of the images' axes, if it is known: a 2D network's images lack one axis."""
    is_whole = case.spacing is not None and len(case.spacing) == case.images.ndim - 2
    return case.spacing if is_whole else None
