"""The interface of every method: refuse a network, start from it, adapt, predict.

Every method runs in the same episode (`grata_monai.adapt.episode`): under the same guard,
fall-back, time limit and record, in the product and in experiments.
"""

import copy
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from grata_monai.adapt.deadline import Clock, Deadline
from grata_monai.adapt.mirroring import ANY_MIRRORING, Mirroring
from grata_monai.adapt.multiscale import OrganLocation
from grata_monai.adapt.network import hash_weights
from grata_monai.adapt.parameters import MovingParameters
from grata_monai.adapt.patches import Patches
from grata_monai.adapt.profile import LayerStatistics, SourceProfile
from grata_monai.adapt.recipe import Recipe
from grata_monai.core.errors import NetworkError, RecipeError
from grata_monai.core.types import Images, Logits

__all__ = ["Episode", "Method", "OnlineMemory", "Predict", "State", "Step"]

Predict = Callable[[Tensor, nn.Module], Tensor]
"""Images (1, c, *s) and a network, to logits (1, k, *s): the wrapped inferer."""


@dataclass(frozen=True)
class Step:
    """What one step did; a value that a method does not have is None.

    Attributes:
        auxiliary_loss: GraTa's, at θ.
        pseudo_loss: GraTa's, at θ', or at θ if nothing was perturbed.
        cosine: Of GraTa's two gradients, in [-1, 1].
        rate: Learning rate that the optimiser got.
        update_norm: Euclidean length of the change of all moving parameters.
        is_taken: False if the cosine fell below the recipe's `min_cosine`.
        loss: Of methods that have one alone.
    """

    auxiliary_loss: float | None = None
    pseudo_loss: float | None = None
    cosine: float | None = None
    rate: float | None = None
    update_norm: float | None = None
    is_taken: bool = True
    loss: float | None = None


@dataclass(frozen=True)
class Episode:
    """One case and how it is run: all that a method gets to see, never the label.

    Attributes:
        images: (1, c, *s), the whole case.
        predict: The wrapped inferer at its precision.
        method: What adapts.
        recipe: Multi-scale prediction, guard and limits; for GraTa also its steps.
        inferer: The wrapped inferer itself, asked for its patch size.
        activation: ``sigmoid``, ``softmax`` or ``auto``; resolved before a method sees it.
        spacing: Of the images in mm per axis, or None.
        single_piece: Whether the target is one connected piece: then nothing is marked where no
            magnified region sees the image.
        location: Of the organ to look at, where it is known; found in the source's prediction if
            None.
        mirroring: Which mirrored views the network takes, and which labels have sides.
        memory: Where ``online`` keeps what it learnt, else None.
        keeps_source: Whether the caller wants the source's logits too, whatever memory they take.
        is_guarded: If not, the method's prediction is handed on whatever it is: for measuring.
        source: Logits (1, k, *s) of the network's single pass; made if None.
        statistics: What `probe` read during that pass; needed if `source` stands beside `profile`.
        profile: Of the source cases; another network's counts as none.
        clock: What counts the seconds of the recipe's time limit.
        case_deadline: When the case must end, if ever; the source's pass is made all the same.
    """

    images: Images
    predict: Predict
    method: "Method"
    recipe: Recipe
    inferer: Inferer = field(default_factory=SimpleInferer)
    activation: str = "auto"
    spacing: tuple[float, ...] | None = None
    single_piece: bool = False
    location: OrganLocation | None = None
    mirroring: Mirroring = ANY_MIRRORING
    memory: "OnlineMemory | None" = None
    keeps_source: bool = False
    is_guarded: bool = True
    source: Logits | None = None
    statistics: LayerStatistics | None = None
    profile: SourceProfile | None = None
    clock: Clock = time.monotonic
    case_deadline: Deadline | None = None

    def __post_init__(self) -> None:
        """Refuse a memory without the protocol, and the protocol without a memory."""
        if (self.recipe.memory == "online") != (self.memory is not None):
            raise RecipeError(
                "memory must be an OnlineMemory if and only if the recipe says memory='online', "
                f"got {self.recipe.memory!r} with {type(self.memory).__name__}. "
                "Change one of the two."
            )

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "Episode":
        """Frozen: copies of a state share it."""
        return self

    def predict_unmoved(self, images: Images, network: nn.Module) -> Logits:
        """Predict with a network that has the source's weights, the whole case only once."""
        if images is self.images and self.source is not None:
            return self.source
        return self.predict(images, network).float()

    def spacing_of(self, images: Tensor) -> tuple[float, ...] | None:
        """Spacing of these images' axes, if known: patches of a 2D network lack one axis."""
        is_whole = self.spacing is not None and len(self.spacing) == images.ndim - 2
        return self.spacing if is_whole else None


