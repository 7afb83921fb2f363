"""The bar under every other: the source network's single pass."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from grata_monai.core.types import Logits
from grata_monai.methods.method import Case, Method

__all__ = ["Source"]


@dataclass(frozen=True)
class Source(Method):
    """Do nothing: the prediction of the network as it was trained.

    Source:
        None; the reference of every table.
    """

    name: ClassVar[str] = "source"

    def start(self, network: nn.Module, activation: str) -> None:
        """Keep nothing."""

    def segment(self, case: Case, state: None) -> Logits:
        """Return the logits (1, k, *s) that the case brings along."""
        return case.source
