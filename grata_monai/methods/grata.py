"""GraTa as a method: its steps are data, a recipe's or a named variant's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from grata_monai.adapt.grata import GraTa
from grata_monai.adapt.method import Episode, Method, State, Step
from grata_monai.adapt.patches import Patches
from grata_monai.adapt.recipe import PAPER, Recipe
from grata_monai.adapt.settings import Steps
from grata_monai.core.types import Images
from grata_monai.methods.common import refuse_without_normalisation

__all__ = ["GraTaMethod", "GraTaState"]


@dataclass(kw_only=True)
class GraTaState(State):
    """What adaptation changes.

    Attributes:
        adapter: Holds the private copy, the optimiser and the generator of strong views.
    """

    adapter: GraTa

    def snapshot(self) -> Mapping[str, Any]:
        """Copy what adaptation changes, not the whole network."""
        return self.adapter.state_dict()

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Put it back."""
        self.adapter.load_state_dict(snapshot)


@dataclass(frozen=True)
class GraTaMethod(Method):
    """Align two self-supervised gradients, and step along the pseudo-label's.

    Attributes:
        steps: Every setting of the steps.
        is_online: Whether weights, moments and the generator go on from case to case, as published.

    Source:
        Chen et al., Gradient Alignment Improves Test-Time Adaptation for Medical Image
        Segmentation, AAAI 2025; see `grata_monai.adapt.grata`.

    Deviations:
        The batch is the case's patches, the authors' one 2D image. A mask that adaptation emptied
        is rolled back, also under `grata-paper`: the source's mask is kept, and online the case's
        steps are undone. The authors have no guard.
    """

    steps: Steps = PAPER.steps
    is_online: bool = False
    name: ClassVar[str] = "grata"

    @property
    def is_source(self) -> bool:
        """Whether neither weights nor statistics change."""
        return self.steps.count == 0 and self.steps.image_share == 0

    @property
    def settings(self) -> Mapping[str, Any]:
        """None: all stand in the recipe."""
        return {}

    def effective_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with the steps of this method."""
        return replace(recipe, steps=self.steps)

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without normalisation, if its scales and shifts are all that may move."""
        is_bound = set(self.steps.parameters) <= {"norm", "adapters"}
        return refuse_without_normalisation(network) if is_bound else ""

    def start(self, network: nn.Module, episode: Episode) -> GraTaState:
        """Copy the network."""
        adapter = GraTa(
            network,
            self.steps,
            activation=episode.activation,
            spacing=episode.spacing,
            mirroring=episode.mirroring,
            image=episode.images,
            seed=episode.recipe.seed,
        )
        statistics = adapter.layers_with_image_statistics
        is_foreign = bool(statistics) or episode.memory is not None
        return GraTaState(
            episode=episode,
            network=adapter.network,
            moving=adapter.moving,
            image_statistics=statistics,
            is_foreign=is_foreign,
            adapter=adapter,
        )

    def adapt(self, state: GraTaState, patches: Patches) -> Iterator[Step]:
        """Take the recipe's steps."""
        return state.adapter.adapt(patches.images, patches.extents)

    def dropped_views(self, state: GraTaState, patches: Patches) -> Mapping[str, str]:
        """Name the weak views that do not fit the patches."""
        return state.adapter.weak_views(patches.images)[1]

    def prepare(self, state: GraTaState, images: Images) -> Images:
        """Pass the whole image through the input adapter, if there is one."""
        return state.adapter.adapt_input(images)
