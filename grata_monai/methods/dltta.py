"""DLTTA: TENT whose learning rate grows with how far a case is from similar earlier ones."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from grata_monai.adapt.losses import entropy, probabilities, to_logits
from grata_monai.adapt.method import Episode, Method, Step
from grata_monai.adapt.network import first_tensor
from grata_monai.adapt.parameters import normalisation_layers
from grata_monai.adapt.patches import Patches
from grata_monai.core.types import Images, Logits
from grata_monai.methods.common import refuse_without_normalisation
from grata_monai.methods.state import SteppingState, start_stepping
from grata_monai.methods.tipi import divergence

__all__ = ["DLTTA", "DLTTAState"]


@dataclass(kw_only=True)
class DLTTAState(SteppingState):
    """What goes on from case to case.

    Attributes:
        memory: Of each earlier window, its feature (c,) and its prediction (k, *w); the oldest
            leaves first.
    """

    memory: deque[tuple[Tensor, Tensor]] = field(default_factory=deque)


@dataclass(frozen=True)
class DLTTA(Method):
    """Minimise entropy at a rate proportional to the discrepancy from a memory.

    The discrepancy is the symmetric divergence between a window's prediction and the mean of the
    predictions of the most similar windows in the memory. While nothing comparable is there, the
    rate is not scaled.

    Attributes:
        rate: Of Adam at a discrepancy of 1 nat, and before the memory holds anything.
        capacity: Windows in the memory.
        neighbours: Most similar windows whose predictions are averaged.
        steps: Per case.
        is_online: Whether weights, moments and memory go on from case to case, as published.

    Source:
        Yang et al., DLTTA: Dynamic Learning Rate for Test-Time Adaptation on Cross-Domain Medical
        Images, IEEE TMI 2022 (arXiv 2205.13723), on top of TENT. Rate as TENT's.

    Deviations:
        The authors' code for segmentation (github.com/med-air/DLTTA, `opt_ANet`) adapts another
        network, of adaptors and auto-encoders. Its rate is 1e-3·exp(D), with D the sum of both
        divergences, logits of the case divided by 4, the 8 neighbours of largest cosine out of 20,
        weighted by a softmax of their cosines; and 1e-3 times the number of entries while these are
        at most 8. Ours is proportional to D, so that a case like earlier ones moves less; capacity,
        neighbours and distance are ours. Features are channel means of the last
        normalisation layer's output, which every network that TENT serves has; the authors compare
        deep features of their own network. The batch is the case's windows, statistics are per
        window, and the case is predicted after its step. With sigmoid, divergences and entropies of
        the independent channels are summed.
    """

    rate: float = 1e-3
    capacity: int = 32
    neighbours: int = 4
    steps: int = 1
    is_online: bool = True
    name: ClassVar[str] = "dltta"

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without any normalisation layer."""
        return refuse_without_normalisation(network)

    def start(self, network: nn.Module, episode: Episode) -> DLTTAState:
        """Copy the network, drop the copy's source statistics, let its scales and shifts move."""

        def adam(parameters: list[nn.Parameter]) -> torch.optim.Adam:
            return torch.optim.Adam(parameters, lr=self.rate)

        stepping = start_stepping(network, episode, ("norm",), adam, image_share=1.0)
        return DLTTAState(**vars(stepping), memory=deque(maxlen=self.capacity))

    def adapt(self, state: DLTTAState, patches: Patches) -> Iterator[Step]:
        """Step on the patches at their own rate, then remember them.

        Raises:
            AdaptationError: If the loss or its gradient is not finite; nothing has moved then.
        """
        entries: list[tuple[Tensor, Tensor]] = []
        activation = state.episode.activation
        for _ in range(self.steps):
            with torch.enable_grad():
                logits, features = _run(patches.images, state.network)
                maps = probabilities(logits.detach(), activation)
                entries = list(zip(features, maps, strict=True))
                scale = self._discrepancy(entries, state, activation)
                state.optimizer.param_groups[0]["lr"] = self.rate * scale
                step = state.descend(entropy(logits, activation))
            yield step
        state.memory.extend(entries)

    def _discrepancy(
        self, entries: list[tuple[Tensor, Tensor]], state: DLTTAState, activation: str
    ) -> float:
        """Mean over the windows that find comparable ones in the memory; 1 if none does."""
        found = []
        for feature, maps in entries:
            past = [entry for entry in state.memory if entry[1].shape == maps.shape]
            if not past:
                continue
            past.sort(key=lambda entry: float((entry[0] - feature).norm()))
            mean = torch.stack([value for _, value in past[: self.neighbours]]).mean(0)
            one, two = (to_logits(value[None], activation) for value in (maps, mean))
            there, back = divergence(one, two, activation), divergence(two, one, activation)
            found.append(float(there + back) / 2)
        return sum(found) / len(found) if found else 1.0


def _run(windows: Images, network: nn.Module) -> tuple[Logits, Tensor]:
    """Predict windows, and read their features (n, c) at the last normalisation layer that runs.

    The last of a network with heads may belong to a head.
    """
    seen: list[Tensor] = []

    def keep(layer: nn.Module, args: Any, output: Tensor) -> None:
        is_last = isinstance(layer, nn.LayerNorm)  # channels come last there
        maps = output.detach().movedim(-1, 1) if is_last else output.detach()
        seen.append(maps.flatten(2).mean(2) if maps.ndim > 2 else maps)

    layers = normalisation_layers(network).values()
    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        logits = first_tensor(network(windows))
    finally:
        for handle in handles:
            handle.remove()
    return logits, seen[-1]
