"""CoTTA: a slow teacher labels, the student follows, and some weights return to the source.

As the authors' code for segmentation does it, where the paper's code for classification differs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from grata_monai.adapt.losses import consistency, probabilities
from grata_monai.adapt.method import Episode, Method, State, Step
from grata_monai.adapt.network import copy_network, first_tensor
from grata_monai.adapt.patches import Patches
from grata_monai.adapt.views import Identity, WeakView, admissible_views, average_views
from grata_monai.core.types import Images, Probabilities
from grata_monai.methods.state import SteppingState, start_stepping

__all__ = ["CoTTA", "CoTTAState"]


@dataclass(kw_only=True)
class CoTTAState(State):
    """Three private copies of the source network; `network` is the teacher, which predicts.

    Attributes:
        student: Moved by its optimiser; the teacher follows it slowly.
        source: Stays; judges confidence, and is what weights return to.
    """

    student: SteppingState
    source: nn.Module


@dataclass(frozen=True)
class CoTTA(Method):
    """Follow a teacher's hard labels: of several views in those voxels where the source is unsure.

    Attributes:
        rate: Of Adam, with β = (.9, .999).
        teacher_decay: Share of itself that the teacher keeps at each step.
        restore: Probability that a weight returns to the source after a step.
        confidence: Of the source in a voxel; where it is not above this, the label comes from the
            average over `views`, elsewhere from the image as it is.
        views: Whose predictions the teacher averages; those that do not fit are left out.
        steps: Per case.
        is_online: Whether student, teacher and moments go on from case to case, as published.

    Source:
        Wang et al., Continual Test-Time Domain Adaptation, CVPR 2022; authors' code for Cityscapes
        to ACDC, `single_gpu_cotta`: Adam 6e-5/8, teacher .999, restore .01, confidence .69 per
        pixel, hard labels over scales and flips, cross-entropy.

    Deviations:
        Six views, the authors' 14 (seven scales .5 to 2, each flipped or not). Statistics of
        BatchNorm stay those of the source; the authors' segmentation network has none. The case is
        predicted by the teacher after the step; the authors return the label that the step was
        taken on. All moments of Adam go on; the authors' start anew with every weather. With
        sigmoid every channel has a confidence, max(p, 1 − p), and a label of its own.
    """

    rate: float = 6e-5 / 8
    teacher_decay: float = 0.999
    restore: float = 0.01
    confidence: float = 0.69
    views: tuple[str, ...] = (
        "identity", "flip:0", "scale:0.75", "scale:1.25", "scale:1.5", "scale:1.75",
    )  # fmt: skip
    steps: int = 1
    is_online: bool = True
    name: ClassVar[str] = "cotta"

    def start(self, network: nn.Module, episode: Episode) -> CoTTAState:
        """Copy the network three times and let all weights of the student move."""
        adam = partial(torch.optim.Adam, lr=self.rate)
        student = start_stepping(network, episode, ("all",), adam)
        return CoTTAState(
            episode=episode,
            network=copy_network(network),
            moving=student.moving,
            student=student,
            source=copy_network(network),
        )

    def adapt(self, state: CoTTAState, patches: Patches) -> Iterator[Step]:
        """Step on the patches with the student, and let the teacher follow.

        Raises:
            AdaptationError: If the loss or its gradient is not finite; nothing has moved then.
        """
        generator = torch.Generator().manual_seed(state.episode.recipe.seed)
        images, activation = patches.images, state.episode.activation
        for _ in range(self.steps):
            with torch.enable_grad():
                label = self._label(images, state, activation)
                logits = first_tensor(state.student.network(images))
                step = state.student.descend(consistency(logits, label, activation))
            self._follow(state)
            self._restore(state, generator)
            yield step

    @torch.no_grad()
    def _label(self, windows: Images, state: CoTTAState, activation: str) -> Probabilities:
        def predict_view(view: WeakView) -> Tensor:
            return probabilities(first_tensor(state.network(view.apply(windows))), activation)

        anchor = probabilities(first_tensor(state.source(windows)), activation)
        shape, mirroring = tuple(windows.shape[2:]), state.episode.mirroring
        views, _ = admissible_views(self.views, spatial_shape=shape, mirroring=mirroring)
        averaged, _ = average_views(windows, views, predict_view)
        own = predict_view(Identity())
        if activation == "sigmoid":
            certain = torch.maximum(anchor, 1 - anchor)
            return (torch.where(certain > self.confidence, own, averaged) > 0.5).to(own)
        certain = anchor.amax(1, keepdim=True)
        label = torch.where(certain > self.confidence, own, averaged).argmax(1)
        return functional.one_hot(label, own.shape[1]).movedim(-1, 1).to(own)

    @torch.no_grad()
    def _follow(self, state: CoTTAState) -> None:
        followed = state.student.network.parameters()
        for slow, fast in zip(state.network.parameters(), followed, strict=True):
            slow.lerp_(fast, 1 - self.teacher_decay)

    @torch.no_grad()
    def _restore(self, state: CoTTAState, generator: torch.Generator) -> None:
        origin = state.source.parameters()
        for weight, value in zip(state.student.network.parameters(), origin, strict=True):
            is_restored = torch.rand(weight.shape, generator=generator) < self.restore
            weight.copy_(torch.where(is_restored.to(weight.device), value, weight))
