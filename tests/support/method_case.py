"""A case for tests of single methods, with patches chosen by the test, and how to run one on it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from grata_monai.adapt.method import Episode, Method
from grata_monai.adapt.patches import Patches
from grata_monai.adapt.recipe import Recipe

__all__ = ["Case", "begin", "segment"]


@dataclass(frozen=True)
class Case:
    """Images (1, c, *s), patches (n, c, *w) and their extents, the source's logits, and so on."""

    images: Tensor
    windows: Tensor
    extents: Tensor
    source: Tensor
    predict: Callable[[Tensor, nn.Module], Tensor]
    activation: str
    inferer: Inferer = field(default_factory=SimpleInferer)
    spacing: tuple[float, ...] | None = None
    seed: int = 0

    def episode(self, method: Method) -> Episode:
        """The episode that a method sees."""
        return Episode(
            images=_own(self.images),
            source=_own(self.source),
            predict=self.predict,
            method=method,
            recipe=Recipe("bare", seed=self.seed, on_failure="raise"),
            inferer=self.inferer,
            activation=self.activation,
            spacing=self.spacing,
            is_guarded=False,
        )


def _own(tensor: Tensor) -> Tensor:
    return tensor.detach().clone() if tensor.is_inference() else tensor.detach()


def begin(method: Method, network: nn.Module, activation: str) -> Any:
    """Start a method from a network."""
    nothing = torch.zeros(1, 1, 1)
    case = Case(nothing, nothing, nothing, nothing, lambda x, net: net(x), activation)
    with torch.inference_mode(False), torch.no_grad():
        return method.start(network, case.episode(method))


def segment(method: Method, case: Case, state: Any) -> Tensor:
    """Adapt to a case's patches, then predict the case, as an episode does."""
    with torch.inference_mode(False), torch.no_grad():
        state.episode = case.episode(method)
        for _ in method.adapt(state, Patches(_own(case.windows), _own(case.extents))):
            pass
        return method.predict(state, state.episode.images)
