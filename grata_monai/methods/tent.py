"""TENT: steps down the entropy of the prediction, on the normalisation's scale and shift."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import nn

from grata_monai.adapt.losses import entropy
from grata_monai.adapt.method import Episode, Method, Step
from grata_monai.adapt.network import first_tensor
from grata_monai.adapt.patches import Patches
from grata_monai.methods.common import refuse_without_normalisation
from grata_monai.methods.state import SteppingState, start_stepping

__all__ = ["Tent"]


@dataclass(frozen=True)
class Tent(Method):
    """Minimise the entropy of the prediction; batch normalisation uses the image's statistics.

    Attributes:
        rate: Of Adam, with β = (.9, .999) and no weight decay.
        steps: Per case.
        is_online: Whether weights and moments go on from case to case, as published.

    Source:
        Wang et al., Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR 2021; authors'
        code github.com/DequanWang/tent, `cfgs/tent.yaml` for CIFAR-10-C.

    Deviations:
        The batch is the case's windows, the authors' 200 images, and statistics are taken per
        window. The case is predicted after its step; the authors return the prediction that the
        step was taken on. Every kind of normalisation layer moves, the authors' only BatchNorm;
        layers without statistics of the source normalise as they always did, and where no layer
        has scale and shift, identity ones are added after each. Dropout stays off; the authors'
        training mode leaves it on. With sigmoid, the entropies of the independent channels are
        summed.
    """

    rate: float = 1e-3
    steps: int = 1
    is_online: bool = True
    name: ClassVar[str] = "tent"

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without any normalisation layer."""
        return refuse_without_normalisation(network)

    def start(self, network: nn.Module, episode: Episode) -> SteppingState:
        """Copy the network, drop the copy's source statistics, let its scales and shifts move."""
        adam = partial(torch.optim.Adam, lr=self.rate)
        return start_stepping(network, episode, ("norm",), adam, image_share=1.0)

    def adapt(self, state: SteppingState, patches: Patches) -> Iterator[Step]:
        """Step on the patches.

        Raises:
            AdaptationError: If the loss or its gradient is not finite; nothing has moved then.
        """
        for _ in range(self.steps):
            with torch.enable_grad():
                logits = first_tensor(state.network(patches.images))
                step = state.descend(entropy(logits, state.episode.activation))
            yield step
