"""The bar under every other: the source network's single pass."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from grata_monai.adapt.method import Episode, Method, State
from grata_monai.adapt.network import copy_network
from grata_monai.core.types import Images, Logits

__all__ = ["Source"]


@dataclass(frozen=True)
class Source(Method):
    """Do nothing: the prediction of the network as it was trained.

    Source:
        None; the reference of every table.
    """

    name: ClassVar[str] = "source"

    @property
    def is_source(self) -> bool:
        """Yes."""
        return True

    def start(self, network: nn.Module, episode: Episode) -> State:
        """Copy the network, which stays as it is."""
        return State(episode=episode, network=copy_network(network))

    def predict(self, state: State, images: Images) -> Logits:
        """Predict logits (1, k, *s); the whole case is not predicted again."""
        return state.episode.predict_unmoved(images, state.network)
