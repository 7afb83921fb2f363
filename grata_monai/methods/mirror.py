"""Mirror averaging: the prediction on every mirrored image, mapped back, averaged."""

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

from torch import Tensor, nn

from grata_monai.adapt.method import Episode, Method, State
from grata_monai.adapt.mirroring import Mirroring
from grata_monai.adapt.network import copy_network
from grata_monai.adapt.views import Flip, Identity, WeakView, average_views
from grata_monai.core.types import Images, Logits

__all__ = ["Mirror"]


@dataclass(frozen=True)
class Mirror(Method):
    """Average the logits over all combinations of mirrored axes, as nnU-Net predicts.

    Attributes:
        axes: Spatial axes to mirror, counted from 0; None for all that the images have. nnU-Net
            mirrors the axes that training mirrored; axes that the images lack, or along which the
            network takes no mirror images, are left out.

    Source:
        Isensee et al., nnU-Net, Nature Methods 2021; `_internal_maybe_mirror_and_predict`.

    Deviations:
        nnU-Net mirrors each window, here the whole image is mirrored: the same where windows lie
        symmetrically. The unmirrored prediction is the source's, which the case brings along.
    """

    axes: tuple[int, ...] | None = None
    name: ClassVar[str] = "mirror"
    keeps_network: ClassVar[bool] = True

    def start(self, network: nn.Module, episode: Episode) -> State:
        """Copy the network, which stays as it is."""
        return State(episode=episode, network=copy_network(network), is_foreign=True)

    def predict(self, state: State, images: Images) -> Logits:
        """Average logits (1, k, *s) over 2^n mirrored images."""

        def predict_view(view: WeakView) -> Tensor:
            return state.episode.predict_unmoved(view.apply(images), state.network)

        views = self._views(images.ndim - 2, state.episode.mirroring)
        mean, _ = average_views(images, views, predict_view)
        return mean

    def _views(self, dims: int, mirroring: Mirroring) -> list[WeakView]:
        wanted = range(dims) if self.axes is None else self.axes
        axes = [a for a in range(dims) if a in wanted and not mirroring.reason_against([a])]
        several = [some for n in range(len(axes)) for some in combinations(axes, n + 1)]
        return [Identity(), *(Flip(some, mirroring) for some in several)]
