"""TTT: keep training the shared encoder on telling how the image was turned."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from grata_monai.adapt.heads import rotation
from grata_monai.adapt.method import Episode, Method, Step
from grata_monai.adapt.patches import Patches
from grata_monai.methods.head import refuse_without_head
from grata_monai.methods.state import SteppingState, start_stepping

__all__ = ["TTT", "square"]


@dataclass(frozen=True)
class TTT(Method):
    """Descend the cross entropy of a rotation head that was trained together with the network.

    Attributes:
        rate: Of gradient descent without momentum.
        steps: Per case.
        copies: Of each window in a step, each turned at random by 0 to 3 quarter turns.
        is_online: Whether weights go on from case to case; the authors do that with one step.

    Source:
        Sun et al., Test-Time Training with Self-Supervision for Generalization under Distribution
        Shifts, ICML 2020; authors' code github.com/yueatsprograms/ttt_cifar_release,
        `script_test_c10.py`, setting ``slow``, with `--fix_bn`.

    Deviations:
        4 copies of each window, the authors' 32 of an image, and neither cropped nor mirrored.
        Windows are turned in the plane of axes 0 and 1, about the largest square in their middle.
        All weights on which the head's answer depends move: the encoder and, as in the authors'
        code, the head. Without the authors' threshold: every case is adapted to.
    """

    rate: float = 1e-3
    steps: int = 10
    copies: int = 4
    is_online: bool = False
    name: ClassVar[str] = "ttt"

    def unsupported(self, network: nn.Module) -> str:
        """Refuse networks without a rotation head."""
        return refuse_without_head(network, "rotation")

    def start(self, network: nn.Module, episode: Episode) -> SteppingState:
        """Copy the network and let its weights move; those without a gradient stay.

        Raises:
            NetworkError: In `adapt`, if the network has no rotation head.
        """
        return start_stepping(network, episode, ("all",), partial(torch.optim.SGD, lr=self.rate))

    def adapt(self, state: SteppingState, patches: Patches) -> Iterator[Step]:
        """Step on turned patches.

        Raises:
            AdaptationError: If the loss or its gradient is not finite.
            NetworkError: If the network has no rotation head.
        """
        generator = torch.Generator().manual_seed(state.episode.recipe.seed)
        images = square(patches.images).repeat_interleave(self.copies, 0)
        for _ in range(self.steps):
            with torch.enable_grad():
                step = state.descend(rotation(state.network, images, generator=generator))
            yield step


def square(windows: Tensor) -> Tensor:
    """Cut the middle out of (n, c, *s), so that axes 0 and 1 have equal extents."""
    side = min(windows.shape[2:4])
    for axis in (2, 3):
        windows = windows.narrow(axis, (windows.shape[axis] - side) // 2, side)
    return windows
