"""DLTTA: TENT whose learning rate grows with how far a case is from similar earlier ones."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from grata_monai.adapt.losses import entropy
from grata_monai.adapt.method import Episode, Method, Step
from grata_monai.adapt.network import first_tensor
from grata_monai.adapt.parameters import normalisation_layers
from grata_monai.adapt.patches import Patches
from grata_monai.core.types import Images, Logits
from grata_monai.methods.common import refuse_without_normalisation
from grata_monai.methods.state import SteppingState, start_stepping
from grata_monai.methods.tipi import divergence

__all__ = ["DLTTA", "DLTTAState", "Entry"]

_SHARPNESS = 5.0  # of the softmax over the neighbours' cosines


class Entry(NamedTuple):
    """One window in the memory.

    Attributes:
        feature: (f,), of the deepest normalisation layer.
        logits: (k, *w).
    """

    feature: Tensor
    logits: Tensor


@dataclass(kw_only=True)
class DLTTAState(SteppingState):
    """What goes on from case to case.

    Attributes:
        memory: Earlier windows; the oldest leaves first.
    """

    memory: deque[Entry] = field(default_factory=deque)


@dataclass(frozen=True)
class DLTTA(Method):
    """Minimise entropy at a rate that grows with the discrepancy D from a memory: rate · exp(D).

    D sums both divergences between a window's softened prediction and that of the windows of the
    memory with the nearest features. While there are too few of these, the rate is multiplied by
    their number instead: the first case moves nothing.

    Attributes:
        rate: Of Adam at no discrepancy.
        capacity: Windows in the memory.
        neighbours: Windows of largest cosine whose logits are averaged; more must be there.
        temperature: Divides the logits of the case at hand, not those of the memory.
        steps: Per case.
        is_online: Whether weights, moments and memory go on from case to case, as published.

    Source:
        Yang et al., DLTTA: Dynamic Learning Rate for Test-Time Adaptation on Cross-Domain Medical
        Images, IEEE TMI 2022 (arXiv 2205.13723); authors' code github.com/med-air/DLTTA for
        segmentation, `opt_ANet` and `Memory`: rate 1e-3·exp(D), 8 neighbours of 20, temperature 4,
        weights softmax(5·cosine); 1e-3 times the number of entries while these are at most 8.

    Deviations:
        On top of TENT, as their `mbtt.py` for classification; the authors' code for segmentation
        adapts another network, of adaptors and auto-encoders. Neighbours' logits are summed with
        their weights; by a slip of the pen (`nsemble_prediction`) theirs stay those of one alone.
        Their memory holds one entry more. Features are the normalisation layer's output with the
        fewest values, the authors' those of the bottleneck. The batch is the case's windows, each
        an entry, the authors' one image; statistics are per window, and the case is predicted after
        its step. With sigmoid, divergences and entropies of the independent channels are summed.
    """

    rate: float = 1e-3
    capacity: int = 20
    neighbours: int = 8
    temperature: float = 4.0
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
        activation = state.episode.activation
        for _ in range(self.steps):
            with torch.enable_grad():
                logits, features = _run(patches.images, state.network)
                entries = list(map(Entry, features, logits.detach()))
                rate = self.rate * self._factor(entries, state.memory, activation)
                state.optimizer.param_groups[0]["lr"] = rate
                step = state.descend(entropy(logits, activation))
            yield step if rate else replace(step, update_norm=0.0)
        logits, features = _run(patches.images, state.network)
        state.memory.extend(map(Entry, features, logits))

    def _factor(self, entries: Sequence[Entry], memory: Sequence[Entry], activation: str) -> float:
        """What multiplies the rate: exp(D), or the size of a memory without enough neighbours."""
        found = []
        for entry in entries:
            past = [each for each in memory if each.logits.shape == entry.logits.shape]
            if len(past) <= self.neighbours:
                return float(len(past))
            similarity = torch.cosine_similarity(
                torch.stack([each.feature for each in past]), entry.feature[None]
            )
            cosines, nearest = similarity.topk(self.neighbours)
            weights = (_SHARPNESS * cosines).softmax(0).tolist()
            pairs = zip(weights, nearest.tolist(), strict=True)
            mean = torch.stack([weight * past[i].logits for weight, i in pairs]).sum(0)[None]
            own = entry.logits[None] / self.temperature
            there, back = divergence(own, mean, activation), divergence(mean, own, activation)
            found.append(float(there + back))
        return math.exp(fmean(found))


def _run(windows: Images, network: nn.Module) -> tuple[Logits, Tensor]:
    """Predict windows, and read their features (n, f): the smallest output of a normalisation."""
    seen: list[Tensor] = []

    def keep(layer: nn.Module, args: Any, output: Tensor) -> None:
        if not seen or output[0].numel() <= seen[0].shape[1]:
            seen[:] = [output.detach().flatten(1)]

    layers = normalisation_layers(network).values()
    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        logits = first_tensor(network(windows))
    finally:
        for handle in handles:
            handle.remove()
    return logits, seen[0]
