"""The interface of every system: refuse a network, start from it, segment case after case."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from grata_monai.core.types import Images, Logits, Windows

__all__ = ["Case", "Method", "Notes", "Predict"]

Predict = Callable[[Tensor, nn.Module], Tensor]
"""Images (1, c, *s) of a whole case and a network, to logits (1, k, *s): the wrapped inferer."""


@dataclass(frozen=True)
class Case:
    """What a method gets to see of one case; never its label.

    Attributes:
        images: (1, c, *s), the whole case.
        windows: (n, c, *roi_size), where the source network saw most foreground: what methods
            that take gradients work on. Time and memory do not grow with the volume.
        extents: (n, d, 2), where each window lies in the image, from -1 to 1.
        source: Logits (1, k, *s) of the source network's single pass.
        predict: The wrapped inferer at its precision, without gradients.
        inferer: The wrapped inferer itself, for what asks it for its window.
        activation: ``sigmoid`` or ``softmax``.
        spacing: In mm per axis, or None.
        single_piece: Whether the target is one connected piece.
        seed: Of whatever the method draws; equal for equal cases.
    """

    images: Images
    windows: Windows
    extents: Tensor
    source: Logits
    predict: Predict
    activation: str
    inferer: Inferer = field(default_factory=SimpleInferer)
    spacing: tuple[float, ...] | None = None
    single_piece: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Notes:
    """What a method itself knows of a case, without a label; most know nothing.

    Attributes:
        cosine: Mean over the steps, of the two gradients, in [-1, 1]; NaN without steps.
        agreement: What the guard read, in [0, 1]; NaN without a guard.
        mirror_gain: How much better mirrored predictions agree in the magnified views than in the
            whole image; NaN where the guard did not compare them.
        kept: What the guard handed on: ``source``, ``views`` or ``adapted``; empty without.
        light: The guard's; empty without.
    """

    cosine: float = float("nan")
    agreement: float = float("nan")
    mirror_gain: float = float("nan")
    kept: str = ""
    light: str = ""


class Method(ABC):
    """One system with its hyper-parameters; subclasses are frozen dataclasses of settings.

    `start` makes all that the method may change, from a private copy of the network; `segment`
    changes nothing else. Online methods keep one state over all cases; for the others the caller
    starts anew with every case, so that the same case gives the same logits whatever came before.

    Attributes:
        name: As tables and ``--methods`` write it.
        is_online: Whether one state serves all cases of a run, in their order.
    """

    name: ClassVar[str]
    is_online: bool = False

    def refusal(self, network: nn.Module, activation: str) -> str:
        """Say why the method is undefined for this network; empty if it is defined."""
        return ""

    @abstractmethod
    def start(self, network: nn.Module, activation: str) -> Any:
        """Make the state from a network, which stays as it is: copies, optimisers, memories."""

    @abstractmethod
    def segment(self, case: Case, state: Any) -> Logits:
        """Predict one case, logits (1, k, *s), and change the state if the method does."""

    def notes(self, state: Any) -> Notes:
        """Say what the state knows of the case that was segmented last."""
        return Notes()
