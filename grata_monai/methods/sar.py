"""SAR: sharpness-aware steps down the entropy of reliable voxels, with a way back."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from grata_monai.adapt.alignment import gradients, perturbed
from grata_monai.adapt.losses import _entropy_maps
from grata_monai.adapt.method import Episode, Method, Step
from grata_monai.adapt.network import first_tensor
from grata_monai.adapt.patches import Patches
from grata_monai.core.types import Images
from grata_monai.methods.common import refuse_without_normalisation
from grata_monai.methods.state import SteppingState, start_stepping

__all__ = ["SAR", "SARState"]


@dataclass(kw_only=True)
class SARState(SteppingState):
    """What goes on from case to case, and the way back.

    Attributes:
        source: Values of the moving parameters at the source.
        moments: State of the optimiser at the source.
        average: Moving average of the loss; None before the first.
        reset_level: Below which the average must lie for a reset, in nats; known from a step on.
    """

    source: list[Tensor]
    moments: dict[str, Any]
    average: float | None = None
    reset_level: float = 0.0


@dataclass(frozen=True)
class SAR(Method):
    """Minimise the entropy of voxels that are certain enough, at the worst point nearby.

    Attributes:
        rate: Of gradient descent.
        momentum: Of gradient descent.
        radius: ρ: Euclidean distance to the point whose gradient counts.
        margin: Share of the greatest possible entropy below which a voxel is reliable.
        reset_below: Share of the greatest possible entropy; weights and momentum start anew when
            the moving average of the loss lies below it.
        decay: Of the moving average.
        steps: Per case.
        is_online: Whether weights, momentum and average go on from case to case, as published.

    Source:
        Niu et al., Towards Stable Test-Time Adaptation in Dynamic Wild World, ICLR 2023: SGD 2.5e-4
        with momentum .9 for ResNet-50, ρ = .05, margin .4·ln C, reset below .2 nats of at most
        ln 1000, average decay .9, which a reset does not change in the authors' code either.

    Deviations:
        Voxels are filtered, the authors' images. The batch is the case's windows, the authors' 64
        images; statistics are taken per window. The case is predicted after its steps, and a reset
        waits for the next case; the authors return the prediction that the step was taken on, and
        reset at once. The published reset level is for 1000 classes, so it is scaled by
        ln C / ln 1000. The rate is that of 64 images, 32 times the authors' for a batch of one: a
        window's voxels are as many predictions. Where no voxel is reliable nothing moves; the
        authors' step is then not a number. The authors keep the last blocks' scales and shifts;
        here all move. With sigmoid, entropies of the independent channels are summed, at most
        k·ln 2.
    """

    rate: float = 2.5e-4
    momentum: float = 0.9
    radius: float = 0.05
    margin: float = 0.4
    reset_below: float = 0.2 / math.log(1000)
    decay: float = 0.9
    steps: int = 1
    is_online: bool = True
    name: ClassVar[str] = "sar"

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without any normalisation layer."""
        return refuse_without_normalisation(network)

    def start(self, network: nn.Module, episode: Episode) -> SARState:
        """Copy the network, drop the copy's source statistics, let its scales and shifts move."""
        sgd = partial(torch.optim.SGD, lr=self.rate, momentum=self.momentum)
        stepping = start_stepping(network, episode, ("norm",), sgd, image_share=1.0)
        source, moments = stepping.moving.snapshot(), stepping.optimizer.state_dict()
        return SARState(**vars(stepping), source=source, moments=moments)

    def adapt(self, state: SARState, patches: Patches) -> Iterator[Step]:
        """Reset if the last case's loss says so, then step on the patches.

        Raises:
            AdaptationError: If the loss or its gradient is not finite; nothing has moved then.
        """
        if state.average is not None and state.average < state.reset_level:
            state.moving.restore(state.source)
            state.optimizer.load_state_dict(state.moments)
        for _ in range(self.steps):
            with torch.enable_grad():
                step = self._step(patches.images, state, state.episode.activation)
            yield step

    def _step(self, windows: Images, state: SARState, activation: str) -> Step:
        """Take one step, unless no voxel is reliable."""
        network, tensors = state.network, state.moving.tensors
        entropies, most = self._entropies(windows, network, activation)
        state.reset_level = self.reset_below * most
        is_reliable = entropies.detach() < self.margin * most
        if not bool(is_reliable.any()):
            return Step(update_norm=0.0, is_taken=False)
        ascent = gradients(entropies[is_reliable].mean(), tensors)
        length = torch.cat([gradient.flatten() for gradient in ascent]).norm()
        with perturbed(tensors, ascent, -self.radius / (float(length) + 1e-12)):
            entropies, most = self._entropies(windows, network, activation)
            is_reliable &= entropies.detach() < self.margin * most
            if not bool(is_reliable.any()):
                return Step(update_norm=0.0, is_taken=False)
            loss = entropies[is_reliable].mean()
            worst = gradients(loss, tensors)
        # a linear function with the gradient found nearby and the loss found there
        pairs = zip(tensors, worst, strict=True)
        linear = torch.stack([(one * g).sum() for one, g in pairs]).sum()
        step = state.descend(linear + loss.detach())
        last = float(loss.detach())
        state.average = (
            last if state.average is None else self.decay * state.average + (1 - self.decay) * last
        )
        return replace(step, loss=last)

    def _entropies(
        self, windows: Images, network: nn.Module, activation: str
    ) -> tuple[Tensor, float]:
        """Entropy of every voxel (n, *w), and the greatest there can be, in nats."""
        maps = _entropy_maps(first_tensor(network(windows)), activation)
        channels = maps.shape[1]
        most = math.log(channels) if activation == "softmax" else channels * math.log(2)
        return maps.sum(1), most
