"""What an episode made: the source network's prediction, and everything that followed from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from grata_monai.adapt.footprint import Footprint
from grata_monai.adapt.guard import UNGUARDED, Decision
from grata_monai.adapt.localise import LocalisedOrgan
from grata_monai.adapt.losses import probabilities
from grata_monai.adapt.method import Step
from grata_monai.adapt.patches import Patches
from grata_monai.adapt.profile import Shift
from grata_monai.adapt.quality import QualityPrediction
from grata_monai.adapt.recipe import Recipe
from grata_monai.adapt.scores import Evidence, Selected
from grata_monai.core.types import Logits, Probabilities

__all__ = [
    "EpisodeResult",
    "OrganResult",
    "SourcePrediction",
    "dice_of_marks",
    "foreground_size",
    "mark",
    "mean_dice",
]


@dataclass(frozen=True)
class SourcePrediction:
    """The source network's single pass.

    Attributes:
        logits: (1, k, *s).
        activation: ``sigmoid`` or ``softmax``.
        weights: SHA-256 of the network's weights.
        network: The network in evaluation mode, not to be changed.
        seconds: Wall time.
        shift: How foreign the case is; None without a profile of this network.
        masks: What the logits mark, as of `mark`, where they were written over; else None.
    """

    logits: Logits
    activation: str
    weights: str
    network: nn.Module
    seconds: float
    shift: Shift | None = None
    masks: Tensor | None = None

    @property
    def maps(self) -> Probabilities:
        """Probabilities (1, k, *s)."""
        return probabilities(self.logits, self.activation)

    @property
    def marks(self) -> Tensor:
        """What it marks, as of `mark`."""
        return mark(self.logits, self.activation) if self.masks is None else self.masks


@dataclass(frozen=True)
class OrganResult:
    """What became of one organ of several.

    Attributes:
        channel: Output channel; None for a piece of all foreground together.
        centre: In voxels of the network's grid.
        voxels: In the source's prediction.
        decision: Of the guard.
    """

    channel: int | None
    centre: tuple[float, ...]
    voxels: int
    decision: Decision


@dataclass(frozen=True)
class EpisodeResult:
    """What an episode did, as far as it came; the record is made from it.

    Attributes:
        source: The source network's prediction.
        logits: To hand on, (1, k, *s): the source's if `reason` is set.
        recipe: What ran: with the safety margin, where the guard's limits are not for this network.
        method: Name of the method.
        reason: Empty, or why the source prediction was kept.
        groups: Groups that the moving parameters came from.
        parameters: Names of the moving parameters.
        parameter_count: Number of scalars that could move.
        image_statistics: Layers whose statistics depend on the image.
        organ: With its prediction before adaptation; None without multi-scale prediction.
        mirrored: Probabilities (1, k, *s) of the source network's mirrored predictions of the whole
            image; empty if nobody asked yet.
        mirrored_whole: Consistency of the first of them with the others; None if the recipe does
            not ask.
        own_statistics: Layers that normalise with the image's statistics in them.
        patches: What the method adapted to.
        steps: What each step did.
        after: The organ with its prediction after adaptation.
        decision: Of the guard.
        signs: Prediction (``source``, ``kept``, ``mirrored``) to its signs, see
            `grata_monai.adapt.quality`; empty without a profile.
        predicted: Quality of the prediction to hand on; None without a fitted profile.
        is_adapted: Whether the prediction comes from weights or statistics other than the source's.
        is_foreign: Whether that was so before the first step.
        dropped_views: View to reason.
        weights_after: Hash of the private copy's weights that predicted.
        weights_restored: Hash of the caller's network at the end.
        seconds: Wall time of ``adaptation`` and ``prediction``.
        organs: Each by itself, where the case was taken apart; what stands above is of the largest.
        organs_left_out: Number of organs that were not looked at.
        footprint: What memory was estimated, where the case was taken apart.
        marked: In place of the organ's, for all of them.
    """

    source: SourcePrediction
    logits: Logits
    recipe: Recipe
    method: str
    reason: str = ""
    groups: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    parameter_count: int = 0
    image_statistics: tuple[str, ...] = ()
    organ: LocalisedOrgan | None = None
    mirrored: tuple[Probabilities, ...] = ()
    mirrored_whole: float | None = None
    own_statistics: tuple[str, ...] = ()
    patches: Patches | None = None
    steps: tuple[Step, ...] = ()
    after: LocalisedOrgan | None = None
    decision: Decision = UNGUARDED
    signs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    predicted: QualityPrediction | None = None
    is_adapted: bool = False
    is_foreign: bool = False
    dropped_views: Mapping[str, str] = field(default_factory=dict)
    weights_after: str = ""
    weights_restored: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    organs: tuple[OrganResult, ...] = ()
    organs_left_out: int = 0
    footprint: Footprint | None = None
    marked: Tensor | None = None

    @property
    def has_moved(self) -> bool:
        """Whether a step changed anything that predicts."""
        return any(step.update_norm != 0 for step in self.steps)

    @property
    def is_settled(self) -> bool:
        """Whether the guard has decided for a prediction that no step can change any more."""
        return self.decision.selected in (Selected.SOURCE, Selected.MIRRORED)

    @property
    def image_share(self) -> float:
        """Share of the image in the statistics that predicted; see `Steps`."""
        is_own = bool(self.own_statistics) and self.decision.selected is Selected.MIRRORED
        return 1.0 if is_own else float(self.recipe.steps.image_share)

    @property
    def has_organ(self) -> bool:
        """Whether there is a multi-scale prediction."""
        return self.organ is not None and self.organ.prediction is not None

    @property
    def evidence(self) -> Evidence:
        """What the guard decides by; only of an organ with a prediction."""
        assert self.organ is not None
        assert self.organ.prediction is not None
        after = None if self.after is None else self.after.prediction
        return Evidence(self.organ.prediction, after, self.mirrored_whole)


def foreground_size(logits: Logits, activation: str) -> int:
    """Count the voxels that are not background."""
    if activation == "sigmoid":
        return int((logits > 0).any(1).sum())
    return int((logits.max(1).indices > 0).sum())  # many times as fast as argmax on a CPU


def mark(logits: Logits, activation: str) -> Tensor:
    """Say which classes a prediction marks, in a byte or two a voxel, or a bit a region.

    Args:
        logits: (1, k, *s).
        activation: ``sigmoid``: the answer is bool (1, k, *s); ``softmax``: a label map (1, 1, *s).
    """
    if activation == "sigmoid":
        return logits > 0
    labels = logits.max(1, keepdim=True).indices
    return labels.to(torch.uint8 if logits.shape[1] <= 256 else torch.int16)


def mean_dice(source: Tensor, final: Tensor, activation: str) -> float:
    """Mean foreground Dice between two predictions; classes absent from both do not count."""
    return dice_of_marks(mark(source, activation), mark(final, activation), activation)


def dice_of_marks(source: Tensor, final: Tensor, activation: str) -> float:
    """Mean foreground Dice of what two predictions mark, as of `mark`."""
    if activation == "sigmoid":
        pairs = [(source[:, k], final[:, k]) for k in range(source.shape[1])]
    else:
        present = torch.cat([source.unique(), final.unique()]).unique().tolist()
        pairs = [(source == k, final == k) for k in present if k > 0]
    sizes = [(int((a & b).sum()), int(a.sum()) + int(b.sum())) for a, b in pairs]
    scores = [2 * both / total for both, total in sizes if total]
    return float(np.mean(scores)) if scores else 1.0
