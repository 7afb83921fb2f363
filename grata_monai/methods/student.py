"""TeST: a teacher learns to be consistent, then a student learns from the teacher."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from grata_monai.adapt.losses import consistency, entropy, probabilities
from grata_monai.adapt.method import Episode, Method, Step
from grata_monai.adapt.network import first_tensor
from grata_monai.adapt.patches import Patches
from grata_monai.adapt.strong import STRONG_VIEWS
from grata_monai.adapt.views import WeakView, admissible_views, average_views
from grata_monai.core.types import Images, Probabilities, Scalar
from grata_monai.methods.state import SteppingState, start_stepping

__all__ = ["TeST", "TeSTState"]


@dataclass(kw_only=True)
class TeSTState(SteppingState):
    """The student, a private copy that predicts, and its teacher, another one.

    Attributes:
        teacher: Adapted first.
    """

    teacher: SteppingState


@dataclass(frozen=True)
class TeST(Method):
    """Adapt a teacher by consistency under augmentation, then distil it into a fresh student.

    Stage 1: the teacher's prediction on a strong view follows its own on weak views. Stage 2: the
    student, which starts at the source, follows the teacher on strong views and lowers the entropy
    of its prediction.

    Attributes:
        rate: Of Adam, in both stages.
        teacher_steps: Of stage 1, per case; every case starts at the source.
        student_steps: Of stage 2, per case.
        entropy_weight: Of the student's entropy.
        weak_views: Whose predictions the teacher averages; those that do not fit are left out.
        strong_view: What draws intensities.

    Source:
        Sinha et al., TeST: Test-Time Self-Training under Distribution Shift, WACV 2023
        (arXiv 2209.11459): teacher and student start at the source; consistency regularisation,
        self-distillation, entropy minimisation. No code of the authors is known.

    Deviations:
        The paper adapts detectors and street-scene networks to hundreds of images, and its rates
        and numbers of steps do not carry over to one case: ours are chosen, not published.
        Consistency is a cross entropy against soft predictions, without a threshold of confidence.
    """

    rate: float = 1e-4
    teacher_steps: int = 5
    student_steps: int = 5
    entropy_weight: float = 0.1
    weak_views: tuple[str, ...] = ("identity", "flip:0")
    strong_view: str = "mild"
    name: ClassVar[str] = "test"

    def start(self, network: nn.Module, episode: Episode) -> TeSTState:
        """Copy the network twice and let all weights of both copies move."""
        adam = partial(torch.optim.Adam, lr=self.rate)
        teacher, student = (start_stepping(network, episode, ("all",), adam) for _ in range(2))
        return TeSTState(**vars(student), teacher=teacher)

    def adapt(self, state: TeSTState, patches: Patches) -> Iterator[Step]:
        """Adapt the teacher, then distil it into the student.

        Raises:
            AdaptationError: If a loss or its gradient is not finite.
        """
        generator = torch.Generator().manual_seed(state.episode.recipe.seed)
        strengthen = partial(STRONG_VIEWS[self.strong_view], generator=generator)
        images, activation, teacher = patches.images, state.episode.activation, state.teacher
        for _ in range(self.teacher_steps):
            with torch.enable_grad():
                label = self._label(images, teacher.network, state.episode)
                step = teacher.descend(_follow(strengthen(images), label, teacher, activation))
            yield step
        label = self._label(images, teacher.network, state.episode)
        for _ in range(self.student_steps):
            with torch.enable_grad():
                loss = _follow(strengthen(images), label, state, activation)
                certainty = entropy(first_tensor(state.network(images)), activation)
                step = state.descend(loss + self.entropy_weight * certainty)
            yield step

    @torch.no_grad()
    def _label(self, windows: Images, network: nn.Module, episode: Episode) -> Probabilities:
        """Average the predictions on the weak views, mapped back."""

        def predict_view(view: WeakView) -> Tensor:
            return probabilities(first_tensor(network(view.apply(windows))), episode.activation)

        views, _ = admissible_views(
            self.weak_views,
            spatial_shape=tuple(windows.shape[2:]),
            mirroring=episode.mirroring,
        )
        mean, _ = average_views(windows, views, predict_view)
        return mean


def _follow(images: Images, label: Probabilities, state: SteppingState, activation: str) -> Scalar:
    return consistency(first_tensor(state.network(images)), label, activation)