@dataclass(kw_only=True)
class State:
    """All that a method may change, private to one case, or to one online run.

    Attributes:
        episode: The case at hand.
        network: A private copy, which predicts.
        moving: The parameters that may move; None if the method moves none.
        image_statistics: Names of layers whose statistics depend on the image.
        is_foreign: Whether it may predict otherwise than the source network before it adapts.
    """

    episode: Episode
    network: nn.Module
    moving: MovingParameters | None = None
    image_statistics: tuple[str, ...] = ()
    is_foreign: bool = False

    def snapshot(self) -> Mapping[str, Any]:
        """Copy everything that adaptation may change."""
        return copy.deepcopy(vars(self))

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Put back what `snapshot` returned, which must not be used again."""
        vars(self).update(snapshot)

    def fingerprint(self, *, with_adapters: bool = False) -> str:
        """SHA-256 of the private copy's weights, and of adapters that are not among them."""
        adapters = self.moving.adapters if with_adapters and self.moving else {}
        return hash_weights(self.network, adapters)


class Method(ABC):
    """One system with its hyper-parameters; subclasses are frozen dataclasses of settings.

    `start` makes all that the method may change, from a private copy of the network; `adapt` and
    `predict` change nothing else. Case by case, every case starts anew, so that the same case gives
    the same logits whatever came before; online, one state serves all cases.

    Attributes:
        name: As tables, ``--methods`` and ``--method`` write it.
        is_online: Whether the method was published with one state for all cases.
        form: Counts up when the method does otherwise under the same settings; rows of an earlier
            form are computed anew.
        keeps_network: Whether weights and statistics stay the source network's, and the image alone
            is looked at otherwise: then nothing is called adapted.
    """

    name: ClassVar[str]
    form: ClassVar[int] = 1
    keeps_network: ClassVar[bool] = False
    is_online: bool = False

    @property
    def is_source(self) -> bool:
        """Whether the method changes nothing, neither weights nor statistics nor predictions."""
        return False

    @property
    def settings(self) -> Mapping[str, Any]:
        """Hyper-parameters that do not stand in a recipe."""
        return dict(vars(self))

    def effective_recipe(self, recipe: Recipe) -> Recipe:
        """Say under which recipe the method runs, if it is given this one."""
        return recipe

    def unsupported(self, network: nn.Module) -> str:
        """Say why the method is undefined for this network; empty if it is defined."""
        return ""

    @abstractmethod
    def start(self, network: nn.Module, episode: Episode) -> State:
        """Make the state from a network, which stays as it is: copies, optimisers, memories."""

    def adapt(self, state: Any, patches: Patches) -> Iterator[Step]:
        """Adapt to the patches of a case, and say what each step did; here nothing is done."""
        yield from ()

    def predict(self, state: Any, images: Images) -> Logits:
        """Predict images (1, c, *s): the whole case, a view of it, or a region; (1, k, *s)."""
        logits: Tensor = state.episode.predict(images, state.network).float()
        return logits

    def dropped_views(self, state: Any, patches: Patches) -> Mapping[str, str]:
        """Say which of its views the method leaves out for these patches, and why."""
        return {}

    def prepare(self, state: Any, images: Images) -> Images:
        """Change the whole case before views of it are predicted; most methods leave it."""
        return images


class OnlineMemory:
    """What `memory="online"` carries from case to case: the method's state.

    One object serves one network; cases that share it run one after the other, in the order in
    which they arrive. The network itself stays as it is; `reset` forgets everything.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.state: State | None = None
        self.origin: tuple[str, ...] = ()

    def reset(self) -> None:
        """Forget every case: the next one starts at the source network."""
        with self.lock:
            self.state, self.origin = None, ()

    def claim(self, network: nn.Module, episode: Episode, weights: str) -> State:
        """Return the state that earlier cases left, or start one for this and later cases.

        Args:
            network: The source network.
            episode: The case at hand.
            weights: Hash of the source network's weights.

        Raises:
            NetworkError: If the memory belongs to another network, method or recipe.
        """
        recipe = episode.recipe.changed(seed=0).digest
        origin = (weights, repr(episode.method), recipe)
        if self.state is None:
            self.state, self.origin = episode.method.start(network, episode), origin
        if self.origin != origin:
            raise NetworkError(
                "memory must belong to this network and recipe, got one that others filled. "
                "Use a new OnlineMemory, or call reset() first."
            )
        self.state.episode = episode
        return self.state
