"""How a case is run, what outlives it, and what was done to it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from monai.inferers import Inferer
from torch import Tensor, nn

from grata_monai.adapt.deadline import Clock
from grata_monai.adapt.focus import Focus, Look
from grata_monai.adapt.grata import GraTa, Step
from grata_monai.adapt.guard import Verdict
from grata_monai.adapt.recipe import Recipe
from grata_monai.core.errors import NetworkError, RecipeError

__all__ = ["Episode", "OnlineMemory", "Outcome", "Predict"]

Predict = Callable[[Tensor, nn.Module], Tensor]
"""Images (1, c, *s) of a whole case and a network, to logits (1, k, *s)."""


class OnlineMemory:
    """What `memory="online"` carries from case to case: weights and the optimiser's moments.

    One object serves one network; cases that share it run one after the other, in the order in
    which they arrive. The network itself stays as it is; `reset` forgets everything.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.adapter: GraTa | None = None
        self.origin = ""
        self.recipe = ""

    def reset(self) -> None:
        """Forget every case: the next one starts at the source network."""
        with self.lock:
            self.adapter, self.origin, self.recipe = None, "", ""

    def claim(self, build: Callable[[], GraTa], origin: str, recipe: str) -> GraTa:
        """Return the adapter that earlier cases left, or build it for this and later cases.

        Args:
            build: Makes the adapter of a first case.
            origin: Hash of the source network's weights.
            recipe: Digest of the recipe.

        Raises:
            NetworkError: If the memory belongs to another network or recipe.
        """
        if self.adapter is None:
            self.adapter, self.origin, self.recipe = build(), origin, recipe
        if (self.origin, self.recipe) != (origin, recipe):
            raise NetworkError(
                "memory must belong to this network and recipe, got one that others filled. "
                "Use a new OnlineMemory, or call reset() first."
            )
        return self.adapter


@dataclass(frozen=True)
class Episode:
    """How a case is run.

    Attributes:
        recipe: What to do.
        predict: The wrapped inferer at its precision.
        inferer: The wrapped inferer itself, asked for its window size.
        activation: ``sigmoid``, ``softmax`` or ``auto``.
        spacing: Of the images in mm per axis, or None.
        single_piece: Whether the target is one connected piece: then nothing is marked where no
            magnified window sees the image.
        memory: Where ``online`` keeps what it learnt, else None.
        clock: What counts the seconds of the recipe's time limit.
    """

    recipe: Recipe
    predict: Predict
    inferer: Inferer
    activation: str = "auto"
    spacing: tuple[float, ...] | None = None
    single_piece: bool = False
    memory: OnlineMemory | None = None
    clock: Clock = time.monotonic

    def __post_init__(self) -> None:
        """Refuse a memory without the protocol, and the protocol without a memory."""
        if (self.recipe.memory == "online") != (self.memory is not None):
            raise RecipeError(
                f"memory must be an OnlineMemory if and only if the recipe says 'online', got "
                f"{self.recipe.memory!r} and {type(self.memory).__name__}. "
                "Set both, for example recipe={'base': 'paper', 'memory': 'online'}."
            )


@dataclass
class Outcome:
    """What an episode did, gathered while it runs; the record is made from it.

    Attributes:
        source: Logits of the source network's single pass, (1, k, *s).
        logits: Logits to use: adapted, or the source's if `reason` is set.
        reason: Empty, or why the source prediction was kept.
        weights: Hashes ``before`` and ``after`` adaptation.
        parameters: Names of the moving parameters.
        groups: Groups that they came from.
        parameter_count: Number of scalars that could move.
        image_statistics: Layers whose statistics depend on the image.
        dropped_views: View to reason.
        windows: First voxel of each window.
        roi_size: Window in voxels.
        steps: What each step did.
        seconds: Wall time of each part.
        activation: ``sigmoid`` or ``softmax``.
        is_adapted: Whether the prediction comes from weights or statistics other than the source's.
        verdict: What the guard decided.
        focus: The magnified windows about the organ, empty if the recipe asks for none.
        look: Predictions on these windows, before and after adaptation.
        whole: Probabilities (1, k, *s) of the pass that found the organ.
        found_by: The view of the whole image in that pass.
        mirrored: How well mirrored predictions agree in the whole image and in the magnified views,
            before adaptation; None if the recipe does not ask.
    """

    source: Tensor
    logits: Tensor
    reason: str = ""
    weights: dict[str, str] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    parameter_count: int = 0
    image_statistics: tuple[str, ...] = ()
    dropped_views: dict[str, str] = field(default_factory=dict)
    windows: tuple[tuple[int, ...], ...] = ()
    roi_size: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    activation: str = "softmax"
    is_adapted: bool = False
    verdict: Verdict = field(default_factory=Verdict)
    focus: tuple[Focus, ...] = ()
    look: tuple[Look, ...] = ()
    whole: Tensor | None = None
    found_by: str = "identity"
    mirrored: tuple[float, float] | None = None
