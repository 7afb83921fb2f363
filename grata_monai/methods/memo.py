"""MEMO: one step down the entropy of the prediction that is averaged over views."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from grata_monai.adapt.losses import entropy, probabilities, to_logits
from grata_monai.adapt.method import Episode, Method, Step
from grata_monai.adapt.network import first_tensor
from grata_monai.adapt.patches import Patches
from grata_monai.adapt.strong import STRONG_VIEWS
from grata_monai.adapt.views import WeakView, admissible_views, average_views
from grata_monai.core.types import Images, Scalar
from grata_monai.methods.state import SteppingState, start_stepping

__all__ = ["MEMO"]


@dataclass(frozen=True)
class MEMO(Method):
    """Make the marginal prediction over augmented windows certain, with all weights.

    Each view is a change of geometry, undone in the prediction, on top of a change of intensities.

    Attributes:
        rate: Of gradient descent without momentum or weight decay.
        steps: Per case; every case starts at the source.
        prior_strength: N: source statistics count N/(N + 1), the image's 1/(N + 1).
        views: Changes of geometry; those that do not fit the windows are left out.
        copies: Draws of intensities for each of them.
        strong_view: What draws the intensities.

    Source:
        Zhang et al., MEMO: Test Time Robustness via Adaptation and Augmentation, NeurIPS 2022;
        authors' code github.com/zhangmarvin/memo, `imagenet-exps`, ResNet-50: SGD 2.5e-4, one step,
        N = 16.

    Deviations:
        The marginal is taken voxel by voxel, in the geometry of the window, and its entropy
        averaged over the voxels. 8 views, the authors' 64 of AugMix. Each view is computed again
        for the gradient, so that memory does not grow with the number of views. Statistics are
        those of each view, the authors' of all views together.
    """

    rate: float = 2.5e-4
    steps: int = 1
    prior_strength: float = 16.0
    views: tuple[str, ...] = ("identity", "flip:0", "flip:1", "flip:0,1")
    copies: int = 2
    strong_view: str = "mild"
    name: ClassVar[str] = "memo"

    def start(self, network: nn.Module, episode: Episode) -> SteppingState:
        """Copy the network, mix the copy's statistics, let all its weights move."""
        sgd = partial(torch.optim.SGD, lr=self.rate)
        share = 1 / (self.prior_strength + 1)
        return start_stepping(network, episode, ("all",), sgd, image_share=share)

    def adapt(self, state: SteppingState, patches: Patches) -> Iterator[Step]:
        """Step on the patches.

        Raises:
            AdaptationError: If the loss or its gradient is not finite; nothing has moved then.
        """
        generator = torch.Generator().manual_seed(state.episode.recipe.seed)
        for _ in range(self.steps):
            with torch.enable_grad():
                step = state.descend(self._marginal_entropy(patches.images, state, generator))
            yield step

    def _marginal_entropy(
        self, windows: Images, state: SteppingState, generator: torch.Generator
    ) -> Scalar:
        intensities, activation = STRONG_VIEWS[self.strong_view], state.episode.activation

        def segment(images: Tensor) -> Tensor:
            return probabilities(first_tensor(state.network(images)), activation)

        def predict_view(view: WeakView) -> Tensor:
            images = view.apply(intensities(windows, generator=generator))
            maps: Tensor = checkpoint(segment, images, use_reentrant=False)
            return maps

        shape = tuple(windows.shape[2:])
        spacing = state.episode.spacing_of(windows)
        views, _ = admissible_views(
            self.views,
            spatial_shape=shape,
            spacing=spacing,
            mirroring=state.episode.mirroring,
        )
        mean, _ = average_views(windows, views * self.copies, predict_view)
        return entropy(to_logits(mean, activation), activation)
